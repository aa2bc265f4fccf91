//! Members of an archive into the files of a container, where others have made some already.
//!
//! The archive is read twice. The first time nothing is written: a member that leads outside, or
//! that must not take the place of what is there, is refused before anything has changed.

use std::fs::File;
use std::io::Seek;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType};
use tokio::sync::mpsc;

use super::archive::send;
use super::stream::Decoded;
use super::tar::{Archive, Entry, Kind, shown};
use super::tree::Tree;
use super::whiteout::{self, Names, Target};
use super::{Blob, Limits, apply, decode, spawn};
use crate::error::{Context, Error, Result};
use crate::image::digest::Algorithm;

/// What a member may take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    Anything,
    /// A directory of a directory, anything else of anything else.
    SameKind,
}

/// Unpacks an archive below an open directory. Links are followed as the directory's own root
/// would have them, never out of it. Nothing is written unless all members can be.
///
/// # Errors
/// `InvalidArgument` for what is no archive, leads outside or must not take a place; `Exhausted`
/// for a full disk. What was written by then stays.
pub(crate) async fn extract(archive: File, directory: OwnedFd, rule: Overwrite) -> Result<()> {
    let directory = Arc::new(directory);
    let limits = Limits { bytes: 1 << 40, ..Limits::default() };
    let below = directory.clone();
    let archive = read(archive, limits, move |decoded| check(decoded, &path(&below), rule)).await?;
    // The thread holds the directory as long as it writes to it, also when the caller is gone.
    let write =
        move |decoded| apply::apply(decoded, &path(&directory), limits, Names::Plain).map(drop);
    read(archive, limits, write).await.map(drop)
}

fn path(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", directory.as_raw_fd()))
}

/// Gives the archive back.
async fn read(
    mut archive: File,
    limits: Limits,
    work: impl FnOnce(Decoded) -> Result<()> + Send + 'static,
) -> Result<File> {
    archive.rewind().context("read the archive")?;
    let again = archive.try_clone().context("read the archive")?;
    let (pieces, received) = mpsc::channel(4);
    let (done, result) = tokio::sync::oneshot::channel();
    spawn("cais-extract", move || {
        let worked = decode(Blob::new(received), Algorithm::Sha256, limits, work);
        // The waiting task may be gone; then nobody wants to know.
        let _ = done.send(worked);
    })?;
    let sending = tokio::task::spawn_blocking(move || send(archive, &pieces));
    let worked = result.await.map_err(|_| Error::internal("the thread ended early"))?;
    let sent = sending.await.context("read the archive")?;
    worked?;
    sent?;
    Ok(again)
}

fn check(stream: Decoded, root: &Path, rule: Overwrite) -> Result<()> {
    let tree = Tree::open(root)?;
    let mut archive = Archive::new(stream);
    while let Some(entry) = archive.next()? {
        if let Target::Member(place) = whiteout::target(&entry.path, Names::Plain)? {
            if let Kind::HardLink { target } = &entry.kind {
                whiteout::place(target).context("hard link")?;
            }
            if rule == Overwrite::SameKind
                && let Some(parent) = tree.existing(&place.parent)?
            {
                check_place(&parent, place.name, &entry)?;
            }
        }
    }
    archive.into_stream().finish()?;
    Ok(())
}

fn check_place(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
    let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(());
    };
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let shown = shown(&entry.path);
    match (is_directory, entry.kind == Kind::Directory) {
        (true, false) => Err(Error::invalid(format!(
            "cannot overwrite directory \"{shown}\" with non-directory"
        ))),
        (false, true) => Err(Error::invalid(format!(
            "cannot overwrite non-directory \"{shown}\" with directory"
        ))),
        (true, true) | (false, false) => Ok(()),
    }
}
