//! A tree from an archive file that belongs to no image: a container's writable layer.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Blob, Limits, Piece, unpack};
use crate::error::{Context, Result};
use crate::image::digest::{Algorithm, Digest, Hasher};

const BUFFER: usize = 256 << 10;

/// Unpacks an archive into a directory as if it were a layer: with the same limits, and not out of
/// it, whatever the archive says.
pub(crate) async fn unpack_archive(archive: File, directory: &Path) -> Result<()> {
    // There is no digest from elsewhere to hold it to: its own says that it was read whole.
    let hashing = tokio::task::spawn_blocking(move || hash(archive));
    let (digest, archive) = hashing.await.context("read the archive")??;
    let (pieces, received) = mpsc::channel(4);
    let sending = tokio::task::spawn_blocking(move || send(archive, &pieces));
    let directory = Arc::new(directory.to_owned());
    let unpacked = unpack(Blob::new(received), &directory, &digest, Limits::default()).await;
    // Who reads no more has told why.
    let sent = sending.await.context("read the archive")?;
    unpacked?;
    sent
}

fn hash(mut archive: File) -> Result<(Digest, File)> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; BUFFER];
    loop {
        match archive.read(&mut buffer).context("read the archive")? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    archive.rewind().context("read the archive again")?;
    Ok((hasher.finish(), archive))
}

fn send(mut archive: File, pieces: &mpsc::Sender<Piece>) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = archive.read(&mut buffer).context("read the archive")?;
        let piece = match count {
            0 => Piece::End,
            _ => Piece::Bytes(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
        };
        if pieces.blocking_send(piece).is_err() || count == 0 {
            return Ok(());
        }
    }
}
