//! What goes wrong, as the user is told of it: a text for standard error and the code that the program ends with.

use std::fmt;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Nothing is printed when it is empty.
    pub(crate) message: String,
    pub(crate) code: u8,
    /// The daemon's HTTP status, when it was the daemon that refused.
    pub(crate) status: Option<u16>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, status: None }
    }

    /// Ends the program with this code, without a word.
    pub(crate) fn exit(code: u8) -> Self {
        Self { message: String::new(), code, status: None }
    }

    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // What a program that SIGPIPE ends leaves to the shell.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::exit(141);
        }
        Self::new(reason(&error))
    }
}

/// Why the system refused, in the words of programs in C and Go: `no such file or directory`.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(format!("the daemon's reply cannot be read: {error}"))
    }
}

/// Says what was being done when it failed.
pub(crate) trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{what}: {error}")))
    }
}

/// Does one thing for each of several names, prints what it gives, and goes on when one fails. The failures come together at
/// the end, as docker does it.
pub(crate) fn each(names: &[String], mut act: impl FnMut(&str) -> Result<String>) -> Result<()> {
    let mut messages = Vec::new();
    for name in names {
        match act(name) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => crate::output::line(&text)?,
            Err(failure) => messages.push(failure.message),
        }
    }
    if messages.is_empty() { Ok(()) } else { Err(Failure::new(messages.join("\n"))) }
}
