//! A proc file system of our own, reached by descriptor: no path of ours can lead to a fake one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::failure::{About, Fault};

/// A detached mount of proc, for the PID namespace it was made in.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    pub(crate) fn mount() -> Result<Self, Fault> {
        let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount =
            rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Self(mount))
    }

    /// The host's, for what runs before there is a pod.
    pub(crate) fn of_host() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, "/proc", flags, Mode::empty()).map(Self)
    }

    /// Opens below proc only: no `..`, no other mount, no link out of it.
    pub(crate) fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Opens what a magic link such as `self/ns/pid` stands for.
    pub(crate) fn open_link(&self, path: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) -> Result<(), Fault> {
        let file = self.open(path, OFlags::WRONLY).about(path)?;
        // One write: proc files take their value whole.
        let written = rustix::io::write(&file, content).about(path)?;
        if written == content.len() {
            Ok(())
        } else {
            Err(Fault::internal("the kernel took a part of the value only").about(path))
        }
    }

    /// Reads a small file, appending to `into`.
    pub(crate) fn read(&self, path: &str, into: &mut Vec<u8>) -> Result<(), Errno> {
        read_all(self.open(path, OFlags::RDONLY)?.as_fd(), into)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads to the end, appending to `into`.
pub(crate) fn read_all(file: BorrowedFd<'_>, into: &mut Vec<u8>) -> Result<(), Errno> {
    loop {
        into.reserve(1024);
        match rustix::io::read(file, rustix::buffer::spare_capacity(into)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
