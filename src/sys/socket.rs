//! What has become of bytes that were sent.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// How much of what was written to a local stream socket its peer has not read yet, in the kernel's
/// measure; 0 when it has read all (`unix(7)`, SIOCOUTQ).
pub(crate) fn unread_by_peer(socket: impl AsFd) -> Result<libc::c_int, Errno> {
    let mut unread: libc::c_int = 0;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the call writes one c_int to its third argument, which points to one that lives until
    // it returns; the descriptor is borrowed for as long.
    let returned = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut unread) };
    super::checked(returned.into()).map(|_| unread)
}
