//! Standard output and standard error. A reader that went away ends the program quietly.

use std::io::{self, IsTerminal, Write};

use crate::error::Result;

pub(crate) fn line(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}

pub(crate) fn raw(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A line for people. That nobody reads it is no failure.
pub(crate) fn notice(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
