//! From the bytes of a blob to the bytes of its archive, on a thread of their own.
//!
//! ```text
//!   download task ──pieces──▶ Blob ──▶ inflate (thread) ──256 KiB buffers──▶ Decoded: hash, tar, files
//! ```
//!
//! Both channels are short, so the slowest stage sets the pace and memory stays small. Buffers
//! travel back to be filled again.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

use super::Limits;
use crate::error::{Context, Error, Result};
use crate::image::digest::{Algorithm, Digest, Hasher};

const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 4;

/// What the download sends. A channel that closes without `End` was broken off.
#[derive(Debug)]
pub(in crate::image) enum Piece {
    Bytes(Bytes),
    End,
}

/// A blob as it arrives; for threads that may block.
pub(in crate::image) struct Blob {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    is_at_end: bool,
    read: u64,
}

impl Blob {
    pub(in crate::image) fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, current: Bytes::new(), is_at_end: false, read: 0 }
    }

    /// The first bytes, as many as there are up to `count`.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.current.len() < count && !self.is_at_end {
            let mut joined = BytesMut::from(&*std::mem::take(&mut self.current));
            joined.extend_from_slice(self.fill_buf()?);
            self.current = joined.freeze();
        }
        Ok(&self.current)
    }
}

impl BufRead for Blob {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.is_at_end {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.is_at_end = true,
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
        self.read += amount as u64;
    }
}

impl Read for Blob {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let count = from.len().min(into.len());
        for (to, from) in into.iter_mut().zip(from) {
            *to = *from;
        }
        self.consume(count);
        Ok(count)
    }
}

enum Decoder {
    Plain(Blob),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Blob>>),
    Zstd(Box<zstd::Decoder<'static, Blob>>),
}

impl Decoder {
    /// Chooses by the first bytes: media types are often wrong about compression.
    fn new(mut blob: Blob) -> Result<Self> {
        let start = blob.peek(6).context("read layer")?;
        match start {
            [0x1f, 0x8b, ..] => {
                Ok(Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(blob))))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let decoder = zstd::Decoder::with_buffer(blob).context("start zstd")?;
                Ok(Self::Zstd(Box::new(decoder)))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(unsupported("xz")),
            [b'B', b'Z', b'h', ..] => Err(unsupported("bzip2")),
            _ => Ok(Self::Plain(blob)),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(blob) => blob.read(into),
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
        }
    }

    fn blob(&mut self) -> &mut Blob {
        match self {
            Self::Plain(blob) => blob,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

fn unsupported(name: &str) -> Error {
    Error::new(
        crate::error::Kind::Unsupported,
        format!("the layer is compressed with {name}; gzip, zstd and none are known"),
    )
}

/// What travels between the two threads.
struct Filled {
    buffer: Vec<u8>,
    length: usize,
}

/// The sending side: inflates until the blob ends or the reader is gone.
pub(super) struct Inflate {
    blob: Blob,
    filled: SyncSender<Option<Filled>>,
    empty: Receiver<Vec<u8>>,
    limits: Limits,
}

/// The receiving side: the archive's bytes, hashed as they pass.
pub(super) struct Decoded {
    filled: Receiver<Option<Filled>>,
    empty: SyncSender<Vec<u8>>,
    current: Filled,
    position: usize,
    is_at_end: bool,
    hasher: Hasher,
}

pub(super) fn channel(blob: Blob, algorithm: Algorithm, limits: Limits) -> (Inflate, Decoded) {
    let (filled, filled_out) = sync_channel(BUFFERS);
    let (empty_in, empty) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // There is room for each.
        let _ = empty_in.try_send(vec![0; BUFFER]);
    }
    let current = Filled { buffer: Vec::new(), length: 0 };
    let hasher = Hasher::new(algorithm);
    let decoded = Decoded {
        filled: filled_out,
        empty: empty_in,
        current,
        position: 0,
        is_at_end: false,
        hasher,
    };
    (Inflate { blob, filled, empty, limits }, decoded)
}

impl Inflate {
    /// `Ok` also when the reader went away: it has its own error to tell.
    pub(super) fn run(self) -> Result<()> {
        let Self { blob, filled, empty, limits } = self;
        let mut decoder = Decoder::new(blob)?;
        let mut produced: u64 = 0;
        loop {
            let Ok(mut buffer) = empty.recv() else { return Ok(()) };
            let mut length = 0;
            while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
                match decoder.read(rest) {
                    Ok(0) => break,
                    Ok(count) => length += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(decode_error(&error)),
                }
            }
            if length == 0 {
                break;
            }
            produced += length as u64;
            limits.check(decoder.blob().read, produced)?;
            if filled.send(Some(Filled { buffer, length })).is_err() {
                return Ok(());
            }
        }
        if !decoder.blob().fill_buf().map_err(|error| decode_error(&error))?.is_empty() {
            return Err(Error::invalid("bytes follow the end of the compressed layer"));
        }
        // A reader that is gone has its own error to tell.
        let _ = filled.send(None);
        Ok(())
    }
}

fn decode_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Error::new(crate::error::Kind::Cancelled, "the download was broken off");
    }
    Error::invalid(format!("the layer does not decompress: {error}"))
}

impl Decoded {
    /// The digest of everything; call at the end of the stream.
    pub(super) fn finish(mut self) -> Result<Digest> {
        while !self.fill_buf().context("read archive")?.is_empty() {
            self.position = self.current.length;
        }
        Ok(self.hasher.finish())
    }
}

impl Read for Decoded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut from = self.fill_buf()?;
        let count = from.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Decoded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.length && !self.is_at_end {
            let buffer = std::mem::take(&mut self.current.buffer);
            if !buffer.is_empty() {
                // A full or closed channel only means that nobody needs the buffer.
                let _ = self.empty.try_send(buffer);
            }
            self.position = 0;
            self.current.length = 0;
            match self.filled.recv() {
                Ok(Some(filled)) => {
                    self.hasher.update(filled.buffer.get(..filled.length).unwrap_or_default());
                    self.current = filled;
                }
                Ok(None) => self.is_at_end = true,
                Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(self.current.buffer.get(self.position..self.current.length).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}
