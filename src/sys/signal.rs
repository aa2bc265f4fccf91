//! Signal dispositions and the mask of the calling thread.

use rustix::io::Errno;

use super::last_errno;

/// The highest signal number of Linux on the architectures we build for.
const LAST: libc::c_int = 64;

/// Gives every signal its default disposition back and blocks none, as a new program expects.
pub(crate) fn reset() -> Result<(), Errno> {
    for number in 1..=LAST {
        // SIGKILL and SIGSTOP cannot be set, and glibc keeps two for itself: all answer an error.
        // SAFETY: SIG_DFL installs no handler, so no code can run on a signal.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let set = nix::sys::signal::SigSet::empty();
    set.thread_set_mask().map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Lets the signal pass without effect.
pub(crate) fn ignore(number: libc::c_int) -> Result<(), Errno> {
    // SAFETY: SIG_IGN installs no handler, so no code can run on a signal.
    let previous = unsafe { libc::signal(number, libc::SIG_IGN) };
    if previous == libc::SIG_ERR { Err(last_errno()) } else { Ok(()) }
}
