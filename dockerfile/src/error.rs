//! Where something stands in a Dockerfile, and what is wrong with it.

use std::fmt;

/// A place in the source. Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// The lines of an instruction, its continuation lines and heredocs included. `end` is the place after the last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    pub start: Position,
    pub end: Position,
}

/// Why a Dockerfile was refused. `Display` is the text that BuildKit gives to its clients: what the line splitter
/// finds stands alone (`unterminated heredoc`), what is wrong with an instruction names its line
/// (`dockerfile parse error on line 3: unknown instruction: FORM (did you mean FROM?)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Of the word that is at fault, or of the instruction's start.
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// The whole instruction, to be shown with its source. BuildKit names the line where it begins.
    pub range: Range,
    pub(crate) of_instruction: bool,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of_instruction {
            write!(f, "dockerfile parse error on line {}: ", self.range.start.line)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    /// What is wrong with the file as a whole, or with the meaning of an instruction that was read well.
    pub fn new(range: Range, message: impl Into<String>) -> Self {
        let Position { line, column } = range.start;
        Self { line, column, message: message.into(), range, of_instruction: false }
    }

    /// Points at the word of the fault, if it stands in the instruction's lines as it is.
    pub(crate) fn locate(mut self, source: &str, fault: &Fault) -> Self {
        let Range { start, end } = self.range;
        let Some(word) = fault.word.as_deref().filter(|word| !word.is_empty()) else { return self };
        let lines = source.lines().enumerate().skip(start.line - 1).take(end.line + 1 - start.line);
        for (number, line) in lines {
            if let Some(offset) = line.find(word) {
                self.line = number + 1;
                self.column = line[..offset].chars().count() + 1;
                break;
            }
        }
        self
    }
}

/// What is wrong inside an instruction; who reads the file knows where the instruction stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    /// The word to point at, as it is written in the source.
    pub word: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn at(word: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), word: Some(word.to_owned()) }
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { message, word: None }
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::from(message.to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
