//! A container's streams in the messages of a WebSocket (RFC 6455), for what runs in a browser.
//!
//! What is written comes in binary messages, both streams in one and without frames, as from Docker; what is read may
//! come in messages of either kind.

use std::io;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, WebSocketUpgrade};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Request, Response};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tracing::Instrument;

use super::hijack::{Client, PIECE};
use super::peer::Peer;
use super::reply::{self, Answer, Body};
use crate::error::{Error, Kind, Result};

/// A client says no more than this at once.
const LONGEST: usize = 1 << 20;

/// One that does not read is told so long that it is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer with which a connection becomes a WebSocket; `carry` then has what travels in it.
///
/// # Errors
/// `InvalidArgument` for a request that is no such handshake, `Forbidden` for one of a page that is not ours: a browser
/// shows its certificate for any page, and sees no border between sites here.
pub(super) async fn answer<F>(
    (upgrade, peer): (OnUpgrade, Option<Peer>),
    headers: HeaderMap,
    carry: impl FnOnce(Client) -> F + Send + 'static,
) -> Answer
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    check_origin(&headers)?;
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

/// Programs send no origin, browsers always do.
fn check_origin(headers: &HeaderMap) -> Result<()> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let of_page = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match of_page.zip(host) {
        Some(((_, authority), host)) if authority.eq_ignore_ascii_case(host) => Ok(()),
        Some(_) | None => {
            Err(Error::new(Kind::Forbidden, format!("a page of {origin:?} has no access here")))
        }
    }
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
            let Some(piece) = piece else { return Ok(()) };
            let message = Message::Binary(Bytes::copy_from_slice(piece));
            sink.send(message).await.map_err(io::Error::other)?;
        }
    };
    let ended = tokio::select! {
        said = said => said,
        told = told => told,
    };
    // A Close of ours, or the answer to theirs (RFC 6455, 5.5.1). A client that is gone does not hear it.
    let _ = timeout(PATIENCE, sink.close()).await;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_are_refused() {
        let check = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "node:2376".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            check_origin(&headers).map_err(|error| error.kind())
        };
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some("https://Node:2376")), Ok(()));
        for other in ["https://evil.example", "https://node:2377", "null"] {
            assert_eq!(check(Some(other)), Err(Kind::Forbidden), "{other}");
        }
    }
}
