//! What happened to pods and containers, in order, for those who follow it.
//!
//! ```text
//! a phase changes: record on disk ─▶ memory ─▶ announce ─▶ journal on disk ─▶ log ─▶ followers
//! ```
//!
//! Every change is announced once, with a time that is later than any before it, and with the pod
//! and its containers as they were just then. The log remembers some minutes; a follower reads it at
//! its own pace, so a slow one holds up nobody, and is told when it fell too far behind.
//!
//! What no follower has for sure goes to the next one, also after a daemon was killed: the journal
//! keeps it. The reasons stand in `docs/decisions/0008-events-are-kept-until-they-are-had.md`.

mod follower;
mod journal;
mod told;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use self::follower::Follower;
use self::journal::{Journal, Line};
use super::clock;
use super::container::record::Record as ContainerRecord;
use super::pod::Pod;
use super::pod::record::Record as PodRecord;
use super::{Shared, container};
use crate::error::Result;

/// How many events are remembered, and for how long. kubelet lists everything anew every five
/// minutes even while it follows, so older ones tell nobody anything.
const MOST: usize = 4096;
const KEPT_NANOS: i64 = 300_000_000_000;

/// A follower that is still there after this long has what it was handed: it reads a socket of this
/// machine.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    Created,
    Started,
    Stopped,
    Deleted,
}

/// What happened to one pod or container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Event<T> {
    /// Nanoseconds since the epoch; no two events have the same.
    pub(crate) at: i64,
    pub(crate) change: Change,
    /// The id of the pod or container.
    pub(crate) subject: String,
    pub(crate) seen: T,
}

/// The pod and its containers as they were when the change was announced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) pod: Arc<PodRecord>,
    pub(crate) containers: Vec<Arc<ContainerRecord>>,
}

pub(crate) struct Log<T> {
    state: Mutex<State<T>>,
    /// How long an event may be on its way to a follower.
    on_its_way: Duration,
    signal: watch::Sender<Signal>,
}

/// Wakes followers.
#[derive(Debug, Clone, Copy, Default)]
struct Signal {
    newest: i64,
    is_closing: bool,
}

struct State<T> {
    /// The oldest first.
    events: VecDeque<Arc<Event<T>>>,
    /// Time of the newest event there was.
    newest: i64,
    /// Time of the newest event that is not remembered any more.
    forgotten: i64,
    /// Time of the newest event that a follower has for sure; 0 if there was no follower yet.
    confirmed: i64,
    journal: Journal,
}

impl<T: Serialize + DeserializeOwned> Log<T> {
    /// Opens the journal in `directory`, and remembers what it holds.
    pub(super) fn open(directory: &Path, on_its_way: Duration) -> Result<Self> {
        let (journal, lines) = Journal::open(directory)?;
        let (events, newest, confirmed) = (VecDeque::new(), 0, 0);
        // Without a journal, what there is already is nothing new.
        let forgotten = if lines.is_empty() { clock::now() } else { 0 };
        let mut state = State { events, newest, forgotten, confirmed, journal };
        for line in lines {
            match line {
                Line::Event(event) => state.remember(Arc::new(event)),
                Line::Forgotten(at) => state.forgotten = state.forgotten.max(at),
                Line::Confirmed(at) => state.confirmed = state.confirmed.max(at),
            }
        }
        state.newest = state.newest.max(state.forgotten);
        let (state, signal) = (Mutex::new(state), watch::Sender::new(Signal::default()));
        Ok(Self { state, on_its_way, signal })
    }

    /// `see` looks at the pod while no other event can come in between: what an event shows is
    /// never older than what the one before it showed.
    pub(super) fn announce(&self, change: Change, subject: &str, see: impl FnOnce() -> T) {
        let mut state = self.lock();
        let at = clock::now().max(state.newest + 1);
        let event = Event { at, change, subject: subject.to_owned(), seen: see() };
        let line = Line::Event(event);
        let confirmed = state.confirmed;
        if let Err(error) = state.journal.append(&line, confirmed) {
            tracing::error!(subject, error = error.chain(), "keep an event for the next daemon");
        }
        if let Line::Event(event) = line {
            state.remember(Arc::new(event));
        }
        state.forget(at.saturating_sub(KEPT_NANOS));
        drop(state);
        self.signal.send_modify(|signal| signal.newest = at);
    }

    /// Everything that nobody has for sure, and then what comes.
    pub(crate) fn follow(self: &Arc<Self>) -> Follower<T> {
        let mut state = self.lock();
        let mut position = state.confirmed.max(clock::now().saturating_sub(KEPT_NANOS));
        let mut is_behind = false;
        if state.forgotten > position {
            // To whom nobody ever listened nothing was promised.
            is_behind = state.confirmed != 0;
            position = state.forgotten;
            state.confirmed = state.forgotten;
        }
        drop(state);
        Follower::new(self.clone(), self.signal.subscribe(), position, is_behind)
    }

    /// The daemon ends: followers get what there is, and are told.
    pub(crate) fn close(&self) {
        self.signal.send_modify(|signal| signal.is_closing = true);
    }

    /// The first event after `position`.
    ///
    /// # Errors
    /// `Forgotten` if there was one that is not remembered any more.
    fn after(&self, position: i64) -> Result<Option<Arc<Event<T>>>, Forgotten> {
        let state = self.lock();
        if state.forgotten > position {
            return Err(Forgotten);
        }
        let index = state.events.partition_point(|event| event.at <= position);
        Ok(state.events.get(index).cloned())
    }

    /// Whether this was announced, at any time that is remembered.
    pub(super) fn announced(&self, change: Change, subject: &str) -> bool {
        self.announced_since(change, subject, 0)
    }

    /// Whether a change that happened at `since` was announced, or may have been so long ago that
    /// nobody remembers.
    fn is_told(&self, change: Change, subject: &str, since: i64) -> bool {
        self.lock().forgotten >= since || self.announced_since(change, subject, since)
    }

    fn announced_since(&self, change: Change, subject: &str, since: i64) -> bool {
        let state = self.lock();
        let mut newer = state.events.iter().rev().take_while(|event| event.at >= since);
        newer.any(|event| event.change == change && event.subject == subject)
    }

    fn confirm(&self, at: i64) {
        let mut state = self.lock();
        if at <= state.confirmed {
            return;
        }
        state.confirmed = at;
        if let Err(error) = state.journal.append(&Line::<T>::Confirmed(at), at) {
            tracing::warn!(error = error.chain(), "note down what a follower has");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A follower stayed behind what the log remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forgotten;

impl<T> State<T> {
    fn remember(&mut self, event: Arc<Event<T>>) {
        self.newest = self.newest.max(event.at);
        self.events.push_back(event);
        if self.events.len() > MOST {
            self.forget_oldest();
        }
    }

    fn forget(&mut self, before: i64) {
        while self.events.front().is_some_and(|event| event.at < before) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.forgotten = event.at;
        }
    }
}

impl Shared {
    /// Announces a change of the pod itself. Those of standalone containers are nobody's here: a
    /// kubelet would take them for its own.
    pub(super) fn pod_changed(&self, change: Change, pod: &Pod) {
        if pod.record().config.standalone.is_some() {
            return;
        }
        self.events.announce(change, pod.id.as_str(), || self.seen(pod));
    }

    /// Announces a change of one of the pod's containers.
    pub(super) fn container_changed(&self, change: Change, container: &container::Container) {
        let record = container.record();
        let Ok(pod) = self.pods.find(record.pod.as_str()) else { return };
        if record.config.standalone.is_some() {
            return;
        }
        self.tell_change(change, &record);
        self.events.announce(change, container.id.as_str(), || self.seen(&pod));
    }

    fn seen(&self, pod: &Pod) -> Seen {
        let containers = self.containers_of(&pod.id).iter().map(|it| it.record()).collect();
        Seen { pod: pod.record(), containers }
    }
}
