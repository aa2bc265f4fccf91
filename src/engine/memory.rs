//! Files and sockets that are in memory alone, for what must not be on a disk.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Context, Result};

/// Permissions and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A detached mount with one file in it.
pub(crate) fn file(name: &str, content: &[u8], access: Access) -> Result<OwnedFd> {
    let tree = tmpfs().context("mount memory")?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&tree, name, flags, Mode::RUSR).context("make a file")?;
    let mut made = File::from(made);
    made.write_all(content).context("write a file in memory")?;
    let (uid, gid) = (Uid::from_raw(access.uid), Gid::from_raw(access.gid));
    rustix::fs::fchown(&made, Some(uid), Some(gid)).context("chown")?;
    // After the owner, who would take some bits away.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(access.mode & 0o7777)).context("chmod")?;
    Ok(tree)
}

/// A detached mount with one socket in it, and who listens there without blocking.
pub(crate) fn socket(name: &str, access: Access) -> Result<(OwnedFd, UnixListener)> {
    let tree = tmpfs().context("mount memory")?;
    // bind(2) takes a path; this one leads to the mount, which is attached nowhere.
    let path = format!("/proc/self/fd/{}/{name}", tree.as_raw_fd());
    let listener = UnixListener::bind(path).context("make a socket")?;
    listener.set_nonblocking(true).context("make a socket")?;
    let (uid, gid) = (Uid::from_raw(access.uid), Gid::from_raw(access.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&tree, name, Some(uid), Some(gid), flags).context("chown")?;
    let mode = Mode::from_raw_mode(access.mode & 0o7777);
    rustix::fs::chmodat(&tree, name, mode, AtFlags::empty()).context("chmod")?;
    Ok((tree, listener))
}

fn tmpfs() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "mode", "0700")?;
    // What it holds is not written to swap.
    let _ = rustix::mount::fsconfig_set_flag(context.as_fd(), "noswap");
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
