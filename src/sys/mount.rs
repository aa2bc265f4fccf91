//! `mount_setattr(2)`: attributes and propagation of a mount, by descriptor.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::checked;

/// What to change; the bits are `MOUNT_ATTR_*`, the propagation one of `MS_PRIVATE`, ….
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    This,
    /// Every mount below as well.
    Recursive,
}

/// Changes the mount that `path` below `directory` names; an empty path means `directory` itself.
pub(crate) fn mount_setattr(
    directory: BorrowedFd<'_>,
    path: &CStr,
    reach: Reach,
    change: Change,
) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    set(directory, path, reach, &attr)
}

/// Makes a detached mount show its files' owners as `users`, a user namespace, maps them.
pub(crate) fn idmap(
    mount: BorrowedFd<'_>,
    reach: Reach,
    users: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(users.as_raw_fd().unsigned_abs()),
    };
    set(mount, c"", reach, &attr)
}

fn set(
    directory: BorrowedFd<'_>,
    path: &CStr,
    reach: Reach,
    attr: &libc::mount_attr,
) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if reach == Reach::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is NUL-terminated and the struct of the size given; the kernel only reads
    // both, during the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    checked(returned).map(drop)
}
