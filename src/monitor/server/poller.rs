//! What the loop waits for: descriptors, each with a name for what it is.
//!
//! Names are never used twice, so an event that was fetched before its descriptor was removed
//! finds no name and is dropped.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// Clients, containers, execs and attachments are numbered as they come.
pub(super) type Key = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Or the terminal.
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    Container(Key),
    Exec(Key),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Signals,
    Client(Key),
    /// A child that is not yet its program.
    Handshake(Child),
    /// A container ran out of memory.
    Memory(Key),
    /// Output of a container.
    Output(Key, Stream),
    /// A container's standard input that was full.
    Stdin(Key),
    /// Where an attached client reads (container, attachment).
    Sink(Key, Key, Stream),
    /// Where an attached client writes (container, attachment).
    Input(Key, Key),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(u64);

/// What happened on a descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Happened {
    pub(super) source: Source,
    pub(super) writable: bool,
    /// The other end is gone.
    pub(super) closed: bool,
}

pub(super) struct Poller {
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    last: u64,
    events: Vec<epoll::Event>,
}

pub(super) const READ: epoll::EventFlags = epoll::EventFlags::IN;
pub(super) const WRITE: epoll::EventFlags = epoll::EventFlags::OUT;
/// A file of the kernel has changed.
pub(super) const CHANGE: epoll::EventFlags = epoll::EventFlags::PRI;
/// Errors and hang-ups are reported even then.
pub(super) const NOTHING: epoll::EventFlags = epoll::EventFlags::empty();

impl Poller {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sources: BTreeMap::new(),
            last: 0,
            events: Vec::with_capacity(16),
        })
    }

    pub(super) fn add(
        &mut self,
        fd: impl AsFd,
        interest: epoll::EventFlags,
        source: Source,
    ) -> Result<Token, Errno> {
        self.last += 1;
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(self.last), interest)?;
        self.sources.insert(self.last, source);
        Ok(Token(self.last))
    }

    pub(super) fn change(
        &self,
        fd: impl AsFd,
        token: Token,
        interest: epoll::EventFlags,
    ) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token.0), interest)
    }

    /// Must be called before the descriptor is closed: a child that is being forked holds a copy,
    /// and the kernel reports events until the last copy is closed.
    pub(super) fn remove(&mut self, fd: impl AsFd, token: Token) {
        self.sources.remove(&token.0);
        // Fails only for what is not there, which is what is wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for something to happen or the time to pass.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Happened>, Errno> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.events.clear();
        let space = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, space, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let gone = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let happened = self.events.iter().filter_map(|event| {
            // Copied out: the kernel's struct is packed.
            let (data, flags) = (event.data, event.flags);
            Some(Happened {
                source: *self.sources.get(&data.u64())?,
                writable: flags.contains(WRITE),
                closed: flags.intersects(gone),
            })
        });
        Ok(happened.collect())
    }
}
