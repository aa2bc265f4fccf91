//! How long an operation may take, as its parts see it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// A dump that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// `None`: none.
    pub(super) fn after(limit: Option<Duration>) -> Self {
        Self(limit.and_then(|limit| Instant::now().checked_add(limit)))
    }

    /// How long a part may take from now on.
    ///
    /// # Errors
    /// `Timeout` when no time is left.
    pub(super) fn patience(self) -> Result<Duration> {
        let Some(deadline) = self.0 else { return Ok(PATIENCE) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(exceeded()) } else { Ok(left.min(PATIENCE)) }
    }
}

pub(super) fn exceeded() -> Error {
    Error::new(Kind::Timeout, "the checkpoint took longer than its timeout")
}

/// Refuses to write on after the deadline.
pub(super) struct Timed<W> {
    pub(super) inner: W,
    pub(super) deadline: Deadline,
}

impl<W: Write> Write for Timed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.deadline.patience().is_err() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
