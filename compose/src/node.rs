//! A tree of values with the places they were read at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Lines and columns count from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub file: Arc<str>,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Keys in the order of their bytes: what is printed does not depend on the order in a file.
pub type Map = BTreeMap<String, Node>;

/// Two nodes are equal when their values are, wherever they stand.
#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    /// Unknown for what no file says: defaults, what a flag gives.
    pub at: Option<Position>,
    pub(crate) tag: Tag,
}

/// The two tags that say what becomes of earlier files' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tag {
    #[default]
    None,
    /// `!reset`: the value is dropped.
    Reset,
    /// `!override`: this value replaces it.
    Override,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, at: None, tag: Tag::None }
    }
}

impl Node {
    pub(crate) fn new(value: Value, at: &Option<Position>) -> Self {
        Self { value, at: at.clone(), tag: Tag::None }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into()).into()
    }

    /// Another value at the same place.
    pub(crate) fn with(&self, value: Value) -> Self {
        Self::new(value, &self.at)
    }

    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self.value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn as_list_mut(&mut self) -> Option<&mut Vec<Node>> {
        match &mut self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// A member of a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// A scalar as the text that stands for it.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "<nil>".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => crate::scalar::general(*number),
            Value::Text(text) => text.clone(),
            Value::List(_) | Value::Map(_) => self.kind().to_owned(),
        }
    }

    /// How many nodes there are in the tree.
    pub(crate) fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(list) => list.iter().map(Self::size).sum(),
            Value::Map(map) => map.values().map(Self::size).sum(),
            _ => 0usize,
        }
    }
}

/// Whether a path is what a pattern says: `services.*.ports`, where `*` is any one key or place in a list.
pub(crate) fn matches(path: &[String], pattern: &str) -> bool {
    let mut parts = pattern.split('.');
    path.iter().all(|key| parts.next().is_some_and(|part| part == "*" || part == key))
        && parts.next().is_none()
}

/// Goes down into a map or a list with the path of what it finds. Places in lists are `[]` in the path.
pub(crate) fn each_child<E>(
    node: &mut Node,
    path: &mut Vec<String>,
    mut act: impl FnMut(&mut Node, &mut Vec<String>) -> Result<(), E>,
) -> Result<(), E> {
    match &mut node.value {
        Value::Map(map) => {
            for (key, member) in map {
                path.push(key.clone());
                act(member, path)?;
                path.pop();
            }
        }
        Value::List(list) => {
            for item in list {
                path.push("[]".to_owned());
                act(item, path)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}
