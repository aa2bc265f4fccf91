//! What one thread writes, in pieces, for those who wait for it elsewhere.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::{Context, Result};

/// Sent at once, in bytes.
const PIECE: usize = 256 << 10;

/// Pieces that a slow reader has not taken yet.
const BACKLOG: usize = 4;

/// An archive as it is made. An error is the last piece.
pub(crate) type Pieces = mpsc::Receiver<Result<Bytes>>;

/// Makes an archive, each time the same.
pub(crate) type Archive<'a> = &'a (dyn Fn() -> Pieces + Send + Sync);

/// Sends what is written. For threads that may block; a receiver that is gone is a broken pipe.
pub(crate) struct PieceWriter<T> {
    pieces: mpsc::Sender<T>,
    wrap: fn(Bytes) -> T,
}

impl<T> PieceWriter<T> {
    /// `wrap` makes a message of each piece.
    pub(crate) fn buffered(pieces: mpsc::Sender<T>, wrap: fn(Bytes) -> T) -> io::BufWriter<Self> {
        io::BufWriter::with_capacity(PIECE, Self { pieces, wrap })
    }
}

impl<T> Write for PieceWriter<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.pieces.blocking_send((self.wrap)(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As `write` takes it.
pub(crate) type Out = io::BufWriter<PieceWriter<Result<Bytes>>>;

/// A document that is at hand, in one piece.
pub(crate) fn whole(document: impl Into<Bytes>) -> Pieces {
    let (pieces, received) = mpsc::channel(1);
    // There is room for one, and who receives it is here.
    let _ = pieces.try_send(Ok(document.into()));
    received
}

/// A file, from its beginning.
pub(crate) fn of_file(file: Arc<File>) -> Pieces {
    send(move |mut out| {
        let mut at = 0;
        let mut piece = vec![0; PIECE];
        loop {
            let count = file.read_at(&mut piece, at).context("read the archive")?;
            if count == 0 {
                return Ok(out);
            }
            out.write_all(piece.get(..count).unwrap_or_default()).context("send the archive")?;
            at += count as u64;
        }
    })
}

/// Runs `write` on a thread of its own, until it is done or nobody reads any more.
pub(crate) fn send(write: impl FnOnce(Out) -> Result<Out> + Send + 'static) -> Pieces {
    let (pieces, received) = mpsc::channel(BACKLOG);
    tokio::task::spawn_blocking(move || {
        let out = PieceWriter::buffered(pieces.clone(), Ok);
        let written = write(out).and_then(|mut out| out.flush().context("write the archive"));
        if let Err(error) = written {
            // Who hung up hears no more; who reads must not take it for the whole.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    received
}
