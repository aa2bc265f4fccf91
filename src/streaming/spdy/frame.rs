//! SPDY/3.1 frames between bytes and values; no input or output of its own.
//!
//! A data frame may be 16 MiB long. It is handed on in the pieces in which it arrives, so the
//! decoder never holds more than one control frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{Deflater, Headers, Inflater};

/// The longest control frame that is accepted; real ones are below one kilobyte.
const CONTROL_LIMIT: usize = 64 << 10;
const HEADER: usize = 8;
const VERSION: u16 = 3;
const ID_MASK: u32 = 0x7fff_ffff;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const SETTING_INITIAL_WINDOW: u32 = 7;

/// The peer broke the protocol; the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    ProtocolError,
    InvalidStream,
    Refused,
    Cancel,
    FlowControl,
    AlreadyClosed,
    /// Any other code of a peer.
    Other(u32),
}

impl Reset {
    fn code(self) -> u32 {
        match self {
            Self::ProtocolError => 1,
            Self::InvalidStream => 2,
            Self::Refused => 3,
            Self::Cancel => 5,
            Self::FlowControl => 7,
            Self::AlreadyClosed => 9,
            Self::Other(code) => code,
        }
    }

    fn of(code: u32) -> Self {
        match code {
            1 => Self::ProtocolError,
            2 => Self::InvalidStream,
            3 => Self::Refused,
            5 => Self::Cancel,
            7 => Self::FlowControl,
            9 => Self::AlreadyClosed,
            other => Self::Other(other),
        }
    }
}

/// Which directions a new stream closes at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The opener sends nothing.
    pub(crate) fin: bool,
    /// The opener listens to nothing.
    pub(crate) unidirectional: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        id: u32,
        opening: Opening,
        headers: Headers,
    },
    SynReply {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        id: u32,
        reset: Reset,
    },
    /// Of all settings, only the initial window of streams matters to us.
    Settings {
        initial_window: Option<u32>,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
        status: u32,
    },
    Headers {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    WindowUpdate {
        id: u32,
        delta: u32,
    },
    Data {
        id: u32,
        fin: bool,
        data: Bytes,
    },
    /// A control frame of a kind that we need not know.
    Unknown,
}

/// Takes frames off the front of what was read.
pub(crate) struct Decoder {
    inflater: Inflater,
    /// The data frame whose payload has not all arrived: stream, last piece finishes, bytes left.
    open: Option<(u32, bool, usize)>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { inflater: Inflater::new(), open: None }
    }

    /// `None` when more bytes are needed.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
        if let Some((id, fin, left)) = self.open {
            if buffer.is_empty() {
                return Ok(None);
            }
            return Ok(Some(self.data(id, fin, left, buffer)));
        }
        let Some(&header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, flags, e, f, g] = header;
        let word = u32::from_be_bytes([a, b, c, d]);
        let length = usize::try_from(u32::from_be_bytes([0, e, f, g])).unwrap_or(usize::MAX);
        if word & !ID_MASK == 0 {
            if word == 0 {
                return Err(Malformed("data for stream zero"));
            }
            buffer.advance(HEADER);
            return Ok(Some(self.data(word, flags & FLAG_FIN != 0, length, buffer)));
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(Malformed("a version other than 3"));
        }
        if length > CONTROL_LIMIT {
            return Err(Malformed("a control frame of more than 64 KiB"));
        }
        if buffer.len() < HEADER + length {
            return Ok(None);
        }
        buffer.advance(HEADER);
        let payload = buffer.split_to(length).freeze();
        self.control(u16::from_be_bytes([c, d]), flags, payload).map(Some)
    }

    /// The piece of a data frame that is here; the last one carries the end of the stream.
    fn data(&mut self, id: u32, fin: bool, left: usize, buffer: &mut BytesMut) -> Frame {
        let here = left.min(buffer.len());
        // Copied, because a piece that waits for its reader would keep the whole buffer alive.
        let data = buffer.get(..here).map(Bytes::copy_from_slice).unwrap_or_default();
        buffer.advance(here);
        let left = left - data.len();
        self.open = (left > 0).then_some((id, fin, left));
        Frame::Data { id, fin: fin && left == 0, data }
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: Bytes) -> Result<Frame, Malformed> {
        let fin = flags & FLAG_FIN != 0;
        let frame = match kind {
            1 => {
                let id = take_id(&mut payload)?;
                // The associated stream, the priority and the credential slot.
                if payload.len() < 6 {
                    return Err(Malformed("a cut SYN_STREAM"));
                }
                payload.advance(6);
                let opening = Opening { fin, unidirectional: flags & FLAG_UNIDIRECTIONAL != 0 };
                let headers = self.inflater.read(&payload)?;
                Frame::SynStream { id, opening, headers }
            }
            2 => {
                let id = take_id(&mut payload)?;
                Frame::SynReply { id, fin, headers: self.inflater.read(&payload)? }
            }
            3 => {
                let id = take_id(&mut payload)?;
                Frame::RstStream { id, reset: Reset::of(take_word(&mut payload)?) }
            }
            4 => settings(&mut payload)?,
            6 => Frame::Ping { id: take_word(&mut payload)? },
            7 => {
                let last = take_word(&mut payload)? & ID_MASK;
                Frame::GoAway { last, status: take_word(&mut payload)? }
            }
            8 => {
                let id = take_id(&mut payload)?;
                Frame::Headers { id, fin, headers: self.inflater.read(&payload)? }
            }
            9 => {
                // Stream zero is the connection as a whole.
                let id = take_word(&mut payload)? & ID_MASK;
                let delta = take_word(&mut payload)? & ID_MASK;
                if delta == 0 {
                    return Err(Malformed("a window update of nothing"));
                }
                Frame::WindowUpdate { id, delta }
            }
            _ => Frame::Unknown,
        };
        Ok(frame)
    }
}

fn settings(payload: &mut Bytes) -> Result<Frame, Malformed> {
    let count = take_word(payload)?;
    let mut initial_window = None;
    for _ in 0..count {
        // One byte of flags, three of the setting's number.
        let setting = take_word(payload)? & 0x00ff_ffff;
        let value = take_word(payload)?;
        if setting == SETTING_INITIAL_WINDOW {
            if value > ID_MASK {
                return Err(Malformed("an initial window of more than 2 GiB"));
            }
            initial_window = Some(value);
        }
    }
    Ok(Frame::Settings { initial_window })
}

fn take_word(payload: &mut Bytes) -> Result<u32, Malformed> {
    payload.try_get_u32().map_err(|_| Malformed("a cut control frame"))
}

fn take_id(payload: &mut Bytes) -> Result<u32, Malformed> {
    match take_word(payload)? & ID_MASK {
        0 => Err(Malformed("stream zero")),
        id => Ok(id),
    }
}

/// Puts frames behind what is to be written.
#[derive(Default)]
pub(crate) struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    pub(crate) fn put(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::SynStream { id, opening, headers } => {
                let flags = u8::from(opening.fin) * FLAG_FIN
                    + u8::from(opening.unidirectional) * FLAG_UNIDIRECTIONAL;
                let block = self.deflater.write(headers);
                put_control(out, 1, flags, &[&id.to_be_bytes(), &[0; 6], &block]);
            }
            Frame::SynReply { id, fin, headers } => {
                let block = self.deflater.write(headers);
                put_control(out, 2, u8::from(*fin), &[&id.to_be_bytes(), &block]);
            }
            Frame::RstStream { id, reset } => {
                put_control(out, 3, 0, &[&id.to_be_bytes(), &reset.code().to_be_bytes()]);
            }
            Frame::Settings { initial_window } => {
                let count = u32::from(initial_window.is_some());
                let entry = initial_window.map(|window| {
                    [SETTING_INITIAL_WINDOW.to_be_bytes(), window.to_be_bytes()].concat()
                });
                put_control(out, 4, 0, &[&count.to_be_bytes(), &entry.unwrap_or_default()]);
            }
            Frame::Ping { id } => put_control(out, 6, 0, &[&id.to_be_bytes()]),
            Frame::GoAway { last, status } => {
                put_control(out, 7, 0, &[&last.to_be_bytes(), &status.to_be_bytes()]);
            }
            Frame::Headers { id, fin, headers } => {
                let block = self.deflater.write(headers);
                put_control(out, 8, u8::from(*fin), &[&id.to_be_bytes(), &block]);
            }
            Frame::WindowUpdate { id, delta } => {
                put_control(out, 9, 0, &[&id.to_be_bytes(), &delta.to_be_bytes()]);
            }
            Frame::Data { id, fin, data } => {
                out.put_u32(*id & ID_MASK);
                put_flags_and_length(out, u8::from(*fin), data.len());
                out.put_slice(data);
            }
            Frame::Unknown => {}
        }
    }
}

fn put_control(out: &mut BytesMut, kind: u16, flags: u8, parts: &[&[u8]]) {
    out.put_u16(VERSION | 0x8000);
    out.put_u16(kind);
    put_flags_and_length(out, flags, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.put_slice(part);
    }
}

fn put_flags_and_length(out: &mut BytesMut, flags: u8, length: usize) {
    // Callers cut data long before 16 MiB, so the flags stay untouched.
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.put_u32(u32::from(flags) << 24 | length);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_headers() -> impl Strategy<Value = Headers> {
        proptest::collection::btree_map("[a-z-]{1,12}", "[ -~]{0,40}", 0..5)
            .prop_map(|pairs| Headers(pairs.into_iter().collect()))
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let id = 1..=ID_MASK;
        prop_oneof![
            (id.clone(), any::<(bool, bool)>(), any_headers()).prop_map(
                |(id, (fin, unidirectional), headers)| Frame::SynStream {
                    id,
                    opening: Opening { fin, unidirectional },
                    headers
                }
            ),
            (id.clone(), any::<bool>(), any_headers())
                .prop_map(|(id, fin, headers)| Frame::SynReply { id, fin, headers }),
            (id.clone(), any::<bool>(), any_headers())
                .prop_map(|(id, fin, headers)| Frame::Headers { id, fin, headers }),
            (id.clone(), any::<u32>())
                .prop_map(|(id, code)| Frame::RstStream { id, reset: Reset::of(code) }),
            proptest::option::of(0..=ID_MASK)
                .prop_map(|initial_window| Frame::Settings { initial_window }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            (0..=ID_MASK, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            (0..=ID_MASK, id.clone()).prop_map(|(id, delta)| Frame::WindowUpdate { id, delta }),
            (id, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(id, fin, data)| Frame::Data { id, fin, data: Bytes::from(data) }),
        ]
    }

    fn decode_all(bytes: &[u8], step: usize) -> Result<Vec<Frame>, Malformed> {
        let (mut decoder, mut buffer, mut frames) = (Decoder::new(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.next(&mut buffer)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire(frames in proptest::collection::vec(any_frame(), 1..20)) {
            let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
            for frame in &frames {
                encoder.put(frame, &mut wire);
            }
            prop_assert_eq!(decode_all(&wire, wire.len()).unwrap(), frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic_the_decoder(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), step in 1_usize..64
        ) {
            let _ = decode_all(&bytes, step);
        }

        #[test]
        fn a_control_frame_of_garbage_is_an_error_or_a_frame(
            kind in 0_u16..12, flags: u8, bytes in proptest::collection::vec(any::<u8>(), 0..80)
        ) {
            let mut wire = BytesMut::new();
            put_control(&mut wire, kind, flags, &[&bytes]);
            let _ = decode_all(&wire, wire.len());
        }
    }

    #[test]
    fn a_long_data_frame_arrives_in_pieces_and_ends_with_the_last() {
        let mut wire = BytesMut::new();
        let data = Bytes::from(vec![7; 100]);
        Encoder::default().put(&Frame::Data { id: 5, fin: true, data }, &mut wire);

        let pieces = decode_all(&wire, 30).unwrap();

        let ends: Vec<_> = pieces
            .iter()
            .map(|frame| {
                let Frame::Data { id: 5, fin, data } = frame else { panic!("{frame:?}") };
                (data.len(), *fin)
            })
            .collect();
        assert_eq!(ends, [(22, false), (30, false), (30, false), (18, true)]);
    }

    #[test]
    fn frames_that_break_the_protocol_are_named() {
        let data_for_zero = [0, 0, 0, 0, 0, 0, 0, 1, 9].to_vec();
        let version_two = [0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1].to_vec();
        let too_long = [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff].to_vec();
        let cut_ping = [0x80, 3, 0, 6, 0, 0, 0, 1, 0].to_vec();
        let settings_beyond_end = [0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff].to_vec();
        for wrong in [data_for_zero, version_two, too_long, cut_ping, settings_beyond_end] {
            assert!(decode_all(&wrong, wrong.len()).is_err(), "{wrong:?}");
        }
    }
}
