//! `clone3(2)` as a fork with namespaces, a pidfd and a cgroup to be born in.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::checked;

/// Which side of the fork this is.
#[derive(Debug)]
pub(crate) enum Forked {
    Child,
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// Forks with `CLONE_NEW*` flags; with `cgroup`, a v2 directory, the child is born inside it.
///
/// # Errors
/// The kernel's, such as `EOPNOTSUPP` for a cgroup that cannot hold processes.
///
/// The caller must have one thread only: the child owns a copy of this thread alone, and a lock
/// that another thread held (the allocator's, for one) would stay locked in it for ever. The
/// monitor never starts a second thread.
pub(crate) fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    clone(flags, libc::SIGCHLD.unsigned_abs().into(), cgroup)
}

/// The same, but the new process is a child of the caller's own parent, which gets its exit.
pub(crate) fn clone3_sibling(flags: u64) -> Result<Forked, Errno> {
    // The kernel takes the signal from the caller then, and refuses one that is given.
    clone(flags | flag(libc::CLONE_PARENT), 0, None)
}

fn clone(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is a struct of plain integers, for which all zeros is the documented
    // "not used" value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | flag(libc::CLONE_PIDFD);
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = exit_signal;
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP, which libc types as a c_int overflow.
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM the child runs on a copy of this stack, so no memory is shared; the
    // kernel writes through args.pidfd only, which points at a live local.
    let returned = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    let pid = checked(returned)?;
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        None => Ok(Forked::Child),
        Some(pid) => {
            // SAFETY: the call succeeded in the parent, so with CLONE_PIDFD the kernel stored a
            // fresh descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid, pidfd })
        }
    }
}

/// A libc `CLONE_*` constant as `clone3` wants it.
pub(crate) fn flag(constant: libc::c_int) -> u64 {
    u64::from(constant.cast_unsigned())
}

/// Ends a forked child without running the parent's exit handlers.
pub(crate) fn exit_child(code: i32) -> ! {
    // SAFETY: _exit takes any integer and does not return; nothing of this process is needed after.
    unsafe { libc::_exit(code) }
}
