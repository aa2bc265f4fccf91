//! Framing between monitor and clients: bytes and descriptors in, messages out. No blocking here.
//!
//! ```text
//! ┌────────────┬─────────────┬───────────────────────┐
//! │ length u32 │ descriptors │ MessagePack, `length` │   both numbers little-endian
//! │            │ u32         │ bytes                 │
//! └────────────┴─────────────┴───────────────────────┘
//! ```
//!
//! Descriptors travel as `SCM_RIGHTS` beside the first bytes of their frame, at most
//! [`BATCH`] with one byte; a frame with more spends a byte per batch. The receiver may get them
//! merged with the tail of the frame before, which is why the header counts them: a frame is whole
//! when its bytes and its descriptors are there, and takes them in order.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};

/// A frame above this is a fault of the peer: plans are a few KiB, filters a few hundred.
const MAX_FRAME: usize = 64 * 1024 * 1024;
const HEADER: usize = 8;
/// The kernel takes 253 descriptors in one message.
const BATCH: usize = 250;
/// One batch for each byte of the header, so that no batch waits for the payload.
const MAX_DESCRIPTORS: usize = BATCH * HEADER;

/// A message as it came: still encoded, with its descriptors.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Frame {
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        rmp_serde::from_slice(&self.payload).context("decode a message")
    }
}

/// Collects what a socket delivers until a frame is whole.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if one is there.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let count = u32::from_le_bytes([e, f, g, h]) as usize;
        if length > MAX_FRAME {
            return Err(Error::invalid(format!("a message of {length} bytes is too long")));
        }
        if count > MAX_DESCRIPTORS {
            return Err(Error::invalid(format!("a message with {count} descriptors")));
        }
        let Some(payload) = self.bytes.get(HEADER..HEADER + length) else {
            return Ok(None);
        };
        if self.fds.len() < count {
            return Err(Error::invalid(format!(
                "a message announced {count} descriptors and brought {}",
                self.fds.len()
            )));
        }
        let frame = Frame { payload: payload.to_vec(), fds: self.fds.drain(..count).collect() };
        self.bytes.drain(..HEADER + length);
        // A large plan comes once: do not keep its room for the life of the connection.
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
            self.fds = VecDeque::new();
        }
        Ok(Some(frame))
    }

    /// Reads once from a non-blocking socket into `scratch` and takes over what came.
    /// `Ok(0)` is the end of the stream.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        scratch: &mut [u8],
    ) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = {
            let mut into = [IoSliceMut::new(scratch)];
            rustix::net::recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        // Descriptors were lost (our limit is reached): the frame they belong to cannot be served.
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Errno::MFILE);
        }
        if let Some(bytes) = scratch.get(..received.bytes) {
            self.feed(bytes);
        }
        Ok(received.bytes)
    }
}

/// Encodes a message and its descriptor count.
fn encode<T: Serialize>(message: &T, fds: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0_u8; HEADER];
    rmp_serde::encode::write_named(&mut bytes, message).context("encode a message")?;
    let length = bytes.len() - HEADER;
    if length > MAX_FRAME {
        return Err(Error::invalid(format!("a message of {length} bytes is too long")));
    }
    if fds > MAX_DESCRIPTORS {
        return Err(Error::invalid(format!("a message with {fds} descriptors")));
    }
    let numbers = [u32::try_from(length), u32::try_from(fds)];
    for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.context("encode a message")?.to_le_bytes());
    }
    Ok(bytes)
}

/// What waits to be sent on one socket, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Outgoing>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outbox {
    pub(crate) fn push<T: Serialize>(&mut self, message: &T, fds: Vec<OwnedFd>) -> Result<()> {
        let bytes = encode(message, fds.len())?;
        self.frames.push_back(Outgoing { bytes, sent: 0, fds });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes.len() - frame.sent).sum()
    }

    /// Sends until everything is gone (`Ok`) or the socket is full (`WOULDBLOCK`).
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        while let Some(frame) = self.frames.front_mut() {
            frame.send_some(socket)?;
            if frame.sent == frame.bytes.len() {
                self.frames.pop_front();
            }
        }
        self.frames = VecDeque::new();
        Ok(())
    }
}

impl Outgoing {
    fn send_some(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        // All batches but the last spend one byte each, the last goes with the rest.
        let batch = self.fds.len().min(BATCH);
        let length = if self.fds.len() > BATCH { 1 } else { rest.len() };
        let rest = rest.get(..length).unwrap_or_default();

        let passed: Vec<BorrowedFd<'_>> = self.fds.iter().take(batch).map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&passed)) {
            return Err(Errno::TOOBIG);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = rustix::net::sendmsg(socket, &[IoSlice::new(rest)], &mut control, flags)?;
        drop(passed);
        self.fds.drain(..batch);
        self.sent += sent;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_frame_cut_anywhere_comes_out_whole() {
        let bytes = encode(&("hello", 7), 0).unwrap();
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes[..cut]);
            assert!(decoder.next().unwrap().is_none(), "whole after {cut} bytes");
            decoder.feed(&bytes[cut..]);
            let frame = decoder.next().unwrap().expect("a frame");
            assert_eq!(frame.decode::<(String, i32)>().unwrap(), ("hello".to_owned(), 7));
            assert!(decoder.next().unwrap().is_none());
        }
    }

    #[test]
    fn frames_sent_together_keep_their_own_descriptors() {
        let (ours, theirs) = pair();
        let mut outbox = Outbox::default();
        outbox.push(&1, vec![null()]).unwrap();
        outbox.push(&2, vec![]).unwrap();
        outbox.push(&3, vec![null(), null()]).unwrap();
        outbox.flush(ours.as_fd()).unwrap();

        let mut decoder = Decoder::default();
        let mut scratch = [0; 5];
        let mut seen = Vec::new();
        while seen.len() < 3 {
            decoder.receive(theirs.as_fd(), &mut scratch).unwrap();
            while let Some(frame) = decoder.next().unwrap() {
                seen.push((frame.decode::<i32>().unwrap(), frame.fds.len()));
            }
        }
        assert_eq!(seen, [(1, 1), (2, 0), (3, 2)]);
    }

    #[test]
    fn more_descriptors_than_one_message_takes_go_in_batches() {
        let (ours, theirs) = pair();
        let fds: Vec<OwnedFd> = std::iter::repeat_with(null).take(BATCH * 2 + 7).collect();
        let mut outbox = Outbox::default();
        outbox.push(&"many", fds).unwrap();
        outbox.flush(ours.as_fd()).unwrap();

        let mut decoder = Decoder::default();
        let frame = loop {
            decoder.receive(theirs.as_fd(), &mut [0; 4096]).unwrap();
            if let Some(frame) = decoder.next().unwrap() {
                break frame;
            }
        };
        assert_eq!(frame.fds.len(), BATCH * 2 + 7);
    }

    #[test]
    fn a_header_that_asks_for_too_much_is_an_error_before_anything_is_allocated() {
        let mut decoder = Decoder::default();
        decoder.feed(&u32::MAX.to_le_bytes());
        decoder.feed(&0_u32.to_le_bytes());
        assert!(decoder.next().unwrap_err().chain().contains("too long"));

        let mut decoder = Decoder::default();
        decoder.feed(&0_u32.to_le_bytes());
        decoder.feed(&u32::MAX.to_le_bytes());
        assert!(decoder.next().unwrap_err().chain().contains("descriptors"));
    }

    #[test]
    fn a_message_without_its_descriptors_is_an_error() {
        let bytes = encode(&1, 2).unwrap();
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        assert!(decoder.next().unwrap_err().chain().contains("announced 2"));
    }
}
