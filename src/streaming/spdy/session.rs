//! One SPDY connection: its two tasks, its streams, its end.
//!
//! The reader owns the table of [`Streams`]. It never waits for a process: it waits only while too
//! many bytes lie unread, and then watches for the peer hanging up. When either
//! task ends, `lost` is cancelled and everybody who holds an end of a stream reads `Gone`.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::{Decoder, Encoder, Frame, Malformed};
use super::outbox::{Next, Outbox};
use super::table::{Stream, Streams};

/// How long a peer that has hung up may leave us with bytes that nobody takes.
const LAST_BYTES: Duration = Duration::from_secs(3);
/// How often a peer that we do not read from is asked whether it still lives.
const PROBE: Duration = Duration::from_secs(2);
/// How long a peer may take to close its side after we closed ours.
const GOODBYE: Duration = Duration::from_secs(5);
const READ_SIZE: usize = 64 << 10;

/// A connection that can be read, written, and watched for the peer's hanging up.
pub(crate) trait Transport: Send + Sync + 'static {
    type Read: AsyncRead + Send + Unpin;
    type Write: AsyncWrite + Send + Unpin + 'static;

    fn read(&mut self) -> &mut Self::Read;

    /// Resolves when the peer has closed, even if bytes it sent before are not yet read.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
}

impl Transport for OwnedReadHalf {
    type Read = Self;
    type Write = OwnedWriteHalf;

    fn read(&mut self) -> &mut Self {
        self
    }

    async fn hung_up(&self) {
        // Priority readiness includes "read side closed" but not "bytes are here".
        let _ = self.ready(Interest::PRIORITY).await;
    }
}

/// A running connection. Dropping it cuts the connection.
pub(crate) struct Session {
    opened: mpsc::Receiver<Stream>,
    outbox: Arc<Outbox>,
    lost: CancellationToken,
    _cut: DropGuard,
}

impl Session {
    /// `early` holds bytes of the client that were read along with the HTTP request.
    pub(crate) fn start<T: Transport>(
        transport: T,
        write: T::Write,
        early: &[u8],
        idle: Duration,
    ) -> Self {
        let lost = CancellationToken::new();
        let outbox = Arc::new(Outbox::new());
        let written = Arc::new(AtomicU64::new(0));
        let (sender, opened) = mpsc::channel(16);
        let reader = Reader {
            transport,
            decoder: Decoder::new(),
            buffer: BytesMut::from(early),
            streams: Streams::new(Arc::clone(&outbox)),
            outbox: Arc::clone(&outbox),
            opened: sender,
            written: Arc::clone(&written),
            idle,
        };
        let (task_lost, task_outbox) = (lost.clone(), Arc::clone(&outbox));
        tokio::spawn(async move {
            let _cut = task_lost.clone().drop_guard();
            tokio::select! {
                () = reader.run() => {}
                () = task_lost.cancelled() => {}
            }
            task_outbox.close();
        });
        let (task_lost, task_outbox) = (lost.clone(), Arc::clone(&outbox));
        tokio::spawn(async move {
            tokio::select! {
                result = run_writer(write, &task_outbox, &written) => {
                    // After a clean end the reader still waits for the peer's goodbye.
                    if result.is_err() {
                        task_lost.cancel();
                    }
                }
                () = task_lost.cancelled() => {}
            }
            task_outbox.close();
        });
        Self { opened, outbox, _cut: lost.clone().drop_guard(), lost }
    }

    /// The next stream that the client opens; `None` when the connection is gone.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Resets whatever else the client opens.
    pub(crate) async fn refuse_more(&mut self) -> Infallible {
        while self.accept().await.is_some() {}
        pending().await
    }

    /// Cancelled when the connection is gone.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Writes what is waiting, says goodbye, and gives the peer a moment to answer: closing with
    /// its bytes unread would make the kernel discard ours that are still on their way.
    pub(crate) async fn close(self) {
        self.outbox.finish(Frame::GoAway { last: 0, status: 0 });
        let lost = self.lost.clone();
        let _ = timeout(GOODBYE, async {
            let mut opened = self.opened;
            while opened.recv().await.is_some() {}
            lost.cancelled().await;
        })
        .await;
    }
}

async fn run_writer(
    mut write: impl AsyncWrite + Unpin,
    outbox: &Outbox,
    written: &AtomicU64,
) -> io::Result<()> {
    let mut encoder = Encoder::default();
    let mut buffer = BytesMut::new();
    loop {
        let (frames, is_last) = match outbox.next().await {
            Next::Write(frames) => (frames, false),
            Next::Finish(frames) => (frames, true),
        };
        for frame in &frames {
            encoder.put(frame, &mut buffer);
        }
        write.write_all_buf(&mut buffer).await?;
        write.flush().await?;
        outbox.written(&frames);
        written.fetch_add(1, Ordering::Relaxed);
        if is_last {
            return write.shutdown().await;
        }
    }
}

struct Reader<T> {
    transport: T,
    decoder: Decoder,
    buffer: BytesMut,
    streams: Streams,
    outbox: Arc<Outbox>,
    opened: mpsc::Sender<Stream>,
    written: Arc<AtomicU64>,
    idle: Duration,
}

impl<T: Transport> Reader<T> {
    async fn run(mut self) {
        if let Err(Malformed(what)) = self.serve().await {
            tracing::debug!("spdy client sent {what}");
            let last = self.streams.last();
            self.outbox.finish(Frame::GoAway { last, status: 1 });
            // The reason shall leave before the connection is cut.
            let _ = timeout(GOODBYE, self.drain()).await;
        }
    }

    /// Returns when the peer closed or was silent for too long.
    async fn serve(&mut self) -> Result<(), Malformed> {
        loop {
            while let Some(frame) = self.decoder.next(&mut self.buffer)? {
                if let Some(stream) = self.streams.take(frame)? {
                    // The session is being closed when nobody accepts any more.
                    let _ = self.opened.send(stream).await;
                }
                self.outbox.calm().await;
                if !self.wait_for_room().await {
                    return Ok(());
                }
            }
            if !self.fill().await {
                return Ok(());
            }
        }
    }

    async fn fill(&mut self) -> bool {
        loop {
            let written = self.written.load(Ordering::Relaxed);
            self.buffer.reserve(READ_SIZE);
            match timeout(self.idle, self.transport.read().read_buf(&mut self.buffer)).await {
                Ok(Ok(count)) => return count > 0,
                Ok(Err(_)) => return false,
                // Only a connection that is silent both ways is idle.
                Err(_) if self.written.load(Ordering::Relaxed) == written => return false,
                Err(_) => {}
            }
        }
    }

    async fn wait_for_room(&self) -> bool {
        let Some(feed) = self.streams.full() else { return true };
        // With our receive buffer full, a peer that has closed cannot even tell us so. But its
        // kernel answers anything we send with a reset.
        let mut probes = interval_at(Instant::now() + PROBE, PROBE);
        loop {
            tokio::select! {
                biased;
                () = feed.room() => return true,
                () = self.transport.hung_up() => {
                    return timeout(LAST_BYTES, feed.room()).await.is_ok();
                }
                _ = probes.tick() => self.outbox.probe(),
            }
        }
    }

    async fn drain(&mut self) {
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ_SIZE);
            match self.transport.read().read_buf(&mut self.buffer).await {
                Ok(count) if count > 0 => {}
                _ => return,
            }
        }
    }
}
