//! Standard output and standard error. A reader that went away ends the program quietly.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// What notices tell of is not done, in the whole program.
static IS_REHEARSED: AtomicBool = AtomicBool::new(false);

/// From now on every notice says that nothing is done.
pub(crate) fn rehearse() {
    IS_REHEARSED.store(true, Ordering::Relaxed);
}

/// A line for people. That nobody reads it is no failure.
pub(crate) fn notice(text: &str) {
    let before = if IS_REHEARSED.load(Ordering::Relaxed) { " DRY-RUN MODE - " } else { "" };
    let _ = writeln!(io::stderr().lock(), "{before}{text}");
}

pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
