//! How a later file's values join an earlier one's.
//!
//! Mappings are merged key by key and lists are appended to, but for the keys in a table: commands are replaced, lists of
//! `KEY=VALUE` and mappings become one list, and so on. What is then there twice is `unique`'s.

use crate::error::{Error, Result};
use crate::node::{self, Map, Node, Value};

#[derive(Debug, Clone, Copy)]
enum Rule {
    /// The later value is the value.
    Replace,
    /// Both as lists, a mapping as `KEY=VALUE` in the order of keys.
    Sequence,
    /// The same, without what is in the earlier list already.
    Hosts,
    /// Both as mappings; a string is the build's context.
    Build,
    /// Both as mappings; a list names keys with these defaults.
    Mapping(fn() -> Value),
    /// Merged when both name the same driver.
    Logging,
    /// Pools with the same subnet are merged.
    Pools,
}

const RULES: &[(&str, Rule)] = &[
    ("networks.*.ipam.config", Rule::Pools),
    ("networks.*.labels", Rule::Sequence),
    ("volumes.*.labels", Rule::Sequence),
    ("services.*.annotations", Rule::Sequence),
    ("services.*.build", Rule::Build),
    ("services.*.build.args", Rule::Sequence),
    ("services.*.build.additional_contexts", Rule::Sequence),
    ("services.*.build.extra_hosts", Rule::Hosts),
    ("services.*.build.labels", Rule::Sequence),
    ("services.*.command", Rule::Replace),
    ("services.*.depends_on", Rule::Mapping(started)),
    ("services.*.deploy.labels", Rule::Sequence),
    ("services.*.dns", Rule::Sequence),
    ("services.*.dns_opt", Rule::Sequence),
    ("services.*.dns_search", Rule::Sequence),
    ("services.*.entrypoint", Rule::Replace),
    ("services.*.env_file", Rule::Sequence),
    ("services.*.label_file", Rule::Sequence),
    ("services.*.environment", Rule::Sequence),
    ("services.*.extra_hosts", Rule::Hosts),
    ("services.*.healthcheck.test", Rule::Replace),
    ("services.*.labels", Rule::Sequence),
    ("services.*.logging", Rule::Logging),
    ("services.*.models", Rule::Mapping(null)),
    ("services.*.networks", Rule::Mapping(null)),
    ("services.*.sysctls", Rule::Sequence),
    ("services.*.tmpfs", Rule::Sequence),
    ("services.*.ulimits.*", Rule::Replace),
];

fn null() -> Value {
    Value::Null
}

/// What `depends_on: [db]` says of `db`.
pub(crate) fn started() -> Value {
    Value::Map(Map::from([
        ("condition".to_owned(), Node::text("service_started")),
        ("required".to_owned(), Value::Bool(true).into()),
    ]))
}

/// Merges `later` into `earlier`.
pub(crate) fn merge(earlier: Node, later: Node, path: &mut Vec<String>) -> Result<Node> {
    if let Some((_, rule)) = RULES.iter().find(|(pattern, _)| node::matches(path, pattern)) {
        return ruled(*rule, earlier, later, path);
    }
    if later.is_null() {
        return Ok(earlier);
    }
    let Node { value, at, tag } = earlier;
    let value = match value {
        Value::Map(own) => {
            let Value::Map(other) = later.value else { return Err(unlike(&later, path)) };
            Value::Map(mappings(own, other, path)?)
        }
        Value::List(mut own) => {
            let Value::List(other) = later.value else { return Err(unlike(&later, path)) };
            own.extend(other);
            Value::List(own)
        }
        _ => return Ok(later),
    };
    Ok(Node { value, at, tag })
}

fn unlike(later: &Node, path: &[String]) -> Error {
    Error::at(later, path, format!("{} cannot override what an earlier file has", later.kind()))
}

fn mappings(mut own: Map, other: Map, path: &mut Vec<String>) -> Result<Map> {
    for (key, value) in other {
        let value = match own.remove(&key) {
            Some(earlier) => {
                path.push(key.clone());
                let merged = merge(earlier, value, path)?;
                path.pop();
                merged
            }
            None => value,
        };
        own.insert(key, value);
    }
    Ok(own)
}

fn ruled(rule: Rule, earlier: Node, later: Node, path: &mut Vec<String>) -> Result<Node> {
    let at = earlier.at.clone();
    let value = match rule {
        Rule::Replace => return Ok(later),
        Rule::Sequence => {
            let mut list = sequence(earlier);
            list.extend(sequence(later));
            Value::List(list)
        }
        Rule::Hosts => {
            let mut list = sequence(earlier);
            let other = sequence(later);
            let new: Vec<_> = other.into_iter().filter(|it| !list.contains(it)).collect();
            list.extend(new);
            Value::List(list)
        }
        Rule::Build => both(earlier, later, path, context)?,
        Rule::Mapping(default) => both(earlier, later, path, |node| named(node, default))?,
        Rule::Logging => {
            let driver = |node: &Node| node.get("driver").cloned();
            if let (Some(own), Some(other)) = (driver(&earlier), driver(&later))
                && own != other
            {
                return Ok(later);
            }
            both(earlier, later, path, |node| node)?
        }
        Rule::Pools => pools(earlier, &later, path)?,
    };
    Ok(Node::new(value, &at))
}

fn both(
    earlier: Node,
    later: Node,
    path: &mut Vec<String>,
    as_mapping: impl Fn(Node) -> Node,
) -> Result<Value> {
    let (own, other) = (as_mapping(earlier), as_mapping(later));
    match (own.value, other) {
        (Value::Map(own), Node { value: Value::Map(other), .. }) => {
            mappings(own, other, path).map(Value::Map)
        }
        (own, other) if other.is_null() => Ok(own),
        (Value::Null, other) => Ok(other.value),
        (_, other) => Err(unlike(&other, path)),
    }
}

fn context(node: Node) -> Node {
    match node.value {
        Value::Text(_) => {
            let at = node.at.clone();
            Node::new(Value::Map(Map::from([("context".to_owned(), node)])), &at)
        }
        _ => node,
    }
}

/// A list of names as a mapping.
pub(crate) fn named(node: Node, default: fn() -> Value) -> Node {
    let Value::List(list) = &node.value else { return node };
    if !list.iter().all(|it| it.as_text().is_some()) {
        return node;
    }
    let entries = list.iter().filter_map(|it| Some((it.as_text()?.to_owned(), it.with(default()))));
    node.with(Value::Map(entries.collect()))
}

/// A mapping as a list of `KEY=VALUE`.
fn sequence(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(list) => list,
        Value::Text(_) => vec![node],
        Value::Map(map) => {
            let mut list = Vec::new();
            for (key, value) in map {
                match &value.value {
                    Value::Null => list.push(value.with(Value::Text(key))),
                    Value::List(items) => list.extend(
                        items
                            .iter()
                            .map(|it| it.with(Value::Text(format!("{key}={}", it.shown())))),
                    ),
                    _ => list.push(value.with(Value::Text(format!("{key}={}", value.shown())))),
                }
            }
            list.sort_by(|a, b| a.as_text().cmp(&b.as_text()));
            list
        }
        _ => Vec::new(),
    }
}

fn pools(earlier: Node, later: &Node, path: &mut Vec<String>) -> Result<Value> {
    let (Value::List(own), Value::List(others)) = (earlier.value, later.value.clone()) else {
        return Err(unlike(later, path));
    };
    let mut merged: Vec<Node> = Vec::new();
    let place = |merged: &[Node], pool: &Node| {
        merged.iter().position(|it| it.get("subnet") == pool.get("subnet"))
    };
    for mut pool in own {
        for other in &others {
            if other.get("subnet") != pool.get("subnet") && place(&merged, other).is_none() {
                merged.push(other.clone());
                continue;
            }
            let (Value::Map(left), Value::Map(right)) = (pool.value.clone(), other.value.clone())
            else {
                return Err(unlike(other, path));
            };
            pool.value = Value::Map(mappings(left, right, path)?);
            match place(&merged, &pool) {
                Some(at) => merged[at] = pool.clone(),
                None => merged.push(pool.clone()),
            }
        }
    }
    Ok(Value::List(merged))
}
