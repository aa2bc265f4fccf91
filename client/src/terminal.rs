//! The terminal: its size, and raw mode that ends however the program ends.

use std::io::{self, IsTerminal};
use std::sync::Mutex;

use rustix::termios::{self, OptionalActions, Termios};

/// What to give the terminal back, while it is in raw mode. Global: a signal's thread ends the program too.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode of standard input, until it is dropped.
pub(crate) struct RawMode(());

impl RawMode {
    /// Nothing is changed when standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let before = termios::tcgetattr(&stdin)?;
            let mut raw = before.clone();
            raw.make_raw();
            *BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(before);
            termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        }
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back as it was found. Does nothing the second time.
pub(crate) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(before) = before {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Rows and columns of standard output, if it is a terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Reads a line without showing it: a password.
pub(crate) fn read_hidden() -> io::Result<String> {
    let stdin = io::stdin();
    let before = termios::tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(termios::LocalModes::ECHO);
    termios::tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    termios::tcsetattr(&stdin, OptionalActions::Now, &before)?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
