//! A container's streams in the messages of a WebSocket (RFC 6455), for what runs in a browser.
//!
//! What is written comes in binary messages, both streams in one and without frames, as from Docker; what is read may
//! come in messages of either kind.

use std::io;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, WebSocketUpgrade};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tracing::Instrument;

use super::hijack::{Client, PIECE};
use super::peer::Peer;
use super::reply::{self, Answer, Body};
use crate::error::{Error, Result};

/// A client says no more than this at once.
const LONGEST: usize = 1 << 20;

/// The answer with which a connection becomes a WebSocket; `carry` then has what travels in it.
///
/// # Errors
/// `InvalidArgument` for a request that is no such handshake.
pub(super) async fn answer<F>(
    (upgrade, peer): (OnUpgrade, Option<Peer>),
    headers: HeaderMap,
    carry: impl FnOnce(Client) -> F + Send + 'static,
) -> Answer
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let handshake = handshake(upgrade, headers).await?;
    let span = tracing::Span::current();
    let response = handshake.on_upgrade(move |socket| {
        async move {
            let (ours, theirs) = duplex(PIECE);
            let carrying = carry(Client::new(Box::new(theirs), peer));
            let mut passing = std::pin::pin!(pass(socket, ours));
            let done = tokio::select! {
                // The client left, and its own half of the connection may stay open.
                passed = &mut passing => passed,
                // What was written last is still on its way.
                carried = carrying => carried.and(passing.await),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a client's streams ended early");
            }
        }
        .instrument(span)
    });
    Ok(without_body(response))
}

async fn handshake(upgrade: OnUpgrade, headers: HeaderMap) -> Result<WebSocketUpgrade> {
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    request.extensions_mut().insert(upgrade);
    let (mut parts, ()) = request.into_parts();
    let handshake = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let handshake = handshake.map_err(|refusal| Error::invalid(refusal.body_text()))?;
    Ok(handshake.max_message_size(LONGEST).max_frame_size(LONGEST))
}

fn without_body(response: impl IntoResponse) -> Response<Body> {
    let (head, _) = response.into_response().into_parts();
    let mut answer = reply::empty(head.status);
    *answer.headers_mut() = head.headers;
    answer
}

/// Between the messages of a socket and a stream of bytes, until either ends.
async fn pass(socket: WebSocket, stream: DuplexStream) -> io::Result<()> {
    let (mut sink, mut messages) = socket.split();
    let (mut from, mut to) = tokio::io::split(stream);
    let said = async {
        while let Some(message) = messages.next().await {
            match message.map_err(io::Error::other)? {
                Message::Binary(bytes) => to.write_all(&bytes).await?,
                Message::Text(text) => to.write_all(text.as_bytes()).await?,
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        // Its standard input ends; what it still writes is of interest to nobody.
        to.shutdown().await
    };
    let told = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer).await?;
            let piece = buffer.get(..count).filter(|piece| !piece.is_empty());
            let Some(piece) = piece else { break };
            let message = Message::Binary(Bytes::copy_from_slice(piece));
            sink.send(message).await.map_err(io::Error::other)?;
        }
        sink.send(Message::Close(None)).await.map_err(io::Error::other)
    };
    tokio::select! {
        said = said => said,
        told = told => told,
    }
}
