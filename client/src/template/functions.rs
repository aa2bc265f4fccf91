//! The functions: Go's own, and those that Docker's clients add.

use std::cmp::Ordering;

use super::eval::is_true;
use super::print;
use crate::json::Value;

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// # Errors
/// What is wrong with the arguments, without the name of the function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("json", [value]) => Ok(value.compact().into()),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            let mut is_equal = false;
            for other in rest {
                is_equal |= order(first, other, Comparison::Equality)? == Some(Ordering::Equal);
            }
            Ok(is_equal.into())
        }
        ("ne", [a, b]) => Ok((order(a, b, Comparison::Equality)? != Some(Ordering::Equal)).into()),
        ("lt", [a, b]) => Ok((order(a, b, Comparison::Order)? == Some(Ordering::Less)).into()),
        ("gt", [a, b]) => Ok((order(a, b, Comparison::Order)? == Some(Ordering::Greater)).into()),
        ("le", [a, b]) => Ok((order(a, b, Comparison::Order)? != Some(Ordering::Greater)).into()),
        ("ge", [a, b]) => Ok((order(a, b, Comparison::Order)? != Some(Ordering::Less)).into()),
        ("print", values) => Ok(print::words(values).into()),
        ("println", values) => {
            let words: Vec<_> = values.iter().map(|it| print::value_of(it, None)).collect();
            Ok(format!("{}\n", words.join(" ")).into())
        }
        ("printf", [format, values @ ..]) => Ok(print::formatted(string(format)?, values).into()),
        ("lower", [text]) => Ok(string(text)?.to_lowercase().into()),
        ("upper", [text]) => Ok(string(text)?.to_uppercase().into()),
        ("title", [text]) => Ok(title(string(text)?).into()),
        ("join", [items, separator]) => {
            let items: Vec<_> = items.items().iter().map(|it| print::value_of(it, None)).collect();
            Ok(items.join(string(separator)?).into())
        }
        ("split", [text, separator]) => {
            let (text, separator) = (string(text)?, string(separator)?);
            let parts: Vec<Value> = if separator.is_empty() {
                text.chars().map(|c| c.to_string().into()).collect()
            } else {
                text.split(separator).map(Value::from).collect()
            };
            Ok(Value::Array(parts))
        }
        ("truncate", [text, most]) => {
            let most = usize::try_from(most.integer()).map_err(|_| "negative length")?;
            Ok(string(text)?.chars().take(most).collect::<String>().into())
        }
        ("pad", [text, before, after]) => {
            let text = string(text)?;
            // As docker does, nothing is added to an empty text.
            if text.is_empty() {
                return Ok(text.into());
            }
            let spaces = |count: &Value| " ".repeat(usize::try_from(count.integer()).unwrap_or(0));
            Ok(format!("{}{text}{}", spaces(before), spaces(after)).into())
        }
        (_, arguments) => Err(format!("wrong number of args: got {}", arguments.len())),
    }
}

fn string(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        other => Err(format!("expected string; found {}", print::value_of(other, None))),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        // An absent list has no elements.
        Value::Null => 0,
        Value::Bool(_) | Value::Number(_) => {
            return Err(format!("len of type {}", print::type_of(value)));
        }
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX).into())
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value;
    for key in keys {
        value = match value {
            Value::Object(_) => value.member(string(key)?).unwrap_or(&Value::Null),
            Value::Array(items) => {
                let at = key.integer();
                let found = usize::try_from(at).ok().and_then(|at| items.get(at));
                found.ok_or_else(|| format!("index out of range: {at}"))?
            }
            Value::Null => return Err("index of nil pointer".to_owned()),
            Value::String(_) | Value::Bool(_) | Value::Number(_) => {
                return Err(format!("can't index item of type {}", print::type_of(value)));
            }
        };
    }
    Ok(value.clone())
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = usize::try_from(length(value)?.integer()).unwrap_or_default();
    let bound = |at: usize, otherwise: usize| {
        let bound = bounds
            .get(at)
            .map_or(otherwise, |it| usize::try_from(it.integer()).unwrap_or(usize::MAX));
        if bound <= length { Ok(bound) } else { Err(format!("index out of range: {bound}")) }
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::String(text) => {
            text.get(from..to).map(Value::from).ok_or_else(|| "not at a character".to_owned())
        }
        Value::Array(items) => Ok(Value::Array(items[from..to].to_vec())),
        _ => Err(format!("can't slice item of type {}", print::type_of(value))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equality,
    Order,
}

fn order(a: &Value, b: &Value, comparison: Comparison) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => Ok(a.float().partial_cmp(&b.float())),
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(a), Value::Bool(b)) if comparison == Comparison::Equality => {
            Ok(Some(a.cmp(b)))
        }
        (Value::Null, _) | (_, Value::Null) if comparison == Comparison::Equality => {
            Ok((a == b).then_some(Ordering::Equal))
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        if begins {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        begins = !c.is_alphanumeric() && c != '_' && c != '\'';
    }
    out
}
