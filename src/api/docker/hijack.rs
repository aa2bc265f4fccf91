//! Connections that become a process's standard streams.
//!
//! ```text
//!   client ══ 101 UPGRADED ══▶ stdin            frames: [stream, 0, 0, 0, length; payload]
//!          ◀═══ frames, or raw with a terminal ═══ stdout, stderr
//! ```
//!
//! A client that ends its half ends the process's standard input and still gets the rest. Our half
//! ends when the process has said all.
//!
//! Some clients (docker-py) read the head of the answer through a buffer, and afterwards the
//! connection without it: what came together with the head is lost to them. Here a process is quick
//! enough to say something before its client has read the head, so what it says waits for that.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, duplex};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;
use tracing::Instrument;

use super::detach::{Detach, Presence};
use super::peer::Peer;
use super::reply::{self, Body};
use crate::engine::standalone::Session;
use crate::engine::streams::{Pipe, Stdio};

/// What goes to a client at once.
pub(super) const PIECE: usize = 32 << 10;

const HEADER: usize = 8;

/// A background child of a command that has ended may keep its output open; who is silent for so
/// long has nothing to say any more.
const QUIET: Duration = Duration::from_millis(100);

/// A client that has had its answer may still have something on its way to us; to close before it
/// came would be an error to the client.
const LINGER: Duration = Duration::from_secs(1);

/// Who gets the streams.
pub(super) struct Client {
    pub(super) stream: Box<dyn Connection>,
    peer: Option<Peer>,
}

impl Client {
    pub(super) fn new(stream: Box<dyn Connection>, peer: Option<Peer>) -> Self {
        Self { stream, peer }
    }

    /// Resolves when the client has read the head of the answer.
    pub(super) fn heard(&self) -> impl Future<Output = ()> + Send + use<> {
        let peer = self.peer.clone();
        async move {
            if let Some(peer) = peer {
                peer.has_read().await;
            }
        }
    }

    /// Resolves when the client neither reads nor writes any more.
    pub(super) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        Peer::gone_if_known(self.peer.clone())
    }
}

pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// How output travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// With a terminal there is one stream.
    Raw,
    Multiplexed,
    /// It does not: its end alone is of interest.
    Discarded,
}

/// Bytes in front of a frame's payload, and the place of its length in them.
const FRAME_HEADER: usize = 8;
const FRAME_LENGTH: usize = 4;

/// Numbers of the streams in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout = 1,
    Stderr = 2,
}

impl Framing {
    pub(super) fn of(tty: bool) -> Self {
        if tty { Self::Raw } else { Self::Multiplexed }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Raw | Self::Discarded => "application/vnd.docker.raw-stream",
            Self::Multiplexed => "application/vnd.docker.multiplexed-stream",
        }
    }

    /// Appends a piece of a stream, as it travels.
    pub(super) fn put(self, out: &mut Vec<u8>, stream: Stream, piece: &[u8]) {
        if self == Self::Discarded {
            return;
        }
        if self == Self::Multiplexed {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&[stream as u8, 0, 0, 0]);
            out.extend_from_slice(&length.to_be_bytes());
        }
        out.extend_from_slice(piece);
    }

    /// As [`Framing::put`], as a part of the frame that begins at `last` in `out`, if that is of the same stream.
    pub(super) fn put_joined(
        self,
        out: &mut Vec<u8>,
        last: &mut Option<(Stream, usize)>,
        (stream, piece): (Stream, &[u8]),
    ) {
        if self == Self::Multiplexed
            && let Some((_, at)) = last.filter(|(of, _)| *of == stream)
        {
            out.extend_from_slice(piece);
            let joined = u32::try_from(out.len() - at - FRAME_HEADER).unwrap_or(u32::MAX);
            if let Some(header) = out.get_mut(at + FRAME_LENGTH..at + FRAME_HEADER) {
                header.copy_from_slice(&joined.to_be_bytes());
            }
            return;
        }
        *last = Some((stream, out.len()));
        self.put(out, stream, piece);
    }
}

/// The answer with which a connection changes hands; `carry` then has it. Who did not ask for that
/// gets the same output as a body, and has no standard input.
pub(super) fn answer<F>(
    (upgrade, peer): (Option<OnUpgrade>, Option<Peer>),
    framing: Framing,
    carry: impl FnOnce(Client) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let Some(upgrade) = upgrade else {
        let (ours, theirs) = duplex(PIECE);
        let pieces = ReaderStream::new(theirs).filter_map(async |piece| piece.ok());
        spawn(async move { carry(Client::new(Box::new(ours), peer)).await });
        return reply::stream(framing.media_type(), Box::pin(pieces));
    };
    spawn(async move {
        let upgraded = upgrade.await.map_err(io::Error::other)?;
        carry(Client::new(Box::new(TokioIo::new(upgraded)), peer)).await
    });
    let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    reply::set_type(&mut response, framing.media_type());
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    response
}

fn spawn(carrying: impl Future<Output = io::Result<()>> + Send + 'static) {
    let logged = async {
        if let Err(error) = carrying.await {
            tracing::debug!(%error, "a client's streams ended early");
        }
    };
    tokio::spawn(logged.in_current_span());
}

/// Carries the streams until they end, until `over` says that the process has ended and they have
/// nothing more to say, or until the client leaves: by its keys or without a word. Then our half
/// ends.
pub(super) async fn carry(
    session: Session,
    client: Client,
    framing: Framing,
    (over, detach): (Option<BoxFuture<'static, ()>>, Option<Detach>),
) -> io::Result<()> {
    let (mut streams, session) = Streams::of(session)?;
    let (gone, heard) = (client.gone(), client.heard());
    // A container's own streams stay with its monitor.
    let is_command = over.is_some();
    let (from, mut to) = tokio::io::split(client.stream);
    let mut feeding = tokio::spawn(feed(from, streams.stdin.take(), detach));
    let carried = {
        let left = async {
            match (&mut feeding).await {
                Ok(Ok(Presence::Left)) => {}
                // It has said all, and reads on.
                Ok(Ok(Presence::There) | Err(_)) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            drained = streams.drain(&mut to, framing, over, heard) => drained.map(|()| Presence::There),
            () = left => Ok(Presence::Left),
            () = gone => Ok(Presence::There),
        }
    };
    let shut = to.shutdown().await;
    match carried {
        // A command goes on without a client, and must not find its terminal closed.
        Ok(Presence::Left) if is_command => spawn(async move {
            let drained = streams.drain(&mut tokio::io::sink(), framing, None, async {}).await;
            drop(session);
            drained
        }),
        Ok(_) | Err(_) => drop((streams, session)),
    }
    if !feeding.is_finished() && timeout(LINGER, &mut feeding).await.is_err() {
        feeding.abort();
    }
    carried.and(shut)
}

/// From the client to the process. The end of the one is the end of the other.
async fn feed(
    mut from: ReadHalf<Box<dyn Connection>>,
    mut stdin: Option<Pipe>,
    mut detach: Option<Detach>,
) -> io::Result<Presence> {
    let mut buffer = vec![0; PIECE];
    let mut input = Vec::new();
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            return Ok(Presence::There);
        };
        input.clear();
        let presence = match &mut detach {
            Some(detach) => detach.pass(piece, &mut input),
            None => {
                input.extend_from_slice(piece);
                Presence::There
            }
        };
        // What nobody reads, or nobody any more, is read here, so that the client's going is seen.
        if let Some(pipe) = &mut stdin
            && pipe.write_all(&input).await.is_err()
        {
            stdin = None;
        }
        if presence == Presence::Left {
            return Ok(presence);
        }
    }
}

struct Streams {
    stdin: Option<Pipe>,
    outputs: [Option<Pipe>; 2],
}

impl Streams {
    /// What of the session is not streams is kept beside them, to its end.
    fn of(mut session: Session) -> io::Result<(Self, Session)> {
        let Stdio { stdin, stdout, stderr, terminal } = std::mem::take(&mut session.process.stdio);
        let open = |fd: Option<std::os::fd::OwnedFd>| fd.map(Pipe::new).transpose();
        let streams = match terminal {
            Some(terminal) => {
                let input = terminal.try_clone()?;
                Self { stdin: open(Some(input))?, outputs: [open(Some(terminal))?, None] }
            }
            None => Self { stdin: open(stdin)?, outputs: [open(stdout)?, open(stderr)?] },
        };
        Ok((streams, session))
    }

    async fn drain(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        framing: Framing,
        mut over: Option<BoxFuture<'static, ()>>,
        heard: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let mut heard = Some(heard);
        let mut buffers = [vec![0; PIECE], vec![0; PIECE]];
        let mut out = Vec::with_capacity(HEADER + PIECE);
        let [first, second] = &mut buffers;
        let [stdout, stderr] = &mut self.outputs;
        let mut is_over = false;
        while stdout.is_some() || stderr.is_some() {
            let next = async {
                tokio::select! {
                    count = read(stdout, first) => (Stream::Stdout, count),
                    count = read(stderr, second) => (Stream::Stderr, count),
                }
            };
            let (stream, count) = if is_over {
                match timeout(QUIET, next).await {
                    Ok(read) => read,
                    Err(_) => return Ok(()),
                }
            } else {
                tokio::select! {
                    biased;
                    read = next => read,
                    () = resolved(&mut over) => {
                        (is_over, over) = (true, None);
                        continue;
                    }
                }
            };
            let count = count?;
            let (place, buffer) = match stream {
                Stream::Stdout => (&mut *stdout, &*first),
                Stream::Stderr => (&mut *stderr, &*second),
            };
            match buffer.get(..count).filter(|piece| !piece.is_empty()) {
                Some(piece) => {
                    if let Some(heard) = heard.take() {
                        heard.await;
                    }
                    out.clear();
                    framing.put(&mut out, stream, piece);
                    to.write_all(&out).await?;
                    to.flush().await?;
                }
                None => *place = None,
            }
        }
        // Who asks for the code when the streams end must find it.
        if let Some(over) = over {
            over.await;
        }
        Ok(())
    }
}

/// Never returns for what is not there.
async fn resolved(future: &mut Option<BoxFuture<'static, ()>>) {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Never returns for a stream that is not there.
async fn read(pipe: &mut Option<Pipe>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_stream_and_length_in_front() {
        let mut out = Vec::new();
        Framing::Multiplexed.put(&mut out, Stream::Stderr, b"no\n");
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x03no\n");
        out.clear();
        Framing::Raw.put(&mut out, Stream::Stdout, b"yes");
        assert_eq!(out, b"yes");
        out.clear();
        let mut last = None;
        for (stream, piece) in [
            (Stream::Stdout, "a\n"),
            (Stream::Stdout, "b\n"),
            (Stream::Stderr, "c\n"),
            (Stream::Stdout, "d\n"),
        ] {
            Framing::Multiplexed.put_joined(&mut out, &mut last, (stream, piece.as_bytes()));
        }
        assert_eq!(
            out,
            b"\x01\0\0\0\0\0\0\x04a\nb\n\x02\0\0\0\0\0\0\x02c\n\x01\0\0\0\0\0\0\x02d\n"
        );
    }
}
