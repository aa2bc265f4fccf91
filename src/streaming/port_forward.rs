//! Port-forward: connections into a pod, each carried by a pair of streams.
//!
//! The two directions of a connection are independent. The end of one is passed on as a half-close
//! and the other goes on until its own end, however long that takes.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backend::{Backend, PortForward};
use super::channel::{Incoming, Outgoing, Received};
use super::protocol::STREAM_CREATION;
use super::spdy::{Session, Stream};
use super::websocket::Channels;
use crate::error::{Error, Kind, Result};

const COPY_SIZE: usize = 32 << 10;
const DIAL: Duration = Duration::from_secs(30);
/// Ports of one WebSocket connection; each takes two of its channels.
pub(crate) const PORTS_LIMIT: usize = 100;

/// Serves the pairs of streams that the client opens until it leaves.
pub(crate) async fn over_spdy(
    session: &mut Session,
    pod: Arc<PortForward>,
    backend: Arc<dyn Backend>,
) {
    let mut pairs = Pairs::default();
    // Dropped with the session: a client that leaves cuts its connections.
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            () = pairs.expire() => continue,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
        };
        let Some(stream) = stream else { return };
        let Some(pair) = pairs.add(stream) else { continue };
        let (pod, backend) = (Arc::clone(&pod), Arc::clone(&backend));
        connections.spawn(async move {
            let dialled = dial(&*backend, &pod, pair.port).await;
            let Pair { incoming, outgoing, error, .. } = pair;
            carry(dialled, incoming, outgoing, error).await;
        });
    }
}

/// Serves one connection for each port of the request.
pub(crate) async fn over_websocket(
    channels: &mut Channels,
    pod: &PortForward,
    backend: &dyn Backend,
) {
    let lost = channels.lost();
    let ports = pod.ports.iter().enumerate().filter_map(|(index, port)| {
        let data = u8::try_from(index * 2).ok()?;
        let incoming = channels.take(usize::from(data))?;
        Some((*port, incoming, channels.outgoing(data), channels.outgoing(data + 1)))
    });
    let connections: Vec<_> = ports
        .map(|(port, incoming, mut outgoing, mut error)| async move {
            // The protocol announces each channel by its port, so that clients can tell them apart.
            let name = Bytes::copy_from_slice(&port.to_le_bytes());
            if outgoing.send(name.clone()).await.is_ok() && error.send(name).await.is_ok() {
                let dialled = dial(backend, pod, port).await;
                carry(dialled, incoming, outgoing, error).await;
            }
        })
        .collect();
    channels.ignore_rest();
    tokio::select! {
        _ = futures_util::future::join_all(connections) => {}
        () = lost.cancelled() => {}
    }
}

async fn dial(backend: &dyn Backend, pod: &PortForward, port: u16) -> Result<TcpStream> {
    let dialled = match timeout(DIAL, backend.dial(pod, port)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(Error::new(Kind::Timeout, "no answer in 30 seconds")),
    };
    dialled.map_err(|error| {
        let text = format!("forward port {port} to pod {}: {}", pod.pod, error.chain());
        Error::new(error.kind(), text)
    })
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a forwarded connection: {error}");
    }
}

/// Carries one connection to the end of both its directions.
async fn carry(
    dialled: Result<TcpStream>,
    incoming: Incoming,
    mut outgoing: Outgoing,
    mut error: Outgoing,
) {
    let failure = match dialled {
        Ok(connection) => {
            let (read, write) = connection.into_split();
            copy_both(read, write, incoming, &mut outgoing).await.err().map(|end| match end {
                Break::Reset => String::new(),
                Break::Failed(error) => format!("forwarded connection: {error}"),
            })
        }
        Err(error) => Some(error.chain()),
    };
    if let Some(text) = failure {
        // A client that has reset the stream may still read the reason here.
        let _ = error.send(Bytes::from(text)).await;
        error.finish().await;
        outgoing.reset();
    } else {
        error.finish().await;
    }
}

enum Break {
    /// The client gave the connection up.
    Reset,
    Failed(io::Error),
}

async fn copy_both(
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    mut incoming: Incoming,
    outgoing: &mut Outgoing,
) -> Result<(), Break> {
    let can_finish = matches!(outgoing, Outgoing::Spdy(_));
    let heard_all = CancellationToken::new();
    let inward = async {
        copy_in(&mut incoming, write).await?;
        heard_all.cancel();
        // The client may still reset the stream while the pod goes on.
        incoming.gone().await;
        Err(Break::Reset)
    };
    let outward = async {
        copy_out(read, outgoing).await?;
        // Without half-close the client would wait for ever for an end it cannot be told.
        if can_finish {
            heard_all.cancelled().await;
        }
        Ok(())
    };
    tokio::select! {
        done = outward => done,
        broken = inward => broken,
    }
}

async fn copy_in(incoming: &mut Incoming, mut write: OwnedWriteHalf) -> Result<(), Break> {
    let mut listening = true;
    loop {
        match incoming.recv().await {
            Received::Data(data) if listening => {
                if let Err(error) = write.write_all(&data).await {
                    // The pod may stop listening and still have something to say.
                    tracing::debug!("a forwarded connection takes no more: {error}");
                    listening = false;
                }
            }
            Received::Data(_) => {}
            Received::Finished => {
                // A connection that is already broken has nothing to shut.
                let _ = write.shutdown().await;
                return Ok(());
            }
            Received::Gone => return Err(Break::Reset),
        }
    }
}

async fn copy_out(mut read: OwnedReadHalf, outgoing: &mut Outgoing) -> Result<(), Break> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(COPY_SIZE);
        match read.read_buf(&mut buffer).await {
            Ok(0) => {
                outgoing.finish().await;
                return Ok(());
            }
            Ok(_) => {
                let data = buffer.split().freeze();
                outgoing.send(data).await.map_err(|_| Break::Reset)?;
            }
            Err(error) => return Err(Break::Failed(error)),
        }
    }
}

/// A connection that the client asks for: its data stream and its error stream are both open.
struct Pair {
    port: u16,
    incoming: Incoming,
    outgoing: Outgoing,
    error: Outgoing,
}

/// Streams whose partner has not come yet.
#[derive(Default)]
struct Pairs {
    waiting: HashMap<String, (Stream, Kinds, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Data,
    Error,
}

impl Pairs {
    /// Returns the pair that `stream` completes. Dropping a stream resets it.
    fn add(&mut self, stream: Stream) -> Option<Pair> {
        let kind = match stream.headers.get("streamtype") {
            Some("data") => Kinds::Data,
            Some("error") => Kinds::Error,
            other => {
                tracing::debug!("port-forward stream of type {other:?} refused");
                return None;
            }
        };
        let port = match stream.headers.get("port").map(str::parse::<u16>) {
            Some(Ok(port)) if port > 0 => port,
            other => {
                tracing::debug!("port-forward stream for port {other:?} refused");
                return None;
            }
        };
        let request = request_id(&stream, kind);
        let Some((partner, partner_kind, since)) = self.waiting.remove(&request) else {
            self.waiting.insert(request, (stream, kind, Instant::now()));
            return None;
        };
        let (data, error) = match (partner_kind, kind) {
            (Kinds::Data, Kinds::Error) => (partner, stream),
            (Kinds::Error, Kinds::Data) => (stream, partner),
            (Kinds::Data, Kinds::Data) | (Kinds::Error, Kinds::Error) => {
                self.waiting.insert(request, (partner, partner_kind, since));
                return None;
            }
        };
        let Stream { incoming, outgoing, .. } = data;
        Some(Pair { port, incoming, outgoing, error: error.outgoing })
    }

    /// Resets the streams whose partner did not come in time; resolves when it has done so.
    async fn expire(&mut self) {
        let Some(oldest) = self.waiting.values().map(|(_, _, since)| *since).min() else {
            return std::future::pending().await;
        };
        let _ = timeout_at(oldest + STREAM_CREATION, std::future::pending::<()>()).await;
        self.waiting.retain(|_, (_, _, since)| since.elapsed() < STREAM_CREATION);
    }
}

/// Old clients send no request id but open the error stream right before the data stream.
fn request_id(stream: &Stream, kind: Kinds) -> String {
    match (stream.headers.get("requestid"), kind) {
        (Some(id), _) if !id.is_empty() => id.to_owned(),
        (_, Kinds::Error) => format!("stream {}", stream.id),
        (_, Kinds::Data) => format!("stream {}", stream.id.saturating_sub(2)),
    }
}
