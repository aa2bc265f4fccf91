//! The streams of one SPDY connection, and what each frame does to them. Nothing here waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;

use super::frame::{Frame, Malformed, Opening, Reset};
use super::headers::Headers;
use super::outbox::{Credit, DEFAULT_WINDOW, Outbox, Sender};
use crate::streaming::channel::{self, Budget, End, Feed, Incoming, Outgoing};

/// Streams that a client may have open at once.
const STREAMS_LIMIT: usize = 1024;
/// What we let a peer that keeps windows send ahead, per stream and per connection.
const STREAM_WINDOW: u32 = 256 << 10;
const SESSION_WINDOW: u32 = 4 << 20;

/// A stream that the client opened, already accepted.
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
}

struct Entry {
    feed: Feed,
    credit: Arc<Credit>,
    /// What a peer that keeps windows may still send.
    window: Arc<AtomicI64>,
}

pub(super) struct Streams {
    table: HashMap<u32, Entry>,
    last: u32,
    fed: u32,
    initial_window: u32,
    speaks_windows: bool,
    outbox: Arc<Outbox>,
    budget: Arc<Budget>,
    session_used: Arc<AtomicU64>,
}

impl Streams {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        outbox.control(Frame::Settings { initial_window: Some(STREAM_WINDOW) });
        outbox.update(0, SESSION_WINDOW - DEFAULT_WINDOW);
        Self {
            table: HashMap::new(),
            last: 0,
            fed: 0,
            initial_window: DEFAULT_WINDOW,
            speaks_windows: false,
            outbox,
            budget: Arc::default(),
            session_used: Arc::default(),
        }
    }

    /// The newest stream that the client opened.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// What a frame does. A stream that it opens is returned.
    pub(super) fn take(&mut self, frame: Frame) -> Result<Option<Stream>, Malformed> {
        match frame {
            Frame::SynStream { id, opening, headers } => return self.open(id, opening, headers),
            Frame::Data { id, fin, data } => self.data(id, fin, data)?,
            Frame::RstStream { id, .. } => {
                if let Some(entry) = self.table.remove(&id) {
                    entry.credit.close();
                    entry.feed.end(End::Gone);
                }
            }
            Frame::Headers { id, fin, .. } => {
                if let Some(entry) = self.table.get(&id).filter(|_| fin) {
                    entry.feed.end(End::Finished);
                }
            }
            Frame::WindowUpdate { id, delta } => self.window(id, delta)?,
            Frame::Settings { initial_window: Some(window) } => self.resize(window)?,
            // Odd numbers are the client's own pings; we send none.
            Frame::Ping { id } if !id.is_multiple_of(2) => self.outbox.control(Frame::Ping { id }),
            // After a goodbye the client finishes its streams and closes the connection.
            Frame::GoAway { .. }
            | Frame::Ping { .. }
            | Frame::Settings { .. }
            | Frame::SynReply { .. }
            | Frame::Unknown => {}
        }
        Ok(None)
    }

    fn open(
        &mut self,
        id: u32,
        opening: Opening,
        headers: Headers,
    ) -> Result<Option<Stream>, Malformed> {
        if id.is_multiple_of(2) || id <= self.last {
            return Err(Malformed("a new stream with a number that is even or used"));
        }
        self.last = id;
        self.table.retain(|_, entry| !(entry.feed.has_ended() && entry.credit.is_closed()));
        if self.table.len() >= STREAMS_LIMIT {
            self.outbox.control(Frame::RstStream { id, reset: Reset::Refused });
            return Ok(None);
        }
        let window = Arc::new(i64::from(STREAM_WINDOW).into());
        let (feed, incoming) =
            channel::incoming(Arc::clone(&self.budget), self.on_consumed(id, &window));
        let credit = Arc::new(Credit::new(self.initial_window, self.speaks_windows));
        self.outbox.control(Frame::SynReply {
            id,
            fin: opening.unidirectional,
            headers: Headers::default(),
        });
        if opening.unidirectional {
            credit.close();
        }
        if opening.fin {
            feed.end(End::Finished);
        }
        let sender = Sender::new(id, Arc::clone(&self.outbox), Arc::clone(&credit));
        self.table.insert(id, Entry { feed, credit, window });
        Ok(Some(Stream { id, headers, incoming, outgoing: Outgoing::Spdy(sender) }))
    }

    /// Opens the windows again as the bytes are taken, in steps of half a window.
    fn on_consumed(&self, id: u32, window: &Arc<AtomicI64>) -> channel::Consumed {
        let (outbox, window) = (Arc::clone(&self.outbox), Arc::clone(window));
        let session_used = Arc::clone(&self.session_used);
        let stream_used = AtomicU64::new(0);
        Box::new(move |bytes| {
            if let Some(step) = step(&stream_used, bytes, STREAM_WINDOW / 2) {
                window.fetch_add(step.into(), Ordering::AcqRel);
                outbox.update(id, step);
            }
            if let Some(step) = step(&session_used, bytes, SESSION_WINDOW / 2) {
                outbox.update(0, step);
            }
        })
    }

    fn data(&mut self, id: u32, fin: bool, data: Bytes) -> Result<(), Malformed> {
        let Some(entry) = self.table.get(&id) else {
            if id > self.last {
                return Err(Malformed("data for a stream that was never opened"));
            }
            // The stream was reset while these bytes were under way.
            if let Some(step) = step(&self.session_used, data.len(), SESSION_WINDOW / 2) {
                self.outbox.update(0, step);
            }
            return Ok(());
        };
        if entry.feed.has_ended() {
            self.outbox.control(Frame::RstStream { id, reset: Reset::AlreadyClosed });
            return Ok(());
        }
        let size = i64::try_from(data.len()).unwrap_or(i64::MAX);
        let left = entry.window.fetch_sub(size, Ordering::AcqRel) - size;
        if self.speaks_windows && left < 0 {
            entry.credit.close();
            entry.feed.end(End::Gone);
            self.table.remove(&id);
            self.outbox.control(Frame::RstStream { id, reset: Reset::FlowControl });
            return Ok(());
        }
        if !data.is_empty() {
            self.fed = id;
            entry.feed.push(data);
        }
        if fin {
            entry.feed.end(End::Finished);
        }
        Ok(())
    }

    fn window(&mut self, id: u32, delta: u32) -> Result<(), Malformed> {
        self.bind();
        if id == 0 {
            return match self.outbox.credit().add(delta.into()) {
                true => Ok(()),
                false => Err(Malformed("a window of more than 2 GiB")),
            };
        }
        let Some(entry) = self.table.get(&id) else { return Ok(()) };
        if !entry.credit.add(delta.into()) {
            entry.credit.close();
            entry.feed.end(End::Gone);
            self.table.remove(&id);
            self.outbox.control(Frame::RstStream { id, reset: Reset::FlowControl });
        }
        Ok(())
    }

    /// A new initial window also moves the windows of open streams.
    fn resize(&mut self, window: u32) -> Result<(), Malformed> {
        self.bind();
        let delta = i64::from(window) - i64::from(self.initial_window);
        self.initial_window = window;
        let fits = self.table.values().all(|entry| entry.credit.add(delta));
        if fits { Ok(()) } else { Err(Malformed("a window of more than 2 GiB")) }
    }

    fn bind(&mut self) {
        if !self.speaks_windows {
            self.speaks_windows = true;
            self.outbox.credit().bind();
            for entry in self.table.values() {
                entry.credit.bind();
            }
        }
    }

    /// The stream of the last data frame, if it holds as much as it may. No other can: the reader
    /// waits at once.
    pub(super) fn full(&self) -> Option<&Feed> {
        let entry = self.table.get(&self.fed)?;
        Some(&entry.feed).filter(|feed| !feed.has_room())
    }
}

/// Adds to a counter; when it reaches a step, empties it and returns what it held.
fn step(used: &AtomicU64, bytes: usize, threshold: u32) -> Option<u32> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let sum = used.fetch_add(bytes, Ordering::AcqRel) + bytes;
    if sum < threshold.into() || bytes == 0 {
        return None;
    }
    u32::try_from(used.swap(0, Ordering::AcqRel)).ok().filter(|step| *step > 0)
}
