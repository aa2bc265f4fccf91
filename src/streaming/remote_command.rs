//! Exec and attach: the standard streams of one process, carried by a session.
//!
//! The outcome is told last: first the process ends, then what it wrote is drained to the client,
//! then the status goes to the error stream, then every stream is finished. If the client leaves
//! first, our ends of the standard streams are dropped: an executed command reads end of file or
//! loses its terminal, an attached container does not notice.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backend::{Process, Resize, Stdio, Wanted, WindowSize};
use super::channel::{Incoming, Outgoing, Received};
use super::status::{self, Form};
use super::stdio::Pipe;
use crate::error::{Context, Result};

const COPY_SIZE: usize = 32 << 10;
/// After the exit, a pipe held open by a child of the process is drained until it is silent for
/// this long.
const QUIET: Duration = Duration::from_millis(500);
/// Unparsed bytes of resize messages; one is about 30 bytes long.
const RESIZE_LIMIT: usize = 4 << 10;

/// The streams of a session that carries a process, once the client has opened them all.
pub(crate) struct Streams {
    pub(crate) stdin: Option<Incoming>,
    pub(crate) stdout: Option<Outgoing>,
    pub(crate) stderr: Option<Outgoing>,
    pub(crate) resize: Option<Incoming>,
    pub(crate) error: Outgoing,
    pub(crate) form: Form,
    /// Halves that carry nothing but must end with the others.
    pub(crate) idle: Vec<Outgoing>,
    /// Cancelled when the client is gone.
    pub(crate) lost: CancellationToken,
}

/// Carries the process to its end or the client to its leave, and tells the outcome.
pub(crate) async fn carry(
    mut streams: Streams,
    wanted: Wanted,
    process: impl Future<Output = Result<Process>>,
) {
    let lost = streams.lost.clone();
    let outcome = tokio::select! {
        outcome = run(&mut streams, wanted, process) => outcome,
        () = lost.cancelled() => {
            tracing::debug!("the client left before the end");
            return;
        }
    };
    if let Err(error) = &outcome {
        tracing::warn!("stream session: {}", error.chain());
    }
    let message = status::message(streams.form, &outcome);
    // A client that is gone by now needs no outcome.
    let _ = streams.error.send(message).await;
    let Streams { stdout, stderr, error, idle, .. } = streams;
    // The oldest clients stop listening at the end of the outputs.
    for mut outgoing in [Some(error), stdout, stderr].into_iter().flatten().chain(idle) {
        outgoing.finish().await;
    }
}

async fn run(
    streams: &mut Streams,
    wanted: Wanted,
    process: impl Future<Output = Result<Process>>,
) -> Result<i32> {
    let Process { stdio, exit, resize } = process.await?;
    let ends = Ends::open(stdio).context("open the streams of the process")?;
    let exited = CancellationToken::new();
    let input = copy_in(streams.stdin.take(), ends.stdin, wanted);
    let sizes = follow_sizes(streams.resize.take(), resize);
    let output = async {
        tokio::join!(
            copy_out(ends.stdout, streams.stdout.as_mut(), &exited),
            copy_out(ends.stderr, streams.stderr.as_mut(), &exited),
        )
    };
    let end = async {
        let code = exit.await;
        exited.cancel();
        code
    };
    let inward = async {
        tokio::join!(input, sizes);
        pending::<Infallible>().await
    };
    tokio::select! {
        (code, ((), ())) = async { tokio::join!(end, output) } => code,
        never = inward => match never {},
    }
}

#[derive(Default)]
struct Ends {
    stdin: Option<Pipe>,
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
}

impl Ends {
    fn open(stdio: Stdio) -> std::io::Result<Self> {
        if let Some(master) = stdio.terminal {
            let writer = Pipe::new(master.try_clone()?)?;
            return Ok(Self {
                stdin: Some(writer),
                stdout: Some(Pipe::new(master)?),
                stderr: None,
            });
        }
        Ok(Self {
            stdin: stdio.stdin.map(Pipe::new).transpose()?,
            stdout: stdio.stdout.map(Pipe::new).transpose()?,
            stderr: stdio.stderr.map(Pipe::new).transpose()?,
        })
    }
}

/// Ends with the client's half-close, which closes the pipe: the process reads end of file. A
/// terminal has no half to close.
async fn copy_in(incoming: Option<Incoming>, pipe: Option<Pipe>, wanted: Wanted) {
    let (Some(mut incoming), Some(mut pipe)) = (incoming, pipe) else { return };
    loop {
        match incoming.recv().await {
            Received::Data(data) => {
                if pipe.write_all(&data).await.is_err() {
                    // The process closed its input; what the client still sends goes nowhere.
                    return;
                }
            }
            Received::Finished if wanted.tty => return pending().await,
            Received::Finished | Received::Gone => return,
        }
    }
}

/// Ends at end of file, when the client stops listening, or when the process is gone and the pipe
/// is silent.
async fn copy_out(pipe: Option<Pipe>, outgoing: Option<&mut Outgoing>, exited: &CancellationToken) {
    let (Some(mut pipe), Some(outgoing)) = (pipe, outgoing) else { return };
    let mut buffer = BytesMut::new();
    while let Some(data) = read_some(&mut pipe, &mut buffer, exited).await {
        if outgoing.send(data).await.is_err() {
            return;
        }
    }
}

async fn read_some(
    pipe: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    exited: &CancellationToken,
) -> Option<Bytes> {
    buffer.reserve(COPY_SIZE);
    let read = tokio::select! {
        biased;
        read = pipe.read_buf(buffer) => read,
        () = exited.cancelled() => timeout(QUIET, pipe.read_buf(buffer)).await.ok()?,
    };
    match read {
        Ok(count) if count > 0 => Some(buffer.split().freeze()),
        _ => None,
    }
}

/// The sizes that clients send, one JSON object after another.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SizeMessage {
    width: u16,
    height: u16,
}

async fn follow_sizes(incoming: Option<Incoming>, mut resize: Resize) {
    let Some(mut incoming) = incoming else { return };
    let mut text = Vec::new();
    while let Received::Data(data) = incoming.recv().await {
        text.extend_from_slice(&data);
        // Of several sizes that wait, only the last one matters.
        let Ok(latest) = last_size(&mut text) else {
            tracing::debug!("a terminal size that is not JSON; later ones are ignored");
            return;
        };
        let Some(SizeMessage { width, height }) = latest else { continue };
        if let Err(error) = resize(WindowSize { columns: width, rows: height }).await {
            tracing::debug!("resize: {}", error.chain());
        }
    }
}

/// Takes the whole messages off `text` and returns the last.
fn last_size(text: &mut Vec<u8>) -> Result<Option<SizeMessage>, serde_json::Error> {
    let mut messages = serde_json::Deserializer::from_slice(text).into_iter::<SizeMessage>();
    let (mut latest, mut read) = (None, 0);
    while let Some(message) = messages.next() {
        match message {
            Ok(size) => {
                latest = Some(size);
                read = messages.byte_offset();
            }
            Err(error) if error.is_eof() && text.len() < RESIZE_LIMIT => break,
            Err(error) => return Err(error),
        }
    }
    text.drain(..read);
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_sizes_the_last_counts_and_a_cut_one_waits() {
        let mut text = br#"{"Width":80,"Height":24}{"Width":100,"Height":40} {"Wid"#.to_vec();
        let size = last_size(&mut text).unwrap().unwrap();
        assert_eq!((size.width, size.height), (100, 40));

        text.extend_from_slice(br#"th":7,"Height":8}"#);
        let size = last_size(&mut text).unwrap().unwrap();
        assert_eq!((size.width, size.height), (7, 8));
        assert!(text.is_empty());
    }

    #[test]
    fn a_size_that_never_ends_is_refused_before_it_fills_memory() {
        let mut text = vec![b' '; RESIZE_LIMIT];
        text.extend_from_slice(b"{\"Width\":");
        assert!(last_size(&mut text).is_err());
        assert!(last_size(&mut b"[1]".to_vec()).is_err());
    }
}
