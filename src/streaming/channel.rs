//! What a session lends to exec, attach and port-forward: ends of byte streams.
//!
//! A session's reader pushes into a [`Feed`]; the other side takes from [`Incoming`]. What lies
//! between is counted twice: per stream, and per session in its [`Budget`]. The reader stops
//! reading the connection while either is full, so a slow process slows its client down instead
//! of filling memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{spdy, websocket};

/// Bytes of one stream that may wait for their reader.
pub(crate) const STREAM_LIMIT: usize = 1 << 20;
/// Bytes of all streams of one session that may wait.
const SESSION_LIMIT: usize = 8 << 20;
/// What a waiting piece costs besides its bytes, so that tiny pieces do not come for free.
const PIECE_COST: usize = 64;

/// The other side left: the stream was reset or the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// What reading a stream brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    Data(Bytes),
    /// The peer half-closed: it sends nothing more, but still listens.
    Finished,
    Gone,
}

/// How the flow of bytes into a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Gone,
}

/// Bytes that wait in all the streams of one session.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    queued: AtomicUsize,
    room: Notify,
}

impl Budget {
    fn release(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::AcqRel);
        self.room.notify_one();
    }
}

/// Called with the number of bytes that the reader took.
pub(crate) type Consumed = Box<dyn Fn(usize) + Send + Sync>;

struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
    budget: Arc<Budget>,
    consumed: Consumed,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    abandoned: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session's end: puts bytes in.
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

/// The reader's end: takes bytes out.
pub(crate) struct Incoming {
    shared: Arc<Shared>,
}

/// A stream of bytes from a session's reader to whoever serves the session.
pub(crate) fn incoming(budget: Arc<Budget>, consumed: Consumed) -> (Feed, Incoming) {
    let shared =
        Arc::new(Shared { queue: Mutex::default(), arrived: Notify::new(), budget, consumed });
    (Feed { shared: Arc::clone(&shared) }, Incoming { shared })
}

impl Feed {
    /// Never waits: the caller first asks for [`Feed::room`].
    pub(crate) fn push(&self, data: Bytes) {
        let size = data.len();
        let mut queue = self.shared.lock();
        if queue.abandoned || queue.end.is_some() {
            drop(queue);
            (self.shared.consumed)(size);
            return;
        }
        queue.bytes += size + PIECE_COST;
        queue.chunks.push_back(data);
        self.shared.budget.queued.fetch_add(size + PIECE_COST, Ordering::AcqRel);
        drop(queue);
        self.shared.arrived.notify_one();
    }

    /// Waits until this stream and its session may hold more.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            self.shared.budget.room.notified().await;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        let queue = self.shared.lock();
        queue.abandoned
            || queue.end.is_some()
            || (queue.bytes < STREAM_LIMIT
                && self.shared.budget.queued.load(Ordering::Acquire) < SESSION_LIMIT)
    }

    /// The first end counts; bytes already here are still delivered after [`End::Finished`].
    pub(crate) fn end(&self, end: End) {
        let mut queue = self.shared.lock();
        // A reset overtakes a half-close that the reader has not yet seen.
        if queue.end.is_none() || end == End::Gone {
            queue.end = Some(end);
        }
        drop(queue);
        self.shared.arrived.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.shared.lock().end.is_some()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.end(End::Gone);
        }
    }
}

impl Incoming {
    /// The next bytes, or how the stream ended. Dropping the future loses nothing.
    pub(crate) async fn recv(&mut self) -> Received {
        loop {
            if let Some(received) = self.take() {
                return received;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// Waits until the stream is reset or the connection lost, whatever else still arrives.
    pub(crate) async fn gone(&mut self) {
        while self.shared.lock().end != Some(End::Gone) {
            self.shared.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<Received> {
        let mut queue = self.shared.lock();
        if let Some(chunk) = queue.chunks.pop_front() {
            queue.bytes -= chunk.len() + PIECE_COST;
            drop(queue);
            self.shared.budget.release(chunk.len() + PIECE_COST);
            (self.shared.consumed)(chunk.len());
            return Some(Received::Data(chunk));
        }
        match queue.end? {
            End::Finished => Some(Received::Finished),
            End::Gone => Some(Received::Gone),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.abandoned = true;
        let held = std::mem::take(&mut queue.bytes);
        let unread: usize = queue.chunks.drain(..).map(|chunk| chunk.len()).sum();
        drop(queue);
        self.shared.budget.release(held);
        (self.shared.consumed)(unread);
    }
}

/// The sending half of a stream, whatever carries it.
pub(crate) enum Outgoing {
    Spdy(spdy::Sender),
    WebSocket(websocket::Sender),
}

impl Outgoing {
    /// Waits while the peer does not take more.
    pub(crate) async fn send(&mut self, data: Bytes) -> Result<(), Gone> {
        match self {
            Self::Spdy(sender) => sender.send(data).await,
            Self::WebSocket(sender) => sender.send(data).await,
        }
    }

    /// Half-closes, where the protocol can say so.
    pub(crate) async fn finish(&mut self) {
        match self {
            Self::Spdy(sender) => sender.finish().await,
            Self::WebSocket(_) => {}
        }
    }

    /// Gives the stream up in both directions, where the protocol can say so.
    pub(crate) fn reset(&mut self) {
        match self {
            Self::Spdy(sender) => sender.reset(),
            Self::WebSocket(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Feed, Incoming) {
        incoming(Arc::default(), Box::new(|_| {}))
    }

    #[tokio::test]
    async fn bytes_sent_before_a_half_close_are_delivered_before_it() {
        let (feed, mut incoming) = pair();
        feed.push(Bytes::from_static(b"last words"));
        feed.end(End::Finished);

        assert_eq!(incoming.recv().await, Received::Data(Bytes::from_static(b"last words")));
        assert_eq!(incoming.recv().await, Received::Finished);
        assert_eq!(incoming.recv().await, Received::Finished);
    }

    #[tokio::test]
    async fn a_dropped_feed_reads_as_gone_not_as_finished() {
        let (feed, mut incoming) = pair();
        drop(feed);

        assert_eq!(incoming.recv().await, Received::Gone);
    }

    #[tokio::test]
    async fn a_full_stream_has_room_again_once_its_reader_took_bytes_or_left() {
        let (feed, mut incoming) = pair();
        feed.push(Bytes::from(vec![0; STREAM_LIMIT]));
        assert!(!feed.has_room());

        incoming.recv().await;
        feed.room().await;

        feed.push(Bytes::from(vec![0; STREAM_LIMIT]));
        drop(incoming);
        feed.room().await;
    }

    #[tokio::test]
    async fn full_streams_of_a_session_together_exhaust_its_budget() {
        let budget = Arc::new(Budget::default());
        let streams: Vec<_> = (0..SESSION_LIMIT / STREAM_LIMIT)
            .map(|_| incoming(Arc::clone(&budget), Box::new(|_| {})))
            .collect();
        for (feed, _) in &streams {
            feed.push(Bytes::from(vec![0; STREAM_LIMIT]));
        }
        let (feed, _incoming) = incoming(budget, Box::new(|_| {}));
        assert!(!feed.has_room());

        drop(streams);
        assert!(feed.has_room());
    }
}
