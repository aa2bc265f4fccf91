//! Layer archives to layer directories.
//!
//! ```text
//!   stream    blob pieces ▶ gzip, zstd or plain ▶ hashed archive bytes (two threads)
//!   tar       archive bytes ▶ members (header, pax: their parts)
//!   whiteout  a member's path ▶ where it points, or what it hides
//!   apply     members ▶ files, relative to the layer's root descriptor
//!   archive   the same from a file that is no image's
//!   extract   members into a container's files, where others have made some
//!   attributes  owner, times, extended attributes of a new file
//!   tree      the directories of that root, opened once
//!   borrow    hard links to files that only a layer below has
//!   implied   directories the archive left out, completed from the layers below
//! ```
//!
//! The archive is hostile until its digest says otherwise, and that is known only at the end:
//! nothing in it may reach outside the layer's directory, cost more than [`Limits`] allow, or be
//! seen by anybody before the caller commits the directory.

mod apply;
pub(in crate::image) mod archive;
mod attributes;
mod borrow;
pub(in crate::image) mod extract;
mod header;
mod implied;
mod pax;
mod sparse;
mod stream;
mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod whiteout;

use std::path::Path;
use std::sync::Arc;

pub(in crate::image) use self::borrow::{Borrowed, fill_borrowed};
pub(in crate::image) use self::implied::fill_implied;
pub(in crate::image) use self::stream::{Blob, Piece};
use self::whiteout::Names;
use super::digest::{Algorithm, Digest};
use crate::error::{Context, Error, Kind, Result};

/// How far behind the daemon's other work unpacking stands when processors are short: nobody's Stop waits for a pull.
const NICE: i32 = 10;

/// How much an archive may cost.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Limits {
    /// Bytes of the archive, and bytes of the files in it.
    pub(in crate::image) bytes: u64,
    pub(in crate::image) entries: u64,
    /// Decompressed to compressed, once past `free_bytes`.
    pub(in crate::image) ratio: u64,
    pub(in crate::image) free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 20 << 30, entries: 1_000_000, ratio: 200, free_bytes: 64 << 20 }
    }
}

impl Limits {
    fn check(&self, compressed: u64, decompressed: u64) -> Result<()> {
        if decompressed > self.bytes {
            return Err(Error::new(
                Kind::Exhausted,
                format!("the layer decompresses to more than {} bytes", self.bytes),
            ));
        }
        if decompressed > self.free_bytes && decompressed / self.ratio > compressed {
            return Err(Error::invalid(format!(
                "the layer is a decompression bomb: {compressed} bytes became {decompressed}"
            )));
        }
        Ok(())
    }
}

/// What a layer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) struct Unpacked {
    pub(in crate::image) diff_id: Digest,
    /// Bytes of its files, in whole blocks.
    pub(in crate::image) size: u64,
    pub(in crate::image) inodes: u64,
    /// Directories the archive needs but does not describe, parents first.
    pub(in crate::image) implied: Vec<Vec<u8>>,
    /// Names in it that stand for files of the layers below.
    pub(in crate::image) borrowed: Vec<Borrowed>,
    /// The archive says what the root directory looks like.
    pub(in crate::image) describes_root: bool,
}

/// Unpacks a blob into a directory, on threads of its own; `diff_id` is the digest the archive
/// must have, if that is known. The threads hold the directory as long as they write to it, also when the caller is
/// gone.
pub(in crate::image) async fn unpack<'a, D: AsRef<Path> + Send + Sync + 'static>(
    blob: Blob,
    directory: &Arc<D>,
    diff_id: impl Into<Option<&'a Digest>>,
    limits: Limits,
) -> Result<Unpacked> {
    let (done, result) = tokio::sync::oneshot::channel();
    let (directory, diff_id) = (Arc::clone(directory), diff_id.into().cloned());
    spawn("cais-unpack", move || {
        let unpacked = run(blob, (*directory).as_ref(), diff_id.as_ref(), limits);
        drop(directory);
        // The waiting task may be gone; then nobody wants to know.
        let _ = done.send(unpacked);
    })?;
    result.await.map_err(|_| Error::internal("the unpacking thread ended early"))?
}

fn run(blob: Blob, files: &Path, diff_id: Option<&Digest>, limits: Limits) -> Result<Unpacked> {
    let algorithm = diff_id.map_or(Algorithm::Sha256, Digest::algorithm);
    let unpacked = decode(blob, algorithm, limits, |decoded| {
        apply::apply(decoded, files, limits, Names::OfLayer)
    })?;
    if let Some(diff_id) = diff_id.filter(|diff_id| unpacked.diff_id != **diff_id) {
        return Err(Error::invalid(format!(
            "the layer's content has the digest {}, its configuration says {diff_id}",
            unpacked.diff_id
        )));
    }
    Ok(unpacked)
}

/// Reads a blob on a thread of its own for `work`, which makes files with any mode it likes: for a
/// thread that ends after it.
fn decode<T>(
    blob: Blob,
    algorithm: Algorithm,
    limits: Limits,
    work: impl FnOnce(stream::Decoded) -> Result<T>,
) -> Result<T> {
    // Modes are to be what the archive says. The mask belongs to all threads of a process until
    // one of them asks for its own.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).context("unshare the umask")?;
    rustix::process::umask(rustix::fs::Mode::empty());

    let (inflate, decoded) = stream::channel(blob, algorithm, limits);
    let inflate = spawn("cais-inflate", move || inflate.run())?;
    let worked = work(decoded);
    let inflated =
        inflate.join().unwrap_or_else(|_| Err(Error::internal("the inflating thread panicked")));
    // A stream that stops early makes the reader fail too; its cause is the one to tell.
    inflated?;
    worked
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // On Linux this is the thread's alone. A refusal costs others some time, and nothing else.
            let _ = rustix::process::setpriority_process(None, NICE);
            work()
        })
        .with_context(|| format!("start thread {name}"))
        .kind(Kind::Exhausted)
}
