//! Compares a file with the tables of keys: what is unknown, and what has the wrong type.

use crate::error::{Error, Result};
use crate::keys::{Extensions, FILE, Names, Rule, Struct, Type};
use crate::node::{Node, Value};

/// Checks a whole file.
pub(crate) fn file(model: &Node) -> Result<()> {
    rule(&Rule::Keys(&FILE), model, &mut Vec::new())
}

fn rule(expected: &Rule, node: &Node, path: &mut Vec<String>) -> Result<()> {
    let fail = |message: String| Err(Error::at(node, path, message));
    match expected {
        Rule::Any => Ok(()),
        Rule::Unknown => fail("unknown key".to_owned()),
        Rule::Types(types) if types.iter().any(|it| is(node, *it)) => Ok(()),
        Rule::Types(types) => fail(wrong_type(types)),
        Rule::Range(least, most) => match node.value {
            Value::Text(_) => Ok(()),
            Value::Int(number) if number < *least => {
                fail(format!("must be greater than or equal to {least}"))
            }
            Value::Int(number) if number > *most => {
                fail(format!("must be less than or equal to {most}"))
            }
            Value::Int(_) => Ok(()),
            Value::Float(number) if number.fract() == 0.0 => Ok(()),
            _ => fail(wrong_type(&[Type::Integer, Type::Text])),
        },
        Rule::Choice(choices) => match node.as_text() {
            Some(text) if choices.contains(&text) => Ok(()),
            _ => fail(format!("must be one of {}", choices.join(", "))),
        },
        Rule::ContainerName => match node.as_text() {
            Some(text) if has_container_name(text) => Ok(()),
            Some(_) => fail("does not match [a-zA-Z0-9][a-zA-Z0-9_.-]+".to_owned()),
            None => fail(wrong_type(&[Type::Text])),
        },
        Rule::Mentions(words) => match node.as_text() {
            Some(text) if words.iter().any(|word| text.contains(word)) => Ok(()),
            _ => fail(format!("must be one of {}", words.join(", "))),
        },
        Rule::List(item) | Rule::Unique(item) => {
            let Some(list) = node.as_list() else { return fail(wrong_type(&[Type::List])) };
            for (index, member) in list.iter().enumerate() {
                path.push(format!("[{index}]"));
                rule(item, member, path)?;
                if matches!(expected, Rule::Unique(_)) && list[..index].contains(member) {
                    return Err(Error::at(member, path, "is in the list already"));
                }
                path.pop();
            }
            Ok(())
        }
        Rule::Map(names, item) => {
            let Some(map) = node.as_map() else { return fail(wrong_type(&[Type::Map])) };
            for (key, member) in map {
                path.push(key.clone());
                if !names.allow(key) {
                    return Err(Error::at(member, path, "this name is not allowed"));
                }
                rule(item, member, path)?;
                path.pop();
            }
            Ok(())
        }
        Rule::Keys(keys) => members(keys, node, path),
        Rule::Either(rules) => match rules.iter().find(|it| concerns(it, node)) {
            Some(fitting) => rule(fitting, node, path),
            None => fail(wrong_type(&rules.iter().flat_map(types).collect::<Vec<_>>())),
        },
    }
}

fn members(keys: &Struct, node: &Node, path: &mut Vec<String>) -> Result<()> {
    let Some(map) = node.as_map() else {
        return Err(Error::at(node, path, wrong_type(&[Type::Map])));
    };
    for (key, member) in map {
        if key.starts_with("x-") && keys.extensions != Extensions::Refused {
            continue;
        }
        path.push(key.clone());
        match keys.fields.iter().find(|it| it.name == key) {
            Some(field) => rule(&field.rule, member, path)?,
            None => {
                let near = keys.fields.iter().find(|it| is_near(it.name, key));
                let hint = near.map(|it| format!("; did you mean {}?", it.name));
                let message = format!("unknown key{}", hint.unwrap_or_default());
                return Err(Error::at(member, path, message));
            }
        }
        path.pop();
    }
    match keys.required.iter().find(|it| !map.contains_key(**it)) {
        Some(missing) => Err(Error::at(node, path, format!("{missing} is missing"))),
        None => Ok(()),
    }
}

impl Names {
    fn allow(self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Resources => {
                !name.is_empty()
                    && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
            }
        }
    }
}

fn is(node: &Node, expected: Type) -> bool {
    match (&node.value, expected) {
        (Value::Text(_), Type::Text)
        | (Value::Bool(_), Type::Flag)
        | (Value::Int(_), Type::Integer | Type::Number)
        | (Value::Float(_), Type::Number)
        | (Value::Null, Type::Null)
        | (Value::List(_), Type::List)
        | (Value::Map(_), Type::Map) => true,
        (Value::Float(number), Type::Integer) => number.fract() == 0.0,
        _ => false,
    }
}

/// Somewhere in the text: the published schema's expression has no ends.
fn has_container_name(text: &str) -> bool {
    text.as_bytes().windows(2).any(|pair| {
        pair[0].is_ascii_alphanumeric()
            && (pair[1].is_ascii_alphanumeric() || b"_.-".contains(&pair[1]))
    })
}

/// Whether a rule is about values of this type at all.
fn concerns(rule: &Rule, node: &Node) -> bool {
    types(rule).iter().any(|it| is(node, *it))
}

fn types(rule: &Rule) -> Vec<Type> {
    match rule {
        Rule::Types(types) => types.to_vec(),
        Rule::Choice(_) | Rule::ContainerName | Rule::Mentions(_) => vec![Type::Text],
        Rule::Range(..) => vec![Type::Text, Type::Integer],
        Rule::List(_) | Rule::Unique(_) => vec![Type::List],
        Rule::Map(..) | Rule::Keys(_) => vec![Type::Map],
        Rule::Either(rules) => rules.iter().flat_map(types).collect(),
        Rule::Any | Rule::Unknown => Vec::new(),
    }
}

fn wrong_type(types: &[Type]) -> String {
    let names: Vec<&str> = types
        .iter()
        .map(|it| match it {
            Type::Text => "string",
            Type::Flag => "boolean",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Null => "null",
            Type::List => "list",
            Type::Map => "mapping",
        })
        .collect();
    format!("must be a {}", names.join(" or a "))
}

/// One letter too many, too few, or another one.
fn is_near(known: &str, given: &str) -> bool {
    let (long, short) = if known.len() >= given.len() { (known, given) } else { (given, known) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let same = long.bytes().zip(short.bytes()).take_while(|(a, b)| a == b).count();
    let skip = usize::from(long.len() == short.len());
    long.as_bytes().get(same + 1..) == short.as_bytes().get(same + skip..)
}
