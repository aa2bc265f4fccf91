//! A project as text, in the forms that docker compose writes: what a struct of the tables prints, and in which order.

pub(crate) mod json;
pub(crate) mod yaml;

use crate::keys::{Extensions, Field, Kind, Print, Struct, ULIMIT};
use crate::node::{Map, Node, Value};
use crate::scalar;
use crate::units;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Json,
}

/// Any value as a document of YAML, its keys in an order for people.
#[must_use]
pub fn to_yaml(node: &Node) -> String {
    yaml::document(&plain(node, Format::Yaml))
}

/// What is printed, in its order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Out {
    Null,
    Bool(bool),
    Int(i64),
    /// A number with a fraction; in which form depends on the format.
    Float(f64),
    Float32(f32),
    Text(String),
    List(Vec<Out>),
    Map(Vec<(String, Out)>),
}

/// A struct of the tables.
pub(crate) fn structure(keys: &Struct, map: Option<&Map>, format: Format) -> Out {
    let mut members = Vec::new();
    for field in keys.fields {
        let value = map.and_then(|it| it.get(field.name));
        let name = match format {
            Format::Yaml => field.name,
            Format::Json => field.json,
        };
        if let Some(out) = member(field, value, format) {
            members.push((name.to_owned(), out));
        }
    }
    if keys.extensions == Extensions::Kept && format == Format::Yaml {
        let mut extensions: Vec<_> =
            map.into_iter().flatten().filter(|(key, _)| key.starts_with("x-")).collect();
        extensions.sort_by(|(a, _), (b, _)| yaml::key_order(a, b));
        members.extend(extensions.into_iter().map(|(key, it)| (key.clone(), plain(it, format))));
    }
    Out::Map(members)
}

fn member(field: &Field, value: Option<&Node>, format: Format) -> Option<Out> {
    if let Some(value) = value {
        let out = render(field.kind, value, format);
        // A struct without a pointer is left out of YAML when nothing in it is set.
        let unset = matches!(field.kind, Kind::Inline(_)) && out == Out::Map(Vec::new());
        return (format == Format::Json || !unset).then_some(out);
    }
    let print = match (field.print, format) {
        (Print::Always, _)
        | (Print::AlwaysInJson, Format::Json)
        | (Print::AlwaysInYaml, Format::Yaml) => true,
        _ => matches!(field.kind, Kind::Inline(_)) && format == Format::Json,
    };
    print.then(|| zero(field.kind, format))
}

fn zero(kind: Kind, format: Format) -> Out {
    match kind {
        Kind::Text => Out::Text(String::new()),
        Kind::Integer => Out::Int(0),
        Kind::Bytes => Out::Text("0".to_owned()),
        Kind::Flag => Out::Bool(false),
        Kind::Inline(keys) => structure(keys, None, format),
        Kind::Named(_) => Out::Map(Vec::new()),
        _ => Out::Null,
    }
}

fn render(kind: Kind, node: &Node, format: Format) -> Out {
    match (kind, &node.value) {
        (Kind::One(keys) | Kind::Inline(keys), Value::Map(map)) => {
            structure(keys, Some(map), format)
        }
        (Kind::Many(keys), Value::List(list)) => {
            Out::List(list.iter().map(|it| structure(keys, it.as_map(), format)).collect())
        }
        (Kind::Named(keys) | Kind::NamedOrNull(keys), Value::Map(map)) => {
            let value = |it: &Node| match &it.value {
                Value::Map(map) => structure(keys, Some(map), format),
                _ => Out::Null,
            };
            Out::Map(sorted(map.iter().map(|(key, it)| (key.clone(), value(it))).collect(), format))
        }
        (Kind::Ulimits, Value::Map(map)) => {
            let value = |it: &Node| match &it.value {
                Value::Map(map) => structure(&ULIMIT, Some(map), format),
                _ => plain(it, format),
            };
            Out::Map(sorted(map.iter().map(|(key, it)| (key.clone(), value(it))).collect(), format))
        }
        (Kind::EnvFiles, Value::List(list)) => {
            Out::List(list.iter().map(|it| env_file(it, format)).collect())
        }
        (Kind::Bytes, Value::Int(number)) => Out::Text(number.to_string()),
        (Kind::Duration | Kind::OptionalDuration, Value::Int(number)) => {
            Out::Text(units::shown_duration(*number))
        }
        (Kind::Mode, Value::Int(number)) => Out::Text(format!("0{number:o}")),
        (Kind::Number | Kind::Cpus, Value::Float(number)) => Out::Float32(narrow(*number)),
        _ => plain(node, format),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "these numbers have 32 bits where they are kept"
)]
fn narrow(number: f64) -> f32 {
    number as f32
}

/// A file that must be there is its path alone.
fn env_file(file: &Node, format: Format) -> Out {
    let path = file.get("path").map(Node::shown).unwrap_or_default();
    if file.get("required").and_then(Node::as_bool) != Some(false) {
        return Out::Text(path);
    }
    let mut members =
        vec![("path".to_owned(), Out::Text(path)), ("required".to_owned(), Out::Bool(false))];
    if format == Format::Json
        && let Some(kind) = file.get("format").and_then(Node::as_text)
    {
        members.push(("format".to_owned(), Out::Text(kind.to_owned())));
    }
    Out::Map(members)
}

/// A value that no table is about.
pub(crate) fn plain(node: &Node, format: Format) -> Out {
    match &node.value {
        Value::Null => Out::Null,
        Value::Bool(value) => Out::Bool(*value),
        Value::Int(number) => Out::Int(*number),
        Value::Float(number) => Out::Float(*number),
        Value::Text(text) => Out::Text(text.clone()),
        Value::List(list) => Out::List(list.iter().map(|it| plain(it, format)).collect()),
        Value::Map(map) => {
            let members = map.iter().map(|(key, it)| (key.clone(), plain(it, format)));
            Out::Map(sorted(members.collect(), format))
        }
    }
}

/// JSON's keys have the order of their bytes, YAML's one for people.
fn sorted(mut members: Vec<(String, Out)>, format: Format) -> Vec<(String, Out)> {
    if format == Format::Yaml {
        members.sort_by(|(a, _), (b, _)| yaml::key_order(a, b));
    }
    members
}

/// A number as YAML has it.
fn yaml_number(number: f64) -> String {
    match scalar::general(number).as_str() {
        "+Inf" => ".inf".to_owned(),
        "-Inf" => "-.inf".to_owned(),
        "NaN" => ".nan".to_owned(),
        text => text.to_owned(),
    }
}
