//! Descriptors in tokio's event loop. For the daemon's side only.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor that it owns from then on.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open and the same while it is registered. An OwnedFd always
    // gives the same number, and AsyncFd, which owns it, ends the registration before dropping it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}
