//! The system calls that rustix lacks. The only unsafe code of the program.
#![expect(unsafe_code, reason = "raw system calls, and fork")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The two sides of a clone.
pub(crate) enum Clone {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Makes a child that is born in new namespaces. The caller must have one thread only.
pub(crate) fn clone3(flags: i32) -> io::Result<Clone> {
    let mut pidfd: RawFd = -1;
    let arguments = libc::clone_args {
        flags: (flags | libc::CLONE_PIDFD) as u64,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: `arguments` and the `pidfd` it points to live across the call. Without CLONE_VM the child gets a copy of
    // this memory, and the program has no second thread whose locks the copy could hold.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Clone::Child),
        pid => {
            // SAFETY: the kernel wrote a new descriptor to `pidfd` that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Clone::Parent { pid: pid as i32, pidfd })
        }
    }
}

pub(crate) fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: takes no pointers; a new cgroup namespace changes no memory.
    done(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })
}

/// Loads a filter for this thread. It must have no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn load_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions that live across the call; the kernel copies them and
    // writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Becomes the program; returns only when that failed.
pub(crate) fn execute(program: &CStr, argument: &CStr) -> io::Error {
    let arguments = [program.as_ptr(), argument.as_ptr(), std::ptr::null()];
    let environment = [c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
    // SAFETY: both arrays end with a null pointer, and all strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends a cloned child without running what the parent registered for its own exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// CPU seconds of this process and of the children it waited for.
pub(crate) fn cpu_seconds() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(usage_of).sum()
}

fn usage_of(who: i32) -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one `rusage` to memory of that size.
    unsafe { libc::getrusage(who, usage.as_mut_ptr()) };
    // SAFETY: all bytes are initialized, to zero at least, and any value is valid for these integers.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
