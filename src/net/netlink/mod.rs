//! A small synchronous netlink client: batches out, acknowledgements in.
//!
//! ```text
//!   Batch: [message 1][message 2]…[message n]  ── one sendmsg ──▶  kernel
//!   Socket::run  ◀── one acknowledgement per message (or the last only) ──
//! ```
//!
//! The kernel works through a batch inside `sendmsg`, so its answers are queued before the call
//! returns: nothing here waits for anything but the kernel's own locks. The descriptor decides
//! which network namespace is spoken to; this module never changes namespaces.
//!
//! `route` builds and reads rtnetlink messages; `net::nft` speaks nfnetlink over the same socket.

mod notices;
pub(crate) mod route;

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, recvfrom, send};

pub(crate) use self::notices::Notices;
use crate::error::{Context, Error, Kind, Result};

const HEADER: usize = 16;
/// The kernel fills at most 32 KiB per datagram of a dump.
const BUFFER: usize = 32 * 1024;
/// Only a descriptor that is no netlink socket could make us wait this long.
const PATIENCE: Duration = Duration::from_secs(10);

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

const CAPPED: u16 = 0x100;
const ACK_ATTRIBUTES: u16 = 0x200;
const ACK_MESSAGE: u16 = 1;

/// Which part of the kernel a socket opened here speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Route,
    Netfilter,
}

impl Protocol {
    fn number(self) -> isize {
        match self {
            Self::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Self::Netfilter => netlink_sys::protocols::NETLINK_NETFILTER,
        }
    }
}

/// What the kernel refused, with its own words where it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) errno: Errno,
    pub(crate) operation: String,
    pub(crate) explanation: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = std::io::Error::from(self.errno);
        match &self.explanation {
            Some(text) => write!(f, "{}: {error} ({text})", self.operation),
            None => write!(f, "{}: {error}", self.operation),
        }
    }
}

impl std::error::Error for Refused {}

/// Messages that travel in one datagram, each with the words for its failure.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    operations: Vec<Cow<'static, str>>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), operations: Vec::new() }
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a message: `body` is everything after the netlink header.
    pub(crate) fn push(
        &mut self,
        operation: impl Into<Cow<'static, str>>,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) {
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        // The sequence number is filled in when the batch is sent; the port is the kernel's.
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.operations.push(operation.into());
    }

    /// Numbers the messages from `first` on, and counts those that ask for an acknowledgement.
    fn number(&mut self, first: u32) -> usize {
        let mut rest = self.bytes.as_mut_slice();
        let mut sequence = first;
        let mut acknowledged = 0;
        while let Some(header) = Header::read(rest) {
            if let Some(field) = rest.get_mut(8..12) {
                field.copy_from_slice(&sequence.to_ne_bytes());
            }
            acknowledged += usize::from(header.flags & ACK != 0);
            sequence = sequence.wrapping_add(1);
            rest = rest.get_mut(header.padded()..).unwrap_or_default();
        }
        acknowledged
    }
}

/// The fixed part of every netlink message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    length: usize,
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let flags = u16_at(bytes, 6)?;
        Some(Self { length, kind: u16_at(bytes, 4)?, flags, sequence: u32_at(bytes, 8)? })
    }

    fn padded(&self) -> usize {
        self.length.next_multiple_of(4)
    }
}

/// A netlink socket in one network namespace.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

/// Sequence numbers never repeat within the process, so an answer that nobody waited for is not
/// taken for a later one, whoever reads the socket next.
static SEQUENCE: AtomicU32 = AtomicU32::new(1);

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: Protocol) -> Result<Self> {
        let socket =
            netlink_sys::Socket::new(protocol.number()).context("open a netlink socket")?;
        // Without these the kernel repeats our message in each error and keeps its reason.
        socket.set_ext_ack(true).context("ask for netlink explanations")?;
        socket.set_cap_ack(true).context("ask for short netlink acknowledgements")?;
        let fd = socket.as_fd().try_clone_to_owned().context("keep the netlink socket")?;
        Self::from_fd(fd)
    }

    /// Takes a netlink socket that somebody else opened, such as a pod's monitor.
    pub(crate) fn from_fd(fd: OwnedFd) -> Result<Self> {
        rustix::net::sockopt::set_socket_timeout(
            &fd,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )
        .context("set the netlink socket's timeout")?;
        Ok(Self { fd })
    }

    #[cfg(test)]
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends the batch and collects its acknowledgements. The first refusal is returned after
    /// all of them are read, so that none is left for the next caller.
    pub(crate) fn run(&mut self, batch: Batch) -> Result<(), Refused> {
        self.exchange(batch, |_, _| {})
    }

    /// Sends the batch and also hands over every message the kernel answers with.
    pub(crate) fn exchange(
        &mut self,
        mut batch: Batch,
        mut take: impl FnMut(Header, &[u8]),
    ) -> Result<(), Refused> {
        let count = u32::try_from(batch.operations.len()).unwrap_or(u32::MAX);
        let first = SEQUENCE.fetch_add(count, Ordering::Relaxed);
        let mut wanted = batch.number(first);
        self.send(&batch)?;

        // Not kept with the socket: there is one for each pod.
        let mut buffer = vec![0; BUFFER];
        let mut answers = Answers { batch: &batch, first, refused: None };
        while wanted > 0 {
            let completed = self.receive(&mut buffer, &mut answers, &mut take)?;
            wanted = wanted.saturating_sub(completed);
            // A refused message need not have asked for an acknowledgement, and what followed
            // it in an atomic batch is not answered at all.
            if answers.refused.is_some() && !self.has_more() {
                break;
            }
        }
        answers.refused.map_or(Ok(()), Err)
    }

    /// Asks for a whole table and hands over each entry.
    pub(crate) fn dump(
        &mut self,
        operation: &'static str,
        kind: u16,
        body: &[u8],
        take: impl FnMut(Header, &[u8]),
    ) -> Result<(), Refused> {
        let mut batch = Batch::new();
        // A dump ends with a message of its own that stands for the acknowledgement.
        batch.push(operation, kind, DUMP | ACK, body);
        self.exchange(batch, take)
    }

    fn send(&self, batch: &Batch) -> Result<(), Refused> {
        loop {
            match send(&self.fd, &batch.bytes, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(refused(errno, "send to netlink")),
            }
        }
    }

    fn has_more(&self) -> bool {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        recvfrom(&self.fd, &mut [0_u8; 1], flags).is_ok()
    }

    /// Reads one datagram; returns how many of the awaited answers it completed.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        answers: &mut Answers<'_>,
        take: &mut impl FnMut(Header, &[u8]),
    ) -> Result<usize, Refused> {
        let (filled, sender) = loop {
            match recvfrom(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((_, filled, sender)) => break (filled, sender),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(refused(errno, "read from netlink")),
            }
        };
        // A process in the pod with CAP_NET_ADMIN could write to this socket: only the kernel
        // has port 0.
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        if sender.is_none_or(|sender| sender.pid() != 0) {
            return Ok(0);
        }
        Ok(answers.read(buffer.get(..filled).unwrap_or_default(), take))
    }
}

/// What is known so far of the answers to one batch.
struct Answers<'a> {
    batch: &'a Batch,
    first: u32,
    refused: Option<Refused>,
}

impl Answers<'_> {
    /// Reads the messages of one datagram; returns how many of them complete an operation.
    fn read(&mut self, mut datagram: &[u8], take: &mut impl FnMut(Header, &[u8])) -> usize {
        let mut completed = 0;
        while let Some(header) = Header::read(datagram) {
            let body = datagram.get(HEADER..header.length).unwrap_or_default();
            datagram = datagram.get(header.padded()..).unwrap_or_default();
            let index = header.sequence.wrapping_sub(self.first);
            let operation = self.batch.operations.get(usize::try_from(index).unwrap_or(usize::MAX));
            let Some(operation) = operation else { continue };
            match header.kind {
                // A dump that fails half way says so in its last message.
                TYPE_DONE | TYPE_ERROR => {
                    completed += 1;
                    if let Some(errno) = errno(body) {
                        let explanation = explanation(header.flags, body);
                        let operation = operation.to_string();
                        self.refused.get_or_insert(Refused { errno, operation, explanation });
                    }
                }
                _ => take(header, body),
            }
        }
        completed
    }
}

impl From<Refused> for Error {
    /// The kernel's answer as an error of ours: what is missing or in the way has its own kind.
    fn from(refused: Refused) -> Self {
        let kind = match refused.errno {
            Errno::PERM | Errno::ACCESS => Kind::Denied,
            Errno::EXIST => Kind::AlreadyExists,
            Errno::NOBUFS | Errno::NOMEM | Errno::NFILE => Kind::Exhausted,
            Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => Kind::Unsupported,
            _ => Kind::Internal,
        };
        Self::new(kind, refused.to_string())
    }
}

fn refused(errno: Errno, operation: &str) -> Refused {
    Refused { errno, operation: operation.to_owned(), explanation: None }
}

/// An acknowledgement holds the negative errno, or zero for success.
fn errno(body: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (code != 0).then(|| Errno::from_raw_os_error(-code))
}

/// The text that the kernel may add after the (possibly cut) copy of our message.
fn explanation(flags: u16, body: &[u8]) -> Option<String> {
    if flags & ACK_ATTRIBUTES == 0 {
        return None;
    }
    let copied = usize::try_from(u32_at(body, 4)?).ok()?;
    let skip = if flags & CAPPED != 0 { HEADER } else { copied.next_multiple_of(4) };
    Attributes(body.get(4 + skip..)?)
        .find(|(kind, _)| *kind == ACK_MESSAGE)
        .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

/// Walks the attributes of a message; a damaged tail ends the walk.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_attribute_ends_the_walk_without_reading_past_it() {
        for bytes in [&[][..], &[1, 0, 0, 0], &[200, 0, 1, 0, 9], &[3, 0, 1, 0, 0, 0, 0, 0]] {
            assert_eq!(Attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn a_damaged_header_is_not_read() {
        let mut short = vec![0; HEADER];
        short[0] = 8;
        let mut long = vec![0; HEADER];
        long[0] = 40;
        for bytes in [&[][..], &short, &long] {
            assert!(Header::read(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_batch_numbers_its_messages_and_counts_the_acknowledged_ones() {
        let mut batch = Batch::new();
        batch.push("one", 16, ACK, &[1, 2, 3]);
        batch.push("two", 16, 0, &[]);

        assert_eq!(batch.number(7), 1);
        let second = Header::read(&batch.bytes[20..]).unwrap();
        assert_eq!((second.sequence, second.length), (8, HEADER));
    }
}
