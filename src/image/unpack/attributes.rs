//! What a new file gets: its bytes, owner, times and extended attributes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::tar::{Entry, Time, shown};
use crate::error::{Context, Error, Kind, Result};

pub(super) fn uid(entry: &Entry) -> Option<Uid> {
    Some(Uid::from_raw(entry.uid))
}

pub(super) fn gid(entry: &Entry) -> Option<Gid> {
    Some(Gid::from_raw(entry.gid))
}

pub(super) fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Never of what a link leads to, also when somebody puts one there meanwhile.
pub(super) fn set_mode(parent: &OwnedFd, name: &[u8], mode: u32) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(parent, name, flags, Mode::empty()).context("chmod")?;
    let kind = rustix::fs::fstat(&found).context("chmod")?.st_mode;
    if FileType::from_raw_mode(kind) == FileType::Symlink {
        return Err(Error::invalid(format!("{} was replaced meanwhile", shown(name))));
    }
    // Such a descriptor has no fchmod(2).
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).context("chmod")
}

pub(super) fn set_xattrs(file: impl AsFd, entry: &Entry) -> Result<()> {
    for (name, value) in &entry.xattrs {
        rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty())
            .with_context(|| format!("set attribute {}", shown(name)))?;
    }
    Ok(())
}

pub(super) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("write"),
        }
    }
    Ok(())
}

/// A full disk is nobody's bad input.
pub(super) fn space(error: Error) -> Error {
    let mut cause = std::error::Error::source(&error);
    while let Some(link) = cause {
        if let Some(errno) = link.downcast_ref::<Errno>()
            && matches!(*errno, Errno::NOSPC | Errno::DQUOT)
        {
            return error.with_kind(Kind::Exhausted);
        }
        cause = link.source();
    }
    error
}
