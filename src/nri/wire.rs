//! The bytes between runtime and plugin, without I/O.
//!
//! One socket carries two connections, each with ttrpc calls of one direction:
//!
//! ```text
//!   trunk   connection u32 │ length u32 │ bytes of that connection …
//!   ttrpc   length u32 │ stream u32 │ type u8 │ flags u8 │ a Request or a Response
//! ```
//!
//! All numbers are big-endian. A call's stream is an odd number that only grows.

use std::collections::VecDeque;

use prost::Message as _;

use crate::error::{Context, Error, Kind, Result};

/// The calls that a plugin serves.
pub(super) const PLUGIN: u32 = 1;
/// The calls that we serve.
pub(super) const RUNTIME: u32 = 2;

/// Of a ttrpc message without its header.
pub(super) const LARGEST_MESSAGE: usize = 4 << 20;
pub(super) const TRUNK_HEADER: usize = 8;
const HEADER: usize = 10;
/// The peer reads the beginning of a message with a buffer of this size and refuses a trunk frame that
/// is larger; what remains of the message may then come in one frame of any size.
const FIRST_FRAME: usize = 4096;

/// gRPC's numbers, as far as we use them.
pub(super) mod code {
    pub(in crate::nri) const OK: i32 = 0;
    pub(in crate::nri) const UNKNOWN: i32 = 2;
    pub(in crate::nri) const INVALID_ARGUMENT: i32 = 3;
    pub(in crate::nri) const UNIMPLEMENTED: i32 = 12;
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(string, tag = "2")]
    pub(super) method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    pub(super) timeout_nanos: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) payload: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// Other types are for streams of messages, which no NRI call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageType {
    Request = 1,
    Response = 2,
}

/// One message of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) stream: u32,
    pub(super) kind: MessageType,
    pub(super) bytes: Vec<u8>,
}

impl Message {
    pub(super) fn request(stream: u32, request: &Request) -> Self {
        Self { stream, kind: MessageType::Request, bytes: request.encode_to_vec() }
    }

    pub(super) fn response(stream: u32, response: &Response) -> Self {
        Self { stream, kind: MessageType::Response, bytes: response.encode_to_vec() }
    }

    /// As it goes over the trunk. The caller has checked the size.
    pub(super) fn encode(&self, connection: u32) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + self.bytes.len());
        message.extend(length(self.bytes.len()).to_be_bytes());
        message.extend(self.stream.to_be_bytes());
        // A request with nothing to follow closes its side of the stream.
        let flags = u8::from(self.kind == MessageType::Request);
        message.extend([self.kind as u8, flags]);
        message.extend(&self.bytes);
        let (first, rest) = message.split_at(message.len().min(FIRST_FRAME));
        let mut trunk = Vec::with_capacity(2 * TRUNK_HEADER + message.len());
        for frame in [first, rest].into_iter().filter(|frame| !frame.is_empty()) {
            trunk.extend(connection.to_be_bytes());
            trunk.extend(length(frame.len()).to_be_bytes());
            trunk.extend(frame);
        }
        trunk
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The connection and the length of the frame that follows this header.
///
/// # Errors
/// `Unavailable` for a frame larger than any message: the peer does not speak this protocol.
pub(super) fn trunk_header(header: [u8; TRUNK_HEADER]) -> Result<(u32, usize)> {
    let [c0, c1, c2, c3, l0, l1, l2, l3] = header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if length > HEADER + LARGEST_MESSAGE {
        return Err(broken(&format!("a frame of {length} bytes")));
    }
    Ok((u32::from_be_bytes([c0, c1, c2, c3]), length))
}

/// What has arrived of one connection and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: VecDeque<u8>,
}

impl Inbox {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// # Errors
    /// `Unavailable` for bytes that are no message.
    pub(super) fn next(&mut self) -> Result<Option<Message>> {
        let Some(header) = self.bytes.make_contiguous().first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > LARGEST_MESSAGE {
            return Err(broken(&format!("a message of {length} bytes")));
        }
        let kind = match kind {
            1 => MessageType::Request,
            2 => MessageType::Response,
            other => return Err(broken(&format!("a message of type {other}"))),
        };
        if self.bytes.len() < HEADER + length {
            return Ok(None);
        }
        self.bytes.drain(..HEADER);
        let bytes = self.bytes.drain(..length).collect();
        Ok(Some(Message { stream: u32::from_be_bytes([s0, s1, s2, s3]), kind, bytes }))
    }
}

pub(super) fn decode<T: prost::Message + Default>(bytes: &[u8], what: &str) -> Result<T> {
    T::decode(bytes).with_context(|| format!("read {what}")).kind(Kind::Unavailable)
}

fn broken(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the plugin sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of `trunk`, by connection.
    fn frames(mut trunk: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, rest)) = trunk.split_first_chunk() {
            let (connection, length) = trunk_header(*header).unwrap();
            let (frame, rest) = rest.split_at(length);
            frames.push((connection, frame.to_vec()));
            trunk = rest;
        }
        frames
    }

    fn message(size: usize) -> Message {
        Message { stream: 7, kind: MessageType::Request, bytes: vec![0xab; size] }
    }

    #[test]
    fn a_message_arrives_whole_however_it_is_cut() {
        for size in [0, 1, 4085, 4086, 4087, 100_000] {
            let trunk = message(size).encode(PLUGIN);
            let mut inbox = Inbox::default();
            let mut arrived = Vec::new();
            for (connection, frame) in frames(&trunk) {
                assert_eq!(connection, PLUGIN);
                for piece in frame.chunks(1000) {
                    inbox.push(piece);
                    arrived.extend(inbox.next().unwrap());
                }
            }
            assert_eq!(arrived, [message(size)]);
        }
    }

    #[test]
    fn the_first_frame_fits_the_buffer_of_a_reader() {
        let frames = frames(&message(100_000).encode(RUNTIME));
        let sizes: Vec<usize> = frames.iter().map(|(_, frame)| frame.len()).collect();
        assert_eq!(sizes, [FIRST_FRAME, HEADER + 100_000 - FIRST_FRAME]);
    }

    #[test]
    fn a_request_looks_as_the_protocol_says() {
        let trunk = Message { stream: 1, kind: MessageType::Request, bytes: vec![9] }.encode(2);
        let expected = [0, 0, 0, 2, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 9];
        assert_eq!(trunk, expected);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut inbox = Inbox::default();
        inbox.push(&[0xff; HEADER]);
        assert_eq!(inbox.next().unwrap_err().kind(), Kind::Unavailable);
        let mut inbox = Inbox::default();
        inbox.push(&[0, 0, 0, 0, 0, 0, 0, 1, 3, 0]);
        assert!(inbox.next().unwrap_err().chain().contains("type 3"));
        assert!(trunk_header([0, 0, 0, 1, 0xff, 0, 0, 0]).is_err());
    }
}
