//! HTTP/2 without a word in HTTP/1.1 before it (RFC 9113, 3.3): by gRPC clients that dial the socket, as buildx's driver `remote`.
//!
//! gRPC is BuildKit's. All else is answered as it is by HTTP/1.1, but for connections that change hands, which HTTP/2 has not.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, header};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tower::Service;

use super::peer::Peer;
use super::{Door, reply};
use crate::api::buildkit::serve_http2;

/// How every client begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection of which a little was read; it comes again.
pub(super) struct Begun<S> {
    first: Vec<u8>,
    /// Of those, how many came again.
    given: usize,
    stream: S,
}

/// Reads as much as tells HTTP/2 from anything else: one byte of most clients.
pub(super) async fn look<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(bool, Begun<S>)> {
    let mut first = Vec::new();
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let missing = PREFACE.len() - first.len();
        if (&mut stream).take(missing as u64).read_buf(&mut first).await? == 0 {
            break;
        }
    }
    Ok((first == PREFACE, Begun { first, given: 0, stream }))
}

/// Answers until the client hangs up.
pub(super) async fn serve(
    door: Door,
    stream: Begun<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>,
    peer: Peer,
) {
    let calls = door.buildkit.routes();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let (door, peer, mut calls) = (door.clone(), peer.clone(), calls.clone());
        async move {
            if is_grpc(request.headers()) {
                return calls.call(request).await.map(|response| response.map(Either::Left));
            }
            request.extensions_mut().insert(peer.clone());
            let response = reply::while_there(door.answer(request).await, peer);
            Ok::<_, Infallible>(response.map(Either::Right))
        }
    });
    serve_http2(TokioIo::new(stream), answer).await;
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.first.get(self.given..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn http2_is_told_from_http1_and_nothing_is_lost() {
        let whole = [PREFACE, b"frames"].concat();
        let cases: [(&[u8], bool); 6] = [
            (&whole, true),
            (PREFACE, true),
            (b"PRI * HTTP/1.1\r\n\r\n", false),
            (b"POST /grpc HTTP/1.1\r\n\r\n", false),
            (b"PRI", false),
            (b"", false),
        ];
        for (sent, expected) in cases {
            for piece in [1, 7, 100] {
                let (mut client, server) = tokio::io::duplex(64);
                let sending = async {
                    for piece in sent.chunks(piece) {
                        client.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    drop(client);
                };
                let reading = async {
                    let (is_it, mut begun) = look(server).await.unwrap();
                    let mut read = Vec::new();
                    begun.read_to_end(&mut read).await.unwrap();
                    (is_it, read)
                };
                let ((), (is_it, read)) = tokio::join!(sending, reading);
                assert_eq!((is_it, read.as_slice()), (expected, sent), "{piece}");
            }
        }
    }
}
