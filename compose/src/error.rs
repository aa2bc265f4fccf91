//! What is wrong with a compose file, and where: file, line, column and key.

use std::fmt;

use crate::node::{Node, Position};

pub type Result<T> = std::result::Result<T, Error>;

/// Displayed as `FILE:LINE:COLUMN: KEY: what is wrong`, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    at: Option<Position>,
    key: String,
    message: String,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { at: None, key: String::new(), message: message.into() }
    }

    /// About the value of a key.
    pub(crate) fn at(node: &Node, path: &[String], message: impl Into<String>) -> Self {
        Self { at: node.at.clone(), key: shown(path), message: message.into() }
    }

    pub(crate) fn at_position(at: Position, message: impl Into<String>) -> Self {
        Self { at: Some(at), key: String::new(), message: message.into() }
    }

    /// Adds what is known of the place, unless it is known better.
    pub(crate) fn placed(mut self, node: &Node, path: &[String]) -> Self {
        if self.at.is_none() {
            self.at.clone_from(&node.at);
        }
        if self.key.is_empty() {
            self.key = shown(path);
        }
        self
    }

    /// Where it is; `None` when no single place is to blame.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.at.as_ref()
    }

    /// The key, as `services.web.ports[0]`; empty when no key is to blame.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// `services.web.ports[]` for a path that goes through a list.
fn shown(path: &[String]) -> String {
    path.join(".").replace(".[", "[")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
