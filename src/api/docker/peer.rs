//! Whether a client is still there.
//!
//! A client that has said all it has to say may still read, and is there. One that is gone is seen
//! here at once; by writing it would be seen only when there is something to write.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::sys::readiness;
use crate::sys::socket;

/// Between two looks at whether a client has read.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A client that reads nothing for so long is not about to.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection's other end. Copies are of the same one.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    watched: Arc<AsyncFd<std::os::fd::OwnedFd>>,
    interest: Interest,
}

impl Peer {
    /// Is gone when both halves of the connection have ended.
    pub(super) fn local(stream: &UnixStream) -> std::io::Result<Self> {
        // A hang-up is told whatever is asked for; this asks for nothing that comes otherwise.
        Self::watch(stream, Interest::PRIORITY)
    }

    /// Is gone when its half has ended: in TLS, who reads on says with an alert that it has said all.
    pub(super) fn remote(stream: &TcpStream) -> std::io::Result<Self> {
        Self::watch(stream, Interest::READABLE)
    }

    fn watch(stream: &impl AsFd, interest: Interest) -> std::io::Result<Self> {
        let copy = stream.as_fd().try_clone_to_owned()?;
        let watched = Arc::new(readiness::watch(copy, interest)?);
        Ok(Self { watched, interest })
    }

    /// Returns when it has read all that was sent to it, or does not read.
    pub(super) async fn has_read(&self) {
        let read = async {
            while socket::unread_by_peer(&*self.watched).is_ok_and(|unread| unread > 0) {
                let _ = timeout(LOOK_AGAIN, std::future::pending::<()>()).await;
            }
        };
        let _ = timeout(PATIENCE, read).await;
    }

    /// Never resolves for one that nobody watches.
    pub(super) async fn gone_if_known(peer: Option<Self>) {
        match peer {
            Some(peer) => peer.gone().await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn gone(&self) {
        loop {
            let Ok(mut guard) = self.watched.ready(self.interest).await else { return };
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
        let peer = Peer::local(&ours).unwrap();
        peer.has_read().await;
        ours.write_all(b"head").await.unwrap();
        assert!(socket::unread_by_peer(&*peer.watched).unwrap() > 0);
        let mut head = [0; 4];
        theirs.read_exact(&mut head).await.unwrap();
        assert_eq!(socket::unread_by_peer(&*peer.watched), Ok(0));
        peer.has_read().await;
    }
}
