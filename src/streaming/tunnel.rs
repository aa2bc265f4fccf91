//! SPDY inside WebSocket: the bytes of a SPDY connection travel as binary messages.
//!
//! kubectl does this for port-forward, so that the session passes proxies that know WebSocket
//! only and half-close is kept.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use super::spdy::{Session, Transport};

const BUFFER: usize = 64 << 10;
const PING: Duration = Duration::from_secs(30);

/// Our end of the tunnel.
struct Tunnel(ReadHalf<DuplexStream>);

impl Transport for Tunnel {
    type Read = ReadHalf<DuplexStream>;
    type Write = WriteHalf<DuplexStream>;

    fn read(&mut self) -> &mut Self::Read {
        &mut self.0
    }

    /// A client that is gone while we do not read is found by the failing ping.
    async fn hung_up(&self) {
        std::future::pending::<()>().await;
    }
}

pub(crate) fn start(socket: WebSocket, idle: Duration) -> Session {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    tokio::spawn(bridge(socket, theirs));
    let (read, write) = tokio::io::split(ours);
    Session::start(Tunnel(read), write, &[], idle)
}

/// Carries bytes both ways until either side ends.
async fn bridge(socket: WebSocket, pipe: DuplexStream) {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(pipe);
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Text(_) | Message::Close(_) => return,
            }
        }
    };
    let outward = async {
        let mut pings = tokio::time::interval(PING);
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(BUFFER);
            let message = tokio::select! {
                read = read.read_buf(&mut buffer) => match read {
                    Ok(count) if count > 0 => Message::Binary(buffer.split().freeze()),
                    _ => break,
                },
                _ = pings.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}
