//! The values of a merged and normalised model in the types that the tables give their keys.
//!
//! What is behind this holds what is set and nothing else: a number is a number, a duration nanoseconds, a size bytes, an
//! environment a mapping. A key whose value is its kind's zero is not there.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::keys::{Extensions, Kind, Struct};
use crate::node::{Map, Node, Value};
use crate::scalar;
use crate::units;
use crate::words;

/// The value in its kind's type; `None` is the kind's zero.
pub(crate) fn decode(kind: Kind, node: &Node, path: &mut Vec<String>) -> Result<Option<Node>> {
    if node.is_null() {
        return Ok(None);
    }
    let value = match kind {
        Kind::One(keys) | Kind::Inline(keys) => Some(structure(keys, node, path)?),
        Kind::Many(keys) => {
            let list =
                node.as_list().ok_or_else(|| unfit(node)).map_err(|it| it.placed(node, path))?;
            let mut items = Vec::with_capacity(list.len());
            for (index, item) in list.iter().enumerate() {
                path.push(format!("[{index}]"));
                items.push(item.with(structure(keys, item, path)?));
                path.pop();
            }
            list_value(items)
        }
        Kind::Named(keys) | Kind::NamedOrNull(keys) => {
            let map =
                node.as_map().ok_or_else(|| unfit(node)).map_err(|it| it.placed(node, path))?;
            let mut members = Map::new();
            for (name, member) in map {
                path.push(name.clone());
                let value = match (kind, member.is_null()) {
                    (Kind::NamedOrNull(_), true) => Value::Null,
                    (_, true) => Value::Map(Map::new()),
                    _ => structure(keys, member, path)?,
                };
                members.insert(name.clone(), member.with(value));
                path.pop();
            }
            map_value(members)
        }
        _ => simple(kind, node).map_err(|it| it.placed(node, path))?,
    };
    Ok(value.map(|value| node.with(value)))
}

fn structure(keys: &Struct, node: &Node, path: &mut Vec<String>) -> Result<Value> {
    let map = node.as_map().ok_or_else(|| unfit(node).placed(node, path))?;
    let mut members = Map::new();
    for field in keys.fields {
        let Some(member) = map.get(field.name) else { continue };
        path.push(field.name.to_owned());
        if let Some(value) = decode(field.kind, member, path)? {
            members.insert(field.name.to_owned(), value);
        }
        path.pop();
    }
    if keys.extensions == Extensions::Kept {
        let extensions = map.iter().filter(|(key, _)| key.starts_with("x-"));
        members.extend(extensions.map(|(key, value)| (key.clone(), value.clone())));
    }
    Ok(Value::Map(members))
}

fn unfit(node: &Node) -> Error {
    Error::new(format!("unexpected: {}", node.kind()))
}

fn list_value(items: Vec<Node>) -> Option<Value> {
    (!items.is_empty()).then_some(Value::List(items))
}

fn map_value(members: Map) -> Option<Value> {
    (!members.is_empty()).then_some(Value::Map(members))
}

fn simple(kind: Kind, node: &Node) -> Result<Option<Value>> {
    let nonzero = |number: i64| (number != 0).then_some(Value::Int(number));
    Ok(match kind {
        Kind::Dropped => None,
        Kind::Text => {
            let text = text(node)?;
            (!text.is_empty()).then_some(Value::Text(text))
        }
        Kind::Integer => nonzero(integer(node)?),
        Kind::OptionalInteger => Some(Value::Int(integer(node)?)),
        Kind::Flag => flag(node)?.then_some(Value::Bool(true)),
        Kind::OptionalFlag => Some(Value::Bool(flag(node)?)),
        Kind::Number | Kind::Cpus => {
            let number = number(node)?;
            (number != 0.0).then_some(Value::Float(number))
        }
        Kind::Bytes => match &node.value {
            Value::Int(number) => nonzero(*number),
            Value::Text(text) => nonzero(units::bytes(text)?),
            _ => None,
        },
        Kind::Duration => nonzero(units::duration(&node.shown())?),
        Kind::OptionalDuration => Some(Value::Int(units::duration(&node.shown())?)),
        Kind::Texts => list_value(texts(node)?),
        Kind::Command => Some(Value::List(match node.as_text() {
            Some(line) => words::split(line)?.into_iter().map(Node::text).collect(),
            None => texts(node)?,
        })),
        Kind::HealthTest => list_value(match node.as_text() {
            Some(line) => vec![Node::text("CMD-SHELL"), Node::text(line)],
            None => texts(node)?,
        }),
        Kind::Mapping | Kind::Labels => map_value(pairs(node, &Value::Text(String::new()))?),
        Kind::Environment => map_value(environment(node)?),
        Kind::MultiOptions => map_value(options(node)?),
        Kind::Hosts => list_value(hosts(node)?),
        Kind::Ssh => list_value(ssh(node)?),
        Kind::EnvFiles => list_value(node.as_list().ok_or_else(|| unfit(node))?.to_vec()),
        Kind::Mode => Some(Value::Int(match &node.value {
            Value::Text(text) => i64::from_str_radix(text, 8)
                .map_err(|_| Error::new(format!("{text:?} is no octal number")))?,
            _ => integer(node)?,
        })),
        Kind::DeviceCount => match node.as_text() {
            Some(text) if text.eq_ignore_ascii_case("all") => Some(Value::Int(-1)),
            _ => nonzero(integer(node)?),
        },
        Kind::Ulimits => map_value(ulimits(node)?),
        // Their members have names of their own: `decode` has them.
        Kind::One(_) | Kind::Inline(_) | Kind::Many(_) | Kind::Named(_) | Kind::NamedOrNull(_) => {
            None
        }
    })
}

fn text(node: &Node) -> Result<String> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Int(number) => Ok(number.to_string()),
        _ => Err(unfit(node)),
    }
}

fn integer(node: &Node) -> Result<i64> {
    match &node.value {
        Value::Int(number) => Ok(*number),
        Value::Float(number) => Ok(units::whole(*number)),
        Value::Text(text) => scalar::decimal_integer(text),
        _ => Err(unfit(node)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of CPUs is small")]
fn number(node: &Node) -> Result<f64> {
    match &node.value {
        Value::Int(number) => Ok(*number as f64),
        Value::Float(number) => Ok(*number),
        Value::Text(text) => scalar::number(text),
        _ => Err(unfit(node)),
    }
}

fn flag(node: &Node) -> Result<bool> {
    match &node.value {
        Value::Bool(value) => Ok(*value),
        Value::Text(text) => scalar::flag(text),
        _ => Err(unfit(node)),
    }
}

fn texts(node: &Node) -> Result<Vec<Node>> {
    match &node.value {
        Value::Text(_) => Ok(vec![node.clone()]),
        Value::List(list) => list
            .iter()
            .map(|it| match &it.value {
                Value::Text(_) => Ok(it.clone()),
                Value::Int(_) | Value::Float(_) => Ok(it.with(Value::Text(it.shown()))),
                _ => Err(unfit(it)),
            })
            .collect(),
        _ => Err(unfit(node)),
    }
}

/// Keys and their values as texts; `absent` is the value of a key that has none.
fn pairs(node: &Node, absent: &Value) -> Result<Map> {
    let value = |it: &Node| match &it.value {
        Value::Null => it.with(absent.clone()),
        _ => it.with(Value::Text(it.shown())),
    };
    match &node.value {
        Value::Map(map) => Ok(map.iter().map(|(key, it)| (key.clone(), value(it))).collect()),
        Value::List(list) => Ok(list
            .iter()
            .map(|it| {
                let text = it.shown();
                match text.split_once('=') {
                    Some((key, value)) => (key.to_owned(), it.with(Value::Text(value.to_owned()))),
                    None => (text, it.with(absent.clone())),
                }
            })
            .collect()),
        _ => Err(unfit(node)),
    }
}

fn environment(node: &Node) -> Result<Map> {
    let map = pairs(node, &Value::Null)?;
    let spaced = |key: &&String| key.ends_with(char::is_whitespace);
    if node.as_list().is_some()
        && let Some(key) = map.keys().find(spaced)
    {
        let message = format!("environment variable {key} is declared with a trailing space");
        return Err(Error::new(message));
    }
    Ok(map)
}

fn options(node: &Node) -> Result<Map> {
    let map = node.as_map().ok_or_else(|| unfit(node))?;
    let value = |it: &Node| match it.as_list() {
        Some(list) => list.iter().map(|it| Node::text(it.shown())).collect(),
        None => vec![Node::text(it.shown())],
    };
    Ok(map.iter().map(|(key, it)| (key.clone(), it.with(Value::List(value(it))))).collect())
}

/// `NAME=ADDRESS`, one for each address, in the order of these texts.
fn hosts(node: &Node) -> Result<Vec<Node>> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    match &node.value {
        Value::Map(map) => {
            for (host, value) in map {
                let addresses = match &value.value {
                    Value::List(list) => list.iter().map(Node::shown).collect(),
                    Value::Null => vec![String::new()],
                    _ => vec![value.shown()],
                };
                hosts.insert(host.clone(), addresses);
            }
        }
        Value::List(list) => {
            for item in list {
                let text = item.shown();
                let Some((host, addresses)) = text.split_once('=').or_else(|| text.split_once(':'))
                else {
                    let message = format!("invalid additional host, missing IP: {text}");
                    return Err(Error::new(message));
                };
                let addresses = addresses.split(',').map(str::to_owned);
                hosts.entry(host.to_owned()).or_default().extend(addresses);
            }
        }
        _ => return Err(unfit(node)),
    }
    let mut list = Vec::new();
    for (host, addresses) in &hosts {
        if host.is_empty() || host.contains([':', '=']) {
            return Err(Error::new(format!("bad host name '{host}'")));
        }
        list.extend(addresses.iter().map(|address| {
            let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
            format!("{host}={}", bare.filter(|it| !it.is_empty()).unwrap_or(address))
        }));
    }
    list.sort();
    Ok(list.into_iter().map(Node::text).collect())
}

fn ssh(node: &Node) -> Result<Vec<Node>> {
    let map = node.as_map().ok_or_else(|| unfit(node))?;
    let key = |(id, path): (&String, &Node)| match &path.value {
        Value::Null => Node::text(id.clone()),
        _ if path.as_text() == Some("") => Node::text(id.clone()),
        _ => Node::text(format!("{id}: {}", path.shown())),
    };
    Ok(map.iter().map(key).collect())
}

fn ulimits(node: &Node) -> Result<Map> {
    let map = node.as_map().ok_or_else(|| unfit(node))?;
    let mut limits = Map::new();
    for (name, limit) in map {
        let value = match &limit.value {
            Value::Map(members) => {
                let mut both = Map::new();
                for key in ["soft", "hard"] {
                    if let Some(number) = members.get(key).map(integer).transpose()?
                        && number != 0
                    {
                        both.insert(key.to_owned(), Value::Int(number).into());
                    }
                }
                Value::Map(both)
            }
            _ => match integer(limit)? {
                0 => Value::Map(Map::new()),
                number => Value::Int(number),
            },
        };
        limits.insert(name.clone(), limit.with(value));
    }
    Ok(limits)
}
