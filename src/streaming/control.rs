//! The control socket: how the daemon registers sessions with the stream server, and tells it of
//! names.
//!
//! Each message is four bytes of length, little end first, and MessagePack with named fields, so
//! that a daemon and a stream server of different versions understand what both know. One request
//! has one reply; a connection may carry any number of them.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::server::{Registered, Shared};
use crate::dns;
use crate::error::{Context, Error, Kind, Result};

/// The longest message; a plan of a process is a few kilobytes long.
const LIMIT: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    Ping,
    Register(Registered),
    /// Reads the table of names anew; they are answered by it when the reply comes.
    ReadNames,
    /// Gives the control socket up for a stream server of another version, and ends once every
    /// session has ended.
    Retire,
    /// Ends the process and with it every session. Sent only when an operator asks for it.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Here {
        version: String,
        address: SocketAddr,
    },
    Url(String),
    Done,
    /// No address could be given out: too many wait for their clients.
    Exhausted(String),
    Failed(String),
}

impl Reply {
    fn of(error: &Error) -> Self {
        match error.kind() {
            Kind::Exhausted => Self::Exhausted(error.chain()),
            Kind::InvalidArgument
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::WrongState
            | Kind::Busy
            | Kind::Unavailable
            | Kind::Denied
            | Kind::Forbidden
            | Kind::Timeout
            | Kind::Cancelled
            | Kind::Unsupported
            | Kind::Internal => Self::Failed(error.chain()),
        }
    }
}

/// When a stream server that was asked to stop does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Now,
    /// After its last session.
    WhenIdle,
}

/// The side of the control socket that answers.
pub(crate) struct Control {
    shared: Arc<Shared>,
    names: Arc<dns::Server>,
    address: SocketAddr,
    stop: watch::Sender<Option<Stop>>,
}

impl Control {
    pub(crate) fn new(
        shared: Arc<Shared>,
        names: Arc<dns::Server>,
        address: SocketAddr,
    ) -> Arc<Self> {
        Arc::new(Self { shared, names, address, stop: watch::Sender::new(None) })
    }

    /// Answers until a request asks to stop.
    pub(crate) async fn run(self: Arc<Self>, listener: UnixListener) -> Stop {
        let mut stopping = self.stop.subscribe();
        loop {
            let connection = tokio::select! {
                accepted = listener.accept() => accepted,
                stop = stopping.wait_for(Option::is_some) => {
                    return stop.ok().and_then(|stop| *stop).unwrap_or(Stop::Now);
                }
            };
            match connection {
                Ok((connection, _)) => {
                    let control = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(error) = control.answer(connection).await {
                            tracing::warn!("control connection: {}", error.chain());
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("accept a control connection: {error}");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn answer(&self, mut connection: UnixStream) -> Result<()> {
        while let Some(request) = receive(&mut connection).await? {
            let stop = match request {
                Request::Shutdown => Some(Stop::Now),
                Request::Retire => Some(Stop::WhenIdle),
                Request::Ping | Request::Register(_) | Request::ReadNames => None,
            };
            send(&mut connection, &self.reply(request).await).await?;
            if stop.is_some() {
                self.stop.send_replace(stop);
            }
        }
        Ok(())
    }

    async fn reply(&self, request: Request) -> Reply {
        match request {
            Request::Ping => {
                Reply::Here { version: env!("CARGO_PKG_VERSION").to_owned(), address: self.address }
            }
            Request::Register(registered) => {
                let route = registered.route();
                match self.shared.tokens.issue(registered) {
                    Ok(token) => Reply::Url(format!("http://{}/{route}/{token}", self.address)),
                    Err(error) => Reply::of(&error),
                }
            }
            Request::ReadNames => match self.names.read().await {
                Ok(()) => Reply::Done,
                Err(error) => Reply::of(&error),
            },
            Request::Retire | Request::Shutdown => Reply::Done,
        }
    }
}

pub(crate) async fn send<T: Serialize>(
    connection: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<()> {
    let body = rmp_serde::to_vec_named(message).context("encode a control message")?;
    let length = u32::try_from(body.len()).context("a control message beyond 4 GiB")?;
    let mut bytes = Vec::with_capacity(body.len() + 4);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    connection.write_all(&bytes).await.context("write a control message")
}

/// `None` when the other side closed between two messages.
pub(crate) async fn receive<T: DeserializeOwned>(
    connection: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>> {
    let mut length = [0; 4];
    match connection.read(&mut length[..1]).await {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error).context("read a control message"),
    }
    connection.read_exact(&mut length[1..]).await.context("read a control message")?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > LIMIT {
        return Err(Error::invalid(format!("a control message of {length} bytes")));
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.context("read a control message")?;
    rmp_serde::from_slice(&body).context("decode a control message").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_survive_the_wire_and_a_close_between_them_is_no_error() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        send(&mut near, &Request::Ping).await.unwrap();
        send(&mut near, &Request::Shutdown).await.unwrap();
        drop(near);

        assert_eq!(receive(&mut far).await.unwrap(), Some(Request::Ping));
        assert_eq!(receive(&mut far).await.unwrap(), Some(Request::Shutdown));
        assert_eq!(receive::<Request>(&mut far).await.unwrap(), None);
    }

    #[tokio::test]
    async fn oversized_cut_and_foreign_messages_are_errors() {
        for wrong in [&[0xff; 8][..], &[5, 0, 0, 0, 1][..], &[1, 0, 0, 0, 0xc1][..]] {
            let mut bytes = wrong;
            assert!(receive::<Request>(&mut bytes).await.is_err(), "{wrong:?}");
        }
    }
}
