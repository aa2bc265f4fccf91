//! What waits to be written on a SPDY connection, and the windows that bound it.
//!
//! Window updates and control frames overtake data. Data is bounded by a semaphore that counts
//! bytes: a [`Sender`] waits for permits, the writer gives them back once the bytes are on their
//! way. Window updates are merged per stream and never wait, so that a client which reads nothing
//! for a while can still send.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use super::frame::{Frame, Reset};
use crate::streaming::channel::Gone;

/// Data of one connection that may wait for the writer.
const DATA_LIMIT: usize = 256 << 10;
/// Data in one frame.
const FRAME_LIMIT: usize = 32 << 10;
/// Control frames that may wait before the reader stops provoking more.
const CONTROL_LIMIT: usize = 256;
/// A server's pings have even numbers.
const OWN_PING: u32 = 2;
/// What a peer accepts before it says anything, by the specification.
pub(super) const DEFAULT_WINDOW: u32 = 64 << 10;

#[derive(Default)]
struct Pending {
    updates: BTreeMap<u32, u32>,
    control: VecDeque<Frame>,
    data: VecDeque<Frame>,
    last: Option<Frame>,
}

pub(super) struct Outbox {
    pending: Mutex<Pending>,
    work: Notify,
    calm: Notify,
    space: Semaphore,
    /// The window of the whole connection.
    credit: Credit,
}

/// What the writer shall do next.
pub(super) enum Next {
    Write(Vec<Frame>),
    /// These are the last frames.
    Finish(Vec<Frame>),
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            pending: Mutex::default(),
            work: Notify::new(),
            calm: Notify::new(),
            space: Semaphore::new(DATA_LIMIT),
            credit: Credit::new(DEFAULT_WINDOW, false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn credit(&self) -> &Credit {
        &self.credit
    }

    /// Tells the peer that it may send `delta` more bytes; stream zero is the connection.
    pub(super) fn update(&self, id: u32, delta: u32) {
        let mut pending = self.lock();
        let sum = pending.updates.entry(id).or_default();
        *sum = sum.saturating_add(delta).min(i32::MAX.unsigned_abs());
        drop(pending);
        self.work.notify_one();
    }

    pub(super) fn control(&self, frame: Frame) {
        self.lock().control.push_back(frame);
        self.work.notify_one();
    }

    /// Waits until few control frames are waiting: a peer that asks but does not read the answers
    /// is not read from either.
    pub(super) async fn calm(&self) {
        while self.lock().control.len() >= CONTROL_LIMIT {
            self.calm.notified().await;
        }
    }

    /// Makes the peer's kernel answer, unless enough is waiting to be written to do that anyway.
    pub(super) fn probe(&self) {
        if self.lock().control.is_empty() {
            self.control(Frame::Ping { id: OWN_PING });
        }
    }

    async fn data(&self, id: u32, fin: bool, data: Bytes) -> Result<(), Gone> {
        // An empty frame takes a place too.
        let permits = u32::try_from(data.len().max(1)).map_err(|_| Gone)?;
        self.space.acquire_many(permits).await.map_err(|_| Gone)?.forget();
        self.lock().data.push_back(Frame::Data { id, fin, data });
        self.work.notify_one();
        Ok(())
    }

    /// Ends the connection with `frame` once everything else is written.
    pub(super) fn finish(&self, frame: Frame) {
        self.lock().last = Some(frame);
        self.work.notify_one();
    }

    /// The connection is lost: whoever waits to send learns it.
    pub(super) fn close(&self) {
        self.space.close();
        self.credit.close();
    }

    /// Everything that may be written now; waits while there is nothing.
    pub(super) async fn next(&self) -> Next {
        loop {
            let notified = self.work.notified();
            if let Some(next) = self.take() {
                return next;
            }
            notified.await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut pending = self.lock();
        let mut frames: Vec<Frame> = std::mem::take(&mut pending.updates)
            .into_iter()
            .map(|(id, delta)| Frame::WindowUpdate { id, delta })
            .collect();
        frames.extend(pending.control.drain(..));
        frames.extend(pending.data.drain(..));
        self.calm.notify_one();
        match pending.last.take() {
            Some(last) => {
                frames.push(last);
                Some(Next::Finish(frames))
            }
            None => (!frames.is_empty()).then_some(Next::Write(frames)),
        }
    }

    /// Gives back the places of data frames that are written.
    pub(super) fn written(&self, frames: &[Frame]) {
        for frame in frames {
            if let Frame::Data { data, .. } = frame {
                self.space.add_permits(data.len().max(1));
            }
        }
    }
}

/// How many bytes the peer still accepts, on one stream or on the connection.
///
/// The library that Kubernetes uses neither keeps windows nor updates them: against such a peer a
/// window would close after 64 KiB for ever. So the count is kept from the start but binds only
/// from the moment when the peer speaks of windows itself.
pub(super) struct Credit(watch::Sender<Window>);

#[derive(Clone, Copy)]
struct Window {
    left: i64,
    binding: bool,
    gone: bool,
}

impl Credit {
    pub(super) fn new(left: u32, binding: bool) -> Self {
        Self(watch::Sender::new(Window { left: left.into(), binding, gone: false }))
    }

    /// Takes up to `wanted` bytes of the window, waiting for at least one.
    async fn take(&self, wanted: usize) -> Result<usize, Gone> {
        let mut changes = self.0.subscribe();
        loop {
            let mut taken = Err(Gone);
            self.0.send_if_modified(|window| {
                if !window.gone {
                    let allowed = if window.binding {
                        usize::try_from(window.left).unwrap_or(0).min(wanted)
                    } else {
                        wanted
                    };
                    window.left -= i64::try_from(allowed).unwrap_or(i64::MAX);
                    taken = Ok(allowed);
                }
                false
            });
            match taken {
                Ok(0) => changes.changed().await.map_err(|_| Gone)?,
                taken => return taken,
            }
        }
    }

    /// Returns false if the window would pass its limit of 2 GiB.
    pub(super) fn add(&self, delta: i64) -> bool {
        let mut fits = true;
        self.0.send_modify(|window| {
            window.left = window.left.saturating_add(delta);
            fits = window.left <= i32::MAX.into();
        });
        fits
    }

    pub(super) fn bind(&self) {
        self.0.send_modify(|window| window.binding = true);
    }

    pub(super) fn close(&self) {
        self.0.send_modify(|window| window.gone = true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.borrow().gone
    }
}

/// The sending half of a stream. Dropped unfinished, it resets the stream.
pub(crate) struct Sender {
    id: u32,
    outbox: Arc<Outbox>,
    credit: Arc<Credit>,
}

impl Sender {
    pub(super) fn new(id: u32, outbox: Arc<Outbox>, credit: Arc<Credit>) -> Self {
        Self { id, outbox, credit }
    }

    pub(crate) async fn send(&mut self, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            let wanted = data.len().min(FRAME_LIMIT);
            let stream = self.credit.take(wanted).await?;
            let both = self.outbox.credit.take(stream).await?;
            self.credit.add(i64::try_from(stream - both).unwrap_or(0));
            let piece = data.split_to(both);
            self.outbox.data(self.id, false, piece).await?;
        }
        Ok(())
    }

    pub(crate) async fn finish(&mut self) {
        if !self.credit.is_closed() {
            self.credit.close();
            // A lost connection needs no end mark.
            let _ = self.outbox.data(self.id, true, Bytes::new()).await;
        }
    }

    pub(crate) fn reset(&mut self) {
        if !self.credit.is_closed() {
            self.credit.close();
            self.outbox.control(Frame::RstStream { id: self.id, reset: Reset::Cancel });
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.reset();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_window_binds_only_peers_that_speak_of_windows() {
        let credit = Credit::new(10, false);
        assert_eq!(credit.take(25).await, Ok(25));

        credit.bind();
        assert_eq!(credit.take(5).now_or_never(), None);
        credit.add(20);
        // Ten were allowed and twenty added, but twenty-five are spent.
        assert_eq!(credit.take(100).await, Ok(5));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_window_learns_that_the_stream_is_gone() {
        let credit = Credit::new(0, true);
        let (taken, ()) = tokio::join!(credit.take(1), async { credit.close() });
        assert_eq!(taken, Err(Gone));
    }

    #[tokio::test]
    async fn data_waits_for_the_writer_and_window_updates_do_not() {
        let outbox = Arc::new(Outbox::new());
        let credit = Arc::new(Credit::new(DEFAULT_WINDOW, false));
        let mut sender = Sender::new(1, Arc::clone(&outbox), credit);

        assert_eq!(sender.send(Bytes::from(vec![0; DATA_LIMIT])).now_or_never(), Some(Ok(())));
        assert_eq!(sender.send(Bytes::from_static(b"x")).now_or_never(), None);
        outbox.update(1, 5);
        outbox.update(1, 6);

        let Next::Write(frames) = outbox.next().await else { panic!("finished") };
        assert_eq!(frames.first(), Some(&Frame::WindowUpdate { id: 1, delta: 11 }));
        outbox.written(&frames);
        assert_eq!(sender.send(Bytes::from_static(b"x")).now_or_never(), Some(Ok(())));
    }

    #[tokio::test]
    async fn a_sender_dropped_before_its_end_resets_the_stream() {
        let outbox = Arc::new(Outbox::new());
        let credit = Arc::new(Credit::new(DEFAULT_WINDOW, false));
        drop(Sender::new(3, Arc::clone(&outbox), credit));

        let Next::Write(frames) = outbox.next().await else { panic!("finished") };
        assert_eq!(frames, [Frame::RstStream { id: 3, reset: Reset::Cancel }]);
    }
}
