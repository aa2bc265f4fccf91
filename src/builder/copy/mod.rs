//! COPY and ADD: files of one tree into another.
//!
//! ```text
//!   sources ─▶ find: names below the source's root ─▶ digest: what they are, for the cache
//!                              └────────────────────▶ place: made below the destination's root
//! ```
//!
//! Both trees are foreign: one is a client's, the other an image's. Each name is resolved by the
//! kernel below the root's descriptor, and what is found is read through the descriptor it was found
//! with. Nothing here follows a path on the host.

mod contents;
mod digest;
mod excludes;
mod find;
mod place;
#[cfg(test)]
mod tests;
mod wildcard;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use cais_dockerfile::chmod::Chmod;
use rustix::fs::{FileType, Mode, OFlags, Stat};

pub(super) use self::contents::Contents;
pub(super) use self::digest::{Owners, digest};
pub(super) use self::excludes::Excludes;
pub(super) use self::find::{Found, find, missing};
pub(super) use self::place::{make_directory, place};
use crate::engine::files::open_below;
use crate::error::{Context, Error, Result};
use crate::image::pack::{self, DEEPEST};
use crate::image::xattr;

/// Who the new files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// As in the source.
    Kept,
    Given(u32, u32),
}

/// How files are placed.
pub(super) struct Placing<'a> {
    pub(super) owner: Ownership,
    /// What becomes of their permissions; `None`: nothing.
    pub(super) chmod: Option<&'a Chmod>,
    pub(super) excludes: Excludes<'a>,
    /// The sources keep the directories that they are in.
    pub(super) parents: bool,
}

fn open(parent: BorrowedFd<'_>, name: &std::ffi::CStr, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .with_context(|| format!("open {}", name.to_string_lossy()))
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>> {
    pack::names(directory).context("list a directory")
}

/// The walks go down as deep as a tree is: into no deeper one than a layer may be.
fn check_depth(path: &Path) -> Result<()> {
    match path.components().count() > DEEPEST {
        true => Err(Error::invalid(format!("directories are nested deeper than {DEEPEST}"))),
        false => Ok(()),
    }
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A regular file that was found as one; not somebody's device that took its name meanwhile.
fn open_file(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(OwnedFd, Stat)> {
    let file = open(parent, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let stat = rustix::fs::fstat(&file).context("stat")?;
    if kind_of(&stat) == FileType::RegularFile {
        return Ok((file, stat));
    }
    Err(Error::invalid(format!("{} was replaced meanwhile", name.to_string_lossy())))
}

/// Whether an extended attribute is copied with its file.
pub(super) fn goes_along(attribute: &[u8]) -> bool {
    attribute == b"security.capability" || attribute.starts_with(b"user.")
}

/// Names and values of the extended attributes that go along with a file.
fn attributes(file: BorrowedFd<'_>) -> Result<Vec<(std::ffi::CString, Vec<u8>)>> {
    let mut all = Vec::new();
    for name in xattr::names(file).context("list extended attributes")? {
        if goes_along(name.to_bytes()) {
            let value = xattr::value(file, &name).context("read an extended attribute")?;
            all.push((name, value));
        }
    }
    Ok(all)
}
