//! Whether a client is still there.
//!
//! A client that has said all it has to say may still read, and is there. One that is gone is seen
//! here at once; by writing it would be seen only when there is something to write.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::sys::readiness;
use crate::sys::socket;

/// Between two looks at whether a client has read.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A client that reads nothing for so long is not about to.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection's other end. Copies are of the same one.
#[derive(Debug, Clone)]
pub(super) struct Peer(Arc<AsyncFd<std::os::fd::OwnedFd>>);

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let copy = stream.as_fd().try_clone_to_owned()?;
        // A hang-up is told whatever is asked for; this asks for nothing that comes otherwise.
        readiness::watch(copy, Interest::PRIORITY).map(|watched| Self(Arc::new(watched)))
    }

    /// Returns when it has read all that was sent to it, or does not read.
    pub(super) async fn has_read(&self) {
        let read = async {
            while socket::unread_by_peer(&*self.0).is_ok_and(|unread| unread > 0) {
                let _ = timeout(LOOK_AGAIN, std::future::pending::<()>()).await;
            }
        };
        let _ = timeout(PATIENCE, read).await;
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_client_has_read_when_nothing_is_left_of_what_was_sent() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours).unwrap();
        peer.has_read().await;
        ours.write_all(b"head").await.unwrap();
        assert!(socket::unread_by_peer(&*peer.0).unwrap() > 0);
        let mut head = [0; 4];
        theirs.read_exact(&mut head).await.unwrap();
        assert_eq!(socket::unread_by_peer(&*peer.0), Ok(0));
        peer.has_read().await;
    }
}
