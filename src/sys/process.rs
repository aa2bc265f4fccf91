//! Signals by number (real-time ones too), resource limits by number, and the subreaper bit.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::checked;

/// Sends any signal number the kernel accepts to the process of a pidfd.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null siginfo is allowed and no flag is set; no memory is passed.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    checked(returned).map(drop)
}

/// Sets a limit of the calling process; `u64::MAX` is unlimited, as the kernel has it.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: pid 0 is the caller; the kernel reads the struct during the call and, with a null
    // old limit, writes nothing.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    checked(returned).map(drop)
}

/// The soft and the hard limit of the calling process.
pub(crate) fn rlimit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: pid 0 is the caller; with a null new limit the kernel changes nothing, and it writes
    // the old one into a struct that lives until the call returns.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<libc::rlimit64>(),
            &raw mut limit,
        )
    };
    checked(returned).map(|_| (limit.rlim_cur, limit.rlim_max))
}

/// Orphans among the descendants of the caller become its children.
pub(crate) fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes an integer and touches no memory.
    let returned = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1_u64, 0_u64, 0_u64, 0_u64) };
    checked(returned.into()).map(drop)
}

/// Closes every descriptor from `first` to `last`.
pub(crate) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: this makes owned descriptors of the range dangle. It is called only in a forked
    // child whose copies of the parent's owners are never used or dropped: the child ends in
    // execve or _exit, and what it goes on using is kept out of the range by the caller.
    let returned = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    checked(returned).map(drop)
}
