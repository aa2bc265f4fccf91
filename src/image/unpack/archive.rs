//! Trees from archives that belong to no image: a container's writable layer, a volume's first
//! files.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::whiteout::Names;
use super::{Blob, Limits, Piece, apply, decode, spawn, unpack};
use crate::error::{Context, Error, Result};
use crate::image::digest::Algorithm;
use crate::image::pack;
use crate::image::pieces::PieceWriter;

const BUFFER: usize = 256 << 10;

/// Pieces of an archive that wait to be unpacked.
const PIECES: usize = 4;

/// A tree of plain files, unpacked as its archive comes: with the limits of a layer, and not out of
/// its directory, whatever the archive says. Names are names, whatever they begin with.
pub(crate) struct TreeUpload {
    pieces: mpsc::Sender<Piece>,
    unpacked: tokio::sync::oneshot::Receiver<Result<()>>,
}

impl TreeUpload {
    /// `directory` is empty, and stays as long as `held` does.
    pub(crate) fn begin<T: Send + 'static>(directory: &Path, held: T) -> Result<Self> {
        let (pieces, received) = mpsc::channel(PIECES);
        let (done, unpacked) = tokio::sync::oneshot::channel();
        let directory = directory.to_owned();
        spawn("cais-unpack", move || {
            let limits = Limits::default();
            let work = |decoded| apply::apply(decoded, &directory, limits, Names::Plain);
            let worked = decode(Blob::new(received), Algorithm::Sha256, limits, work);
            let worked = worked.and_then(|tree| match tree.borrowed.is_empty() {
                true => Ok(()),
                false => Err(Error::invalid("a hard link leads to a file that is not there")),
            });
            drop(held);
            // The waiting task may be gone; then nobody wants to know.
            let _ = done.send(worked);
        })?;
        Ok(Self { pieces, unpacked })
    }

    /// False if nothing more is wanted: [`Self::finish`] tells why.
    pub(crate) async fn push(&self, bytes: Bytes) -> bool {
        self.pieces.send(Piece::Bytes(bytes)).await.is_ok()
    }

    pub(crate) async fn finish(self) -> Result<()> {
        // Who unpacks no more tells why.
        let _ = self.pieces.send(Piece::End).await;
        drop(self.pieces);
        self.unpacked.await.map_err(|_| Error::internal("the unpacking thread ended early"))?
    }
}

/// Unpacks an archive into a directory as if it were a layer: with the same limits, and not out of
/// it, whatever the archive says.
pub(crate) async fn unpack_archive(archive: File, directory: &Path) -> Result<()> {
    let send = move |pieces: &mpsc::Sender<Piece>| send(archive, pieces);
    unpack_sent(send, directory).await
}

/// Copies `from` and all below it: owners, modes, times, extended attributes, links. The directory
/// is empty, and becomes like `from` itself.
pub(crate) async fn copy_tree(from: OwnedFd, directory: &Path) -> Result<()> {
    let send = move |pieces: &mpsc::Sender<Piece>| {
        let out = PieceWriter::buffered(pieces.clone(), Piece::Bytes);
        let mut out = pack::write(&from, out)?;
        out.flush().context("write the archive")?;
        drop(out);
        let _ = pieces.blocking_send(Piece::End);
        Ok(())
    };
    unpack_sent(send, directory).await
}

/// `send` runs on a thread of its own, and may block.
async fn unpack_sent(
    send: impl FnOnce(&mpsc::Sender<Piece>) -> Result<()> + Send + 'static,
    directory: &Path,
) -> Result<()> {
    let (pieces, received) = mpsc::channel(4);
    let sending = tokio::task::spawn_blocking(move || send(&pieces));
    let directory = Arc::new(directory.to_owned());
    let unpacked = unpack(Blob::new(received), &directory, None, Limits::default()).await;
    match (sending.await.context("read the archive")?, unpacked) {
        (Ok(()), unpacked) => unpacked.map(drop),
        (Err(sent), Ok(_)) => Err(sent),
        // One of them is the cause, and the other an end that came early.
        (Err(sent), Err(unpacked)) => {
            Err(Error::new(unpacked.kind(), format!("{}; {}", unpacked.chain(), sent.chain())))
        }
    }
}

pub(super) fn send(mut archive: File, pieces: &mpsc::Sender<Piece>) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = archive.read(&mut buffer).context("read the archive")?;
        let piece = match count {
            0 => Piece::End,
            _ => Piece::Bytes(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
        };
        // Who reads no more tells why.
        if pieces.blocking_send(piece).is_err() || count == 0 {
            return Ok(());
        }
    }
}
