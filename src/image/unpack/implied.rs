//! Directories a layer needs but does not describe.
//!
//! overlayfs shows the topmost directory's owner and mode, so one that was made up must copy the
//! one it hides.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use super::tar::shown;
use super::tree::{is_whiteout, split};
use crate::error::{Context, Result};

/// Gives the directories `implied` of the layer in `files` the owner, mode and time they have in
/// `base` (the lowest layer first). What no layer below describes stays as it was made.
pub(in crate::image) fn fill_implied(
    files: &Path,
    base: &[PathBuf],
    implied: &[Vec<u8>],
) -> Result<()> {
    let layer = open_root(files)?;
    let mut below = Vec::with_capacity(base.len());
    for path in base.iter().rev() {
        below.push(open_root(path)?);
    }
    // Children first: giving a directory its time must be the last thing that happens to it, and
    // nothing is made here any more.
    for path in implied.iter().rev() {
        let Some(stat) = find(&below, path)? else { continue };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match openat(&layer, path, flags, ResolveFlags::empty()) {
            Ok(directory) => directory,
            // A later member of the layer took its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno).with_context(|| format!("open {}", shown(path))),
        };
        let context = || format!("complete directory {}", shown(path));
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(&directory, Some(uid), Some(gid)).with_context(context)?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(stat.st_mode)).with_context(context)?;
        rustix::fs::futimens(&directory, &times_of(&stat)).with_context(context)?;
    }
    Ok(())
}

pub(super) fn times_of(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
    };
    Timestamps { last_access: time, last_modification: time }
}

/// The directory that shows at `path` when `below` (the topmost first) lie on each other.
fn find(below: &[OwnedFd], path: &[u8]) -> Result<Option<Stat>> {
    for layer in below {
        let (above, name) = split(path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = if above.is_empty() { b"." } else { above };
        let parent = match openat(layer, above, flags, ResolveFlags::empty()) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::LOOP) => continue,
            // A file or a whiteout there hides everything below.
            Err(Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno).with_context(|| format!("open {}", shown(path))),
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Ok(Some(stat));
            }
            Ok(stat) => {
                if is_whiteout(&stat) {
                    tracing::debug!(path = shown(path), "a directory comes back without metadata");
                }
                return Ok(None);
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).with_context(|| format!("stat {}", shown(path))),
        }
    }
    Ok(None)
}

pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("open layer {}", path.display()))
}

pub(super) fn openat(
    root: &OwnedFd,
    path: &[u8],
    flags: OFlags,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
