//! Connections that have changed hands (`Upgrade: h2c`) and carry gRPC: ours as the server, or the
//! client's, who serves us on its session.

use std::task::{Context, Poll};

use cais_proto::buildkit::control::BytesMessage;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::HttpService;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;
use tonic::body::Body;
use tonic::{Status, Streaming};
use tower::{BoxError, Service};

use crate::error::{Context as _, Kind, Result};

/// A connection as hyper has it.
pub(crate) trait Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static {}

impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static> Io for T {}

/// Bytes that may be on their way in one stream, and in all.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// The same of a connection within a call.
const CALL_WINDOW: usize = 256 << 10;

/// As much as BuildKit and its clients take in one message.
pub(super) const LARGEST_MESSAGE: usize = 16 << 20;

/// Answers until the client hangs up.
pub(crate) async fn serve_http2<S, B>(io: impl Io, service: S)
where
    S: HttpService<Incoming, ResBody = B> + Send,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body<Error: Into<BoxError>, Data: Send> + Send + 'static,
{
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(io, service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a client's connection");
    }
}

/// A connection whose bytes are the messages of a call, and what is to be sent of it.
pub(super) fn of_call(
    mut incoming: Streaming<BytesMessage>,
) -> (impl Io, impl Stream<Item = Result<BytesMessage, Status>> + Send) {
    let (ours, theirs) = tokio::io::duplex(CALL_WINDOW);
    let (reader, mut writer) = tokio::io::split(theirs);
    tokio::spawn(async move {
        // However it ends, who reads sees the end.
        while let Ok(Some(message)) = incoming.message().await {
            if writer.write_all(&message.data).await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
    });
    let pieces = ReaderStream::with_capacity(reader, CALL_WINDOW);
    let outgoing = pieces.map(|piece| match piece {
        Ok(data) => Ok(BytesMessage { data }),
        Err(error) => Err(Status::unavailable(error.to_string())),
    });
    (TokioIo::new(ours), outgoing)
}

/// Calls to who is at the other end.
#[derive(Clone)]
pub(super) struct Caller(SendRequest<Body>);

impl Caller {
    /// The future ends when the connection does.
    pub(super) async fn on(io: impl Io) -> Result<(Self, impl Future<Output = ()> + Send)> {
        let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(io);
        let (sender, connection) =
            handshake.await.context("greet a build client").kind(Kind::Unavailable)?;
        let ending = connection.map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "a build client's session");
            }
        });
        Ok((Self(sender), ending))
    }

    /// Calls need some; there is but one at the other end.
    pub(super) fn origin() -> Uri {
        Uri::from_static("http://localhost")
    }
}

impl Service<Request<Body>> for Caller {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.send_request(request).boxed()
    }
}
