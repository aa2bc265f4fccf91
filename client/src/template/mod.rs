//! The part of Go's `text/template` that people write behind `--format`: fields, variables, pipelines, `if`, `range`, `with`,
//! and the functions of Docker's clients.
//!
//! ```text
//!   text ──lex──▶ tokens ──parse──▶ nodes ──eval with a value──▶ text
//! ```
//! Where Go tells typed values apart that JSON does not (a pointer, a struct), a value prints as what JSON has.

mod absent;
mod eval;
mod functions;
mod lex;
mod parse;
mod print;
#[cfg(test)]
mod tests;

use crate::json::Value;

/// A template that was read. It can be executed many times.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

/// What a field that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing<'a> {
    /// An error that names this Go type, as of a formatter's row.
    Field(&'a str),
    /// An error of a map, as `inspect` has it.
    Key,
}

impl Template {
    /// # Errors
    /// Go's words: `template: :1: function "foo" not defined`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let tokens = lex::tokens(text)?;
        Ok(Self { nodes: parse::nodes(tokens)? })
    }

    /// # Errors
    /// Go's words: `template: :1:2: executing "" at <.Foo>: …`.
    pub(crate) fn execute(&self, value: &Value, missing: Missing<'_>) -> Result<String, String> {
        eval::execute(&self.nodes, value, missing)
    }

    /// The names of the first fields that it reads of its value.
    pub(crate) fn fields(&self) -> Vec<String> {
        let mut names = Vec::new();
        parse::fields(&self.nodes, &mut names);
        names
    }
}
