//! The lines of several containers on one output, each with the name of its container before it.

use std::io::{self, Write};

use crate::error::Result;
use crate::{output, units};

/// What docker compose gives its containers in turn, as the terminal's codes.
const COLORS: &[&str] = &["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// How lines look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) has_prefix: bool,
    pub(super) is_colored: bool,
    /// Each with the time at which it came.
    pub(super) is_timed: bool,
}

impl Look {
    /// Colours are for terminals, and for nobody who declines them (`NO_COLOR`).
    pub(super) fn new(no_prefix: bool, no_color: bool) -> Self {
        let is_declined = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        Self {
            has_prefix: !no_prefix,
            is_colored: !no_color && !is_declined && output::is_terminal(),
            is_timed: false,
        }
    }
}

/// Gives out names, all as wide as the longest.
#[derive(Debug)]
pub(super) struct Voices {
    look: Look,
    width: usize,
    given: usize,
}

impl Voices {
    pub(super) fn new<'n>(look: Look, names: impl IntoIterator<Item = &'n str>) -> Self {
        let width = names.into_iter().map(str::len).max().unwrap_or(0);
        Self { look, width, given: 0 }
    }

    pub(super) fn voice(&mut self, name: &str) -> Voice {
        let color = self.look.is_colored.then(|| COLORS[self.given % COLORS.len()]);
        self.given += 1;
        let width = self.width;
        let prefix = match self.look.has_prefix {
            true => colored(color, &format!("{name:width$}  | ")),
            false => String::new(),
        };
        Voice { name: name.to_owned(), prefix, color, is_timed: self.look.is_timed }
    }
}

/// One container among others.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    name: String,
    prefix: String,
    color: Option<&'static str>,
    is_timed: bool,
}

impl Voice {
    /// What happened to the container.
    pub(super) fn tell(&self, what: &str) -> Result<()> {
        output::line(&colored(self.color, &format!("{} {what}", self.name)))
    }

    pub(super) fn lines<W: Write>(&self, out: W) -> Lines<'_, W> {
        Lines { voice: self, line: Vec::new(), out }
    }
}

fn colored(color: Option<&str>, text: &str) -> String {
    color.map_or_else(|| text.to_owned(), |it| format!("\x1b[{it}m{text}\x1b[0m"))
}

/// Writes whole lines, so that those of several containers do not mix.
pub(super) struct Lines<'v, W> {
    voice: &'v Voice,
    line: Vec<u8>,
    out: W,
}

impl<W: Write> Lines<'_, W> {
    /// A last line may have no end.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.line.is_empty() { Ok(()) } else { self.write_all(b"\n") }
    }

    fn whole(&mut self) -> io::Result<()> {
        let mut whole = self.voice.prefix.clone().into_bytes();
        if self.voice.is_timed {
            whole.extend_from_slice(units::now_in_nanos().as_bytes());
            whole.push(b' ');
        }
        whole.append(&mut self.line);
        self.out.write_all(&whole)
    }
}

impl<W: Write> Write for Lines<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.whole()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { has_prefix: true, is_colored: false, is_timed: false };

    fn written(voice: &Voice, pieces: &[&str]) -> String {
        let mut out = Vec::new();
        let mut lines = voice.lines(&mut out);
        for piece in pieces {
            lines.write_all(piece.as_bytes()).unwrap();
        }
        lines.end().unwrap();
        lines.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_whole_and_have_their_prefix() {
        let mut voices = Voices::new(PLAIN, ["a-1", "long-10"]);
        let voice = voices.voice("a-1");
        assert_eq!(
            written(&voice, &["one\ntw", "o\n\nlast"]),
            "a-1      | one\na-1      | two\na-1      | \na-1      | last\n"
        );
        let bare = Voices::new(Look { has_prefix: false, ..PLAIN }, ["a-1"]).voice("a-1");
        assert_eq!(written(&bare, &["one"]), "one\n");
    }

    #[test]
    fn colours_are_given_in_turn() {
        let mut voices = Voices::new(Look { is_colored: true, ..PLAIN }, ["a-1"]);
        assert_eq!(written(&voices.voice("a-1"), &["x"]), "\x1b[36ma-1  | \x1b[0mx\n");
        for _ in 1..10 {
            assert_ne!(voices.voice("b").color, Some("36"));
        }
        assert_eq!(voices.voice("b").color, Some("36"));
    }

    #[test]
    fn a_time_stands_between_name_and_line() {
        let voice = Voices::new(Look { is_timed: true, ..PLAIN }, ["a-1"]).voice("a-1");
        let text = written(&voice, &["x\n"]);
        let time = text.strip_prefix("a-1  | 2").and_then(|it| it.strip_suffix(" x\n"));
        assert!(time.is_some_and(|it| it.contains('T') && it.contains('.')), "{text:?}");
    }
}
