//! A process of a container on this terminal: its input, its output, its size and its signals.
//!
//! ```text
//!   stdin  ──thread──▶ connection          until the end, or the detach keys
//!   stdout ◀──here──── connection          frames taken apart, unless there is a terminal
//!   signals ─thread──▶ resize, kill        sigwait: no handler, nothing asynchronous
//! ```

mod frames;
mod keys;
mod signals;

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use self::frames::{copy_frames, copy_to};
pub(crate) use self::keys::Keys;
pub(crate) use self::signals::{Blocked, Interrupts, Target};
use crate::error::Result;
use crate::http::{Stream, Upgraded};
use crate::terminal::RawMode;

/// How the streams of a process came to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Detached,
}

/// Which of this program's streams are connected.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) takes_stdin: bool,
    pub(crate) is_terminal: bool,
    pub(crate) keys: Keys,
}

/// Copies until the process has no more to say, or the user detaches. The terminal is raw meanwhile.
pub(crate) fn copy(connection: Upgraded, streams: Streams) -> Result<End> {
    let Upgraded { mut reader, writer, is_multiplexed } = connection;
    let raw =
        if streams.is_terminal && streams.takes_stdin { Some(RawMode::enter()?) } else { None };
    let is_detached = Arc::new(AtomicBool::new(false));
    if streams.takes_stdin {
        let is_detached = Arc::clone(&is_detached);
        let keys = streams.is_terminal.then_some(streams.keys);
        // Nobody joins it: it may wait for input that never comes.
        std::thread::spawn(move || {
            if send_input(io::stdin(), &writer, keys) == Sent::DetachKeys {
                is_detached.store(true, Ordering::SeqCst);
                let _ = writer.close();
            }
        });
    }
    let copied = if is_multiplexed { copy_frames(&mut reader) } else { copy_raw(&mut reader) };
    drop(raw);
    if is_detached.load(Ordering::SeqCst) {
        return Ok(End::Detached);
    }
    match copied {
        // A daemon that was killed ends the streams like this; the exit code is asked for next, and tells.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(End::Closed),
        other => other.map(|()| End::Closed).map_err(Into::into),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Sent {
    All,
    DetachKeys,
}

fn send_input(mut input: impl Read, stream: &Stream, keys: Option<Keys>) -> Sent {
    let Ok(mut stream) = stream.try_clone() else { return Sent::All };
    let mut matcher = keys.map(Keys::matcher);
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let sent = match &mut matcher {
            None => stream.write_all(&buffer[..read]),
            Some(matcher) => {
                let passed = matcher.pass(&buffer[..read]);
                let sent = stream.write_all(&passed);
                if matcher.is_complete() {
                    return Sent::DetachKeys;
                }
                sent
            }
        };
        // The process takes no more.
        if sent.is_err() {
            return Sent::All;
        }
    }
    let _ = stream.end_writing();
    Sent::All
}

fn copy_raw(reader: &mut impl Read) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 32 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                out.write_all(&buffer[..read])?;
                out.flush()?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
