//! A container's standard streams: from its pipes (or terminal) to the log and to attached
//! clients, and from one client to its standard input.
//!
//! ```text
//!            ┌──▶ log (one write per read)
//! stdout ────┼──▶ sink of client 1          stdin ◀── input of client 1
//!            └──▶ sink of client 2                ◀── input of client 2
//! ```
//!
//! An attached client that reads slowly slows its stream down: while bytes wait for a sink, the
//! stream is not read. A client that is gone is dropped. Once the container is dead nothing more
//! can come than what its pipe holds, and all of it is taken without regard to slow clients.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::log::{self, LogFile, Splitter};
use super::poller::{Key, NOTHING, Poller, READ, Source, Stream, Token, WRITE};

/// One read of a stream. A pipe holds 64 KiB: four of these.
pub(super) const READ_SIZE: usize = 16 * 1024;

/// What every pump needs from the loop.
pub(super) struct Io<'a> {
    pub(super) poller: &'a mut Poller,
    /// Where reads go, [`READ_SIZE`] bytes.
    pub(super) input: &'a mut [u8],
    /// Where log entries are gathered.
    pub(super) batch: &'a mut Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) container: Key,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    pub(super) stdin: Option<StdinPipe>,
    pub(super) attached: Vec<Attached>,
    pub(super) log: Option<LogFile>,
    /// The container is dead: take what is left.
    draining: bool,
}

#[derive(Debug)]
pub(super) struct Output {
    pub(super) fd: OwnedFd,
    /// `None` while clients are behind.
    token: Option<Token>,
    splitter: Splitter,
}

#[derive(Debug)]
pub(super) struct StdinPipe {
    pub(super) fd: OwnedFd,
    /// Set while it is full and bytes wait.
    pub(super) token: Option<Token>,
    pub(super) pending: Vec<u8>,
    /// Ends with the first client that ends it.
    pub(super) once: bool,
    /// To be closed when nothing waits any more.
    pub(super) closing: bool,
}

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) key: Key,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
    pub(super) input: Option<Input>,
}

#[derive(Debug)]
pub(super) struct Sink {
    pub(super) fd: OwnedFd,
    pub(super) token: Token,
    pub(super) pending: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Input {
    pub(super) fd: OwnedFd,
    /// `None` while standard input is full.
    pub(super) token: Option<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Done,
    /// Bytes wait.
    Behind,
    Gone,
}

impl Streams {
    pub(super) fn new(container: Key, log: Option<LogFile>) -> Self {
        Self { container, log, ..Self::default() }
    }

    pub(super) fn add_output(
        &mut self,
        poller: &mut Poller,
        stream: Stream,
        fd: OwnedFd,
    ) -> Result<(), Errno> {
        let token = Some(poller.add(&fd, READ, Source::Output(self.container, stream))?);
        *self.output_mut(stream) = Some(Output { fd, token, splitter: Splitter::default() });
        Ok(())
    }

    fn output_mut(&mut self, stream: Stream) -> &mut Option<Output> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// True when every stream has ended.
    pub(super) fn are_drained(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Reads what is there, once. `true`: something came.
    pub(super) fn pump(&mut self, io: &mut Io<'_>, stream: Stream) -> bool {
        let Some(output) = self.output_mut(stream) else { return false };
        match rustix::io::read(&output.fd, &mut *io.input) {
            Ok(length) if length > 0 => {
                self.deliver(io, stream, length);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // The end; of a terminal, an error.
            Ok(_) | Err(_) => {
                self.end(io, stream);
                false
            }
        }
    }

    fn deliver(&mut self, io: &mut Io<'_>, stream: Stream, length: usize) {
        let bytes = io.input.get(..length).unwrap_or_default();
        let (output, log) = match stream {
            Stream::Stdout => (&mut self.stdout, &mut self.log),
            Stream::Stderr => (&mut self.stderr, &mut self.log),
        };
        if let (Some(output), Some(log)) = (output, log) {
            let mut entries = Entries::new(log, io.batch, stream);
            output.splitter.push(bytes, |tag, head, tail| entries.add(tag, head, tail));
            entries.flush();
        }
        let mut behind = false;
        for attached in &mut self.attached {
            let place = attached.sink_mut(stream);
            let Some(sink) = place else { continue };
            match sink.send(io.poller, bytes) {
                Delivery::Done => {}
                Delivery::Behind => behind = true,
                Delivery::Gone => drop_sink(io.poller, place),
            }
        }
        self.attached.retain(Attached::is_alive);
        if behind && !self.draining {
            self.pause(io.poller, stream);
        }
    }

    /// Flushes the last line and lets clients see the end.
    fn end(&mut self, io: &mut Io<'_>, stream: Stream) {
        let Some(mut output) = self.output_mut(stream).take() else { return };
        if let Some(token) = output.token {
            io.poller.remove(&output.fd, token);
        }
        if let Some(log) = &mut self.log {
            let mut entries = Entries::new(log, io.batch, stream);
            output.splitter.finish(|tag, head, tail| entries.add(tag, head, tail));
            entries.flush();
        }
        for attached in &mut self.attached {
            let sink = attached.sink_mut(stream);
            if sink.as_ref().is_some_and(|sink| sink.pending.is_empty()) {
                drop_sink(io.poller, sink);
            }
        }
        self.attached.retain(Attached::is_alive);
    }

    /// The container is dead: reads on without regard to clients that are behind.
    pub(super) fn drain(&mut self, io: &mut Io<'_>) {
        self.draining = true;
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.resume(io.poller, stream);
            while self.pump(io, stream) {}
        }
    }

    /// Nothing more is waited for: whoever still holds the other end is not the container.
    pub(super) fn give_up(&mut self, io: &mut Io<'_>) {
        self.end(io, Stream::Stdout);
        self.end(io, Stream::Stderr);
        self.close_stdin(io.poller);
        for attached in &mut self.attached {
            attached.drop_input(io.poller);
        }
        self.attached.retain(Attached::is_alive);
        self.log = None;
    }

    fn pause(&mut self, poller: &mut Poller, stream: Stream) {
        if let Some(output) = self.output_mut(stream)
            && let Some(token) = output.token.take()
        {
            poller.remove(&output.fd, token);
        }
    }

    fn resume(&mut self, poller: &mut Poller, stream: Stream) {
        let source = Source::Output(self.container, stream);
        if let Some(output) = self.output_mut(stream)
            && output.token.is_none()
        {
            output.token = poller.add(&output.fd, READ, source).ok();
        }
    }

    /// A client's end can take more, or is gone.
    pub(super) fn sink_ready(&mut self, poller: &mut Poller, key: Key, stream: Stream, gone: bool) {
        let ended = self.output_mut(stream).is_none();
        let found = self.attached.iter_mut().find(|attached| attached.key == key);
        let Some(place) = found.map(|attached| attached.sink_mut(stream)) else { return };
        if let Some(sink) = place {
            let delivery = if gone { Delivery::Gone } else { sink.send(poller, b"") };
            match delivery {
                Delivery::Behind => return,
                Delivery::Done if !ended => {}
                Delivery::Done | Delivery::Gone => drop_sink(poller, place),
            }
        }
        self.attached.retain(Attached::is_alive);
        let is_behind = |attached: &Attached| {
            attached.sink(stream).is_some_and(|sink| !sink.pending.is_empty())
        };
        if !self.attached.iter().any(is_behind) {
            self.resume(poller, stream);
        }
    }

    /// Unregisters everything, for a container that is forgotten.
    pub(super) fn close(&mut self, poller: &mut Poller) {
        self.pause(poller, Stream::Stdout);
        self.pause(poller, Stream::Stderr);
        self.close_stdin(poller);
        for attached in &mut self.attached {
            attached.drop_input(poller);
            drop_sink(poller, &mut attached.stdout);
            drop_sink(poller, &mut attached.stderr);
        }
        self.attached.clear();
        self.stdout = None;
        self.stderr = None;
    }
}

impl Attached {
    pub(super) fn sink_mut(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn sink(&self, stream: Stream) -> Option<&Sink> {
        match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some() || self.input.is_some()
    }

    pub(super) fn drop_input(&mut self, poller: &mut Poller) {
        if let Some(input) = self.input.take()
            && let Some(token) = input.token
        {
            poller.remove(&input.fd, token);
        }
    }
}

pub(super) fn drop_sink(poller: &mut Poller, place: &mut Option<Sink>) {
    if let Some(sink) = place.take() {
        poller.remove(&sink.fd, sink.token);
    }
}

impl Sink {
    /// Sends what waited and then `bytes`; what the client does not take waits.
    fn send(&mut self, poller: &Poller, bytes: &[u8]) -> Delivery {
        let had_pending = !self.pending.is_empty();
        self.pending.extend_from_slice(if had_pending { bytes } else { b"" });
        let source = if had_pending { &self.pending[..] } else { bytes };
        let sent = match write_some(&self.fd, source) {
            Ok(sent) => sent,
            Err(_) => return Delivery::Gone,
        };
        if had_pending {
            self.pending.drain(..sent);
        } else {
            self.pending.extend_from_slice(bytes.get(sent..).unwrap_or_default());
        }
        let interest = if self.pending.is_empty() { NOTHING } else { WRITE };
        if poller.change(&self.fd, self.token, interest).is_err() {
            return Delivery::Gone;
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
            Delivery::Done
        } else {
            Delivery::Behind
        }
    }
}

/// Writes until everything is gone or the other end is full.
pub(super) fn write_some(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::write(fd.as_fd(), rest) {
            Ok(length) => written += length,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(written)
}

/// Entries of one read on their way to the log.
struct Entries<'a> {
    log: &'a mut LogFile,
    batch: &'a mut Vec<u8>,
    at: String,
    stream: &'static str,
}

impl<'a> Entries<'a> {
    fn new(log: &'a mut LogFile, batch: &'a mut Vec<u8>, stream: Stream) -> Self {
        batch.clear();
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        Self { log, batch, at: log::timestamp(super::now()), stream }
    }

    fn add(&mut self, tag: log::Tag, head: &[u8], tail: &[u8]) {
        // Time, stream and tag take less than 64 bytes.
        if self.batch.len() + head.len() + tail.len() + 64 > log::BATCH {
            self.flush();
        }
        log::format(self.batch, self.at.as_bytes(), self.stream, tag, [head, tail]);
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.log.write(self.batch, &self.at);
            self.batch.clear();
        }
    }
}
