//! Whether a client is still there.
//!
//! A client that has said all it has to say may still read, and is there. One that is gone is seen
//! here at once; by writing it would be seen only when there is something to write.

use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::sys::readiness;

/// A connection's other end. Copies are of the same one.
#[derive(Debug, Clone)]
pub(super) struct Peer(Arc<AsyncFd<std::os::fd::OwnedFd>>);

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let copy = stream.as_fd().try_clone_to_owned()?;
        // A hang-up is told whatever is asked for; this asks for nothing that comes otherwise.
        readiness::watch(copy, Interest::PRIORITY).map(|watched| Self(Arc::new(watched)))
    }

    /// Returns when both halves of the connection have ended.
    pub(super) async fn gone(&self) {
        loop {
            let Ok(mut guard) = self.0.ready(Interest::PRIORITY).await else { return };
            if guard.ready().is_read_closed() {
                return;
            }
            guard.clear_ready();
        }
    }
}
