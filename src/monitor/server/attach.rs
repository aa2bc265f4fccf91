//! Clients that join a container's streams, and its standard input.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::poller::{Key, NOTHING, Poller, READ, Source, Stream, WRITE};
use super::streams::{Attached, Input, Io, Sink, Streams, drop_sink, write_some};

/// What a client asked to join.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl Streams {
    /// Joins a client; the descriptors are its ends, in the order stdin, stdout, stderr.
    pub(super) fn attach(
        &mut self,
        poller: &mut Poller,
        key: Key,
        wanted: Wanted,
    ) -> Result<Vec<OwnedFd>, Errno> {
        let mut attached = Attached { key, stdout: None, stderr: None, input: None };
        let mut theirs = Vec::new();
        if wanted.stdin {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            // Without a standard input the read end goes at once and the client sees a closed pipe.
            if self.stdin.is_some() {
                attached.input = Some(self.join_input(poller, key, read)?);
            }
            theirs.push(write);
        }
        for (stream, wanted) in [(Stream::Stdout, wanted.stdout), (Stream::Stderr, wanted.stderr)] {
            if wanted {
                let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                *attached.sink_mut(stream) = self.join_sink(poller, key, stream, write)?;
                theirs.push(read);
            }
        }
        self.attached.push(attached);
        self.attached.retain(Attached::is_alive);
        Ok(theirs)
    }

    /// Joins a client to a terminal: one socket carries both directions.
    pub(super) fn attach_terminal(
        &mut self,
        poller: &mut Poller,
        key: Key,
        wanted: Wanted,
    ) -> Result<Vec<OwnedFd>, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let mut attached = Attached { key, stdout: None, stderr: None, input: None };
        if wanted.stdin && self.stdin.is_some() {
            let second = ours.try_clone().map_err(|_| Errno::MFILE)?;
            attached.input = Some(self.join_input(poller, key, second)?);
        }
        if wanted.stdout {
            attached.stdout = self.join_sink(poller, key, Stream::Stdout, ours)?;
        }
        self.attached.push(attached);
        self.attached.retain(Attached::is_alive);
        Ok(vec![theirs])
    }

    fn join_input(&self, poller: &mut Poller, key: Key, fd: OwnedFd) -> Result<Input, Errno> {
        set_nonblocking(&fd)?;
        let token = Some(poller.add(&fd, READ, Source::Input(self.container, key))?);
        Ok(Input { fd, token })
    }

    /// `None` when the stream has ended: the client sees the end at once.
    fn join_sink(
        &self,
        poller: &mut Poller,
        key: Key,
        stream: Stream,
        fd: OwnedFd,
    ) -> Result<Option<Sink>, Errno> {
        let open = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        if open.is_none() {
            return Ok(None);
        }
        set_nonblocking(&fd)?;
        // With nothing to send only the client's going is of interest.
        let token = poller.add(&fd, NOTHING, Source::Sink(self.container, key, stream))?;
        Ok(Some(Sink { fd, token, pending: Vec::new() }))
    }

    /// A client wrote, or ended its standard input.
    pub(super) fn input_ready(&mut self, io: &mut Io<'_>, key: Key) {
        let found = self.attached.iter_mut().find(|attached| attached.key == key);
        let Some(attached) = found else { return };
        let Some(input) = &attached.input else { return };
        let buffer = io.input.get_mut(..4096).unwrap_or_default();
        match rustix::io::read(&input.fd, &mut *buffer) {
            Ok(length) if length > 0 => {
                let bytes = io.input.get(..length).unwrap_or_default().to_vec();
                self.feed_stdin(io.poller, &bytes);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                attached.drop_input(io.poller);
                // A terminal socket whose reader is gone as well is noticed by its sink.
                self.end_input(io.poller);
            }
        }
        self.attached.retain(Attached::is_alive);
    }

    /// The first client to end its input ends that of a container that wants it once.
    fn end_input(&mut self, poller: &mut Poller) {
        let Some(stdin) = &mut self.stdin else { return };
        if stdin.once {
            stdin.closing = true;
            if stdin.pending.is_empty() {
                self.close_stdin(poller);
            }
        }
    }

    fn feed_stdin(&mut self, poller: &mut Poller, bytes: &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        match write_some(&stdin.fd, bytes) {
            Ok(written) if written == bytes.len() => {}
            Ok(written) => {
                stdin.pending.extend_from_slice(bytes.get(written..).unwrap_or_default());
                let source = Source::Stdin(self.container);
                stdin.token = poller.add(&stdin.fd, WRITE, source).ok();
                self.pause_inputs(poller);
            }
            // The container closed it.
            Err(_) => self.close_stdin(poller),
        }
    }

    /// Standard input can take more.
    pub(super) fn stdin_ready(&mut self, poller: &mut Poller) {
        let Some(stdin) = &mut self.stdin else { return };
        match write_some(&stdin.fd, &stdin.pending) {
            Ok(written) => stdin.pending.drain(..written),
            Err(_) => return self.close_stdin(poller),
        };
        if !stdin.pending.is_empty() {
            return;
        }
        stdin.pending = Vec::new();
        if let Some(token) = stdin.token.take() {
            poller.remove(&stdin.fd, token);
        }
        if stdin.closing {
            return self.close_stdin(poller);
        }
        for attached in &mut self.attached {
            if let Some(input) = &mut attached.input
                && input.token.is_none()
            {
                let source = Source::Input(self.container, attached.key);
                input.token = poller.add(&input.fd, READ, source).ok();
            }
        }
    }

    fn pause_inputs(&mut self, poller: &mut Poller) {
        for input in self.attached.iter_mut().filter_map(|attached| attached.input.as_mut()) {
            if let Some(token) = input.token.take() {
                poller.remove(&input.fd, token);
            }
        }
    }

    /// Nobody can write any more; clients see a closed pipe.
    pub(super) fn close_stdin(&mut self, poller: &mut Poller) {
        let Some(stdin) = self.stdin.take() else { return };
        if let Some(token) = stdin.token {
            poller.remove(&stdin.fd, token);
        }
        for attached in &mut self.attached {
            attached.drop_input(poller);
            if !attached.is_alive() {
                drop_sink(poller, &mut attached.stdout);
            }
        }
    }
}

pub(super) fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
}
