//! Physical lines.

use crate::error::{ParseError, Position, Range};

/// With its newline, as BuildKit's reader of lines holds it.
const LONGEST: usize = 64 << 10;

/// The lines of a file with their ends; a byte order mark before the first is dropped.
pub(super) struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { rest: source.strip_prefix('\u{feff}').unwrap_or(source), number: 0 }
    }

    /// Of the line that was given last; from 1.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn next_line(&mut self) -> Result<Option<&'a str>, ParseError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let newline = self.rest.as_bytes().iter().take(LONGEST).position(|byte| *byte == b'\n');
        let length = match newline {
            Some(newline) => newline + 1,
            None if self.rest.len() < LONGEST => self.rest.len(),
            None => {
                let start = Position { line: self.number, column: 1 };
                let message =
                    format!("dockerfile line greater than max allowed size of {}", LONGEST - 1);
                return Err(ParseError::new(Range { start, end: start }, message));
            }
        };
        let (line, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Some(line))
    }
}

pub(super) fn without_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without the escape character at its end, and whether there was one: then the next line belongs to it. An
/// escape before the last character makes that one a character like others.
pub(super) fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(text) if !text.ends_with(escape) => (text, true),
        _ => (line, false),
    }
}
