//! The Docker Engine API.
//!
//! ```text
//!   connection ──▶ HTTP/1.1 ──▶ Door::answer (span, panic guard) ──▶ router ──▶ a resource's file
//!                                        │                                          │
//!                                        └──────── status: Error ▶ {"message"} ◀────┘
//!              └─▶ HTTP/2 (http2) ──▶ the same, or gRPC ──▶ buildkit
//! ```
//!
//! Every path may begin with a version (`/v1.24/…`). No client is refused for its age; which one is asked for makes a
//! difference only where a client of that age cannot do without what later versions have no more (`Call::is_before`).
//! Shapes of requests and replies are in `wire`, what they mean to the engine in `convert`.
//!
//! What cannot be read as HTTP never gets here: hyper answers it with 400, 414 (a URI of 64 KiB) or 431 (a head of 408 KiB) and
//! no body, and has no place for words of ours. Docker's server answers these without `{"message"}` too, in plain text.

mod archive;
mod attach;
mod build;
mod build_lines;
mod build_steps;
mod buildkit;
mod call;
mod containers;
pub(super) mod convert;
mod detach;
mod events;
mod execs;
mod hijack;
mod http2;
mod images;
mod lent;
mod log_files;
mod logs;
mod making;
mod networks;
mod peer;
mod prune;
mod ps;
mod pull;
mod push;
mod query;
mod reply;
mod router;
mod stats;
mod status;
mod swarm;
mod system;
mod top;
mod unread;
mod volumes;
mod websocket;
pub(super) mod wire;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::lent::Sessions;
use self::peer::Peer;
use self::reply::Body;
use super::tls::Handshakes;
use crate::api::buildkit::BuildKit;
use crate::builder::Builder;
use crate::engine::Engine;

/// The newest version of the API whose every field we know. Later ones take fields away that
/// programs still read.
const API_VERSION: &str = "1.51";

/// The oldest one that clients of today know.
const OLDEST_API_VERSION: &str = "1.24";

/// A client that opens a connection and does not ask for anything.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);

/// Clients from elsewhere that are shaking hands; more wait in the listen queue.
const MOST_HANDSHAKES: usize = 128;

/// Without a descriptor or memory for a client, nobody is heard for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// A client from elsewhere that says nothing for so long is asked whether it is there, and how often it is asked (tcp(7)).
const ASKED_AFTER: Duration = Duration::from_secs(30);
const TIMES_ASKED: u32 = 4;

/// The door; clones share the engine.
#[derive(Clone)]
pub(super) struct Door {
    engine: Engine,
    builder: Builder,
    buildkit: BuildKit,
    sessions: Sessions,
    /// Holds every call until it is answered.
    under_way: TaskTracker,
}

impl Door {
    pub(super) fn new(engine: Engine, under_way: TaskTracker) -> Self {
        let builder = Builder::new(engine.clone());
        let buildkit = BuildKit::new(engine.clone(), builder.clone());
        Self { engine, builder, buildkit, sessions: Sessions::default(), under_way }
    }

    /// Answers until `stopping`, and then what is under way.
    pub(super) async fn serve(self, listener: UnixListener, stopping: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopping.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let peer = Peer::local(&stream);
                    tokio::spawn(self.clone().connection(stream, peer, stopping.clone()));
                }
                Err(error) => missed(&error).await,
            }
        }
    }

    /// As [`Door::serve`], for those who are let in.
    pub(super) async fn serve_tls(
        self,
        listener: TcpListener,
        handshakes: Handshakes,
        stopping: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(MOST_HANDSHAKES));
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = stopping.cancelled() => return,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    missed(&error).await;
                    continue;
                }
            };
            let (door, handshakes, stopping) = (self.clone(), handshakes.clone(), stopping.clone());
            tokio::spawn(async move {
                let shaken = handshakes.with(stream).await;
                drop(place);
                match shaken {
                    Ok(stream) => {
                        let peer = remote(stream.get_ref().0);
                        door.connection(stream, peer, stopping).await;
                    }
                    Err(error) => {
                        tracing::info!(%from, error = error.chain(), "a docker client is refused");
                    }
                }
            });
        }
    }

    async fn connection(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: std::io::Result<Peer>,
        stopping: CancellationToken,
    ) {
        let peer = match peer {
            Ok(peer) => peer,
            Err(error) => return tracing::warn!(%error, "watch a docker client"),
        };
        let looked = tokio::select! {
            looked = tokio::time::timeout(HEAD_PATIENCE, http2::look(stream)) => looked,
            () = stopping.cancelled() => return,
        };
        let stream = match looked {
            Ok(Ok((false, stream))) => stream,
            Ok(Ok((true, stream))) => return Box::pin(http2::serve(self, stream, peer)).await,
            Ok(Err(error)) => return tracing::debug!(%error, "a docker client's connection"),
            Err(_) => return,
        };
        let answer = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let answer = self.answer(request);
            let peer = peer.clone();
            async { Ok::<_, Infallible>(reply::while_there(answer.await, peer)) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            // A client may have said all it has to say, and still read.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a docker client's connection");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let span = tracing::info_span!("docker", %method, path = super::call::cut(&path));
        let answering = async {
            let guarded = AssertUnwindSafe(router::route(self, request)).catch_unwind();
            let result = match guarded.await {
                Ok(result) => result,
                Err(panic) => Err(super::call::bug(panic.as_ref())),
            };
            let duration = started.elapsed();
            match &result {
                Ok(response) => {
                    tracing::debug!(?duration, status = response.status().as_u16(), "answered");
                }
                Err(error) if status::is_ours(error.kind()) => {
                    tracing::warn!(?duration, error = error.chain(), "failed");
                }
                Err(error) => tracing::info!(?duration, error = error.chain(), "refused"),
            }
            let mut response = result.unwrap_or_else(|error| status::refused(&error));
            introduce(&mut response);
            response
        };
        self.under_way.track_future(answering.instrument(span)).await
    }
}

/// Out of descriptors; connections that end give some back.
async fn missed(error: &std::io::Error) {
    tracing::warn!(%error, "accept a docker client");
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing tells when there are descriptors again"
    )]
    tokio::time::sleep(PAUSE).await;
}

/// A client that loses its power says nothing, and would be waited for.
fn remote(stream: &TcpStream) -> std::io::Result<Peer> {
    use rustix::net::sockopt;

    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ASKED_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, ASKED_AFTER)?;
    sockopt::set_tcp_keepcnt(stream, TIMES_ASKED)?;
    Peer::remote(stream)
}

/// What every reply says about who sent it.
fn introduce(response: &mut Response<Body>) {
    const SERVER: &str = concat!("Cais/", env!("CARGO_PKG_VERSION"), " (linux)");
    let headers = response.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static(API_VERSION));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
}
