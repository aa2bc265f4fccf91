//! What was done, and to what: Docker's events.
//!
//! ```text
//!   a change is on record ─▶ tell ─▶ log (bounded, in memory) ─▶ followers, each at its own pace
//! ```
//!
//! Beside `events`, which is kubelet's: that log promises one listener every change of a pod, over
//! the death of the daemon, and shows whole pods. This one tells any number of clients what became
//! of containers, images, volumes and networks, in Docker's words, and begins anew with each daemon.
//!
//! Followers read the one log; none has a queue of its own. A slow one costs nothing, holds up
//! nobody, and is told when it fell behind what the log remembers.

mod containers;
mod follower;
mod objects;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub(crate) use self::containers::Act;
pub(crate) use self::follower::Follower;
pub(crate) use self::objects::ImageAct;
use super::clock;

/// How many actions are remembered, and how many bytes of text.
const MOST: usize = 2048;
const MOST_BYTES: usize = 8 << 20;

type Attributes = BTreeMap<String, String>;

/// What kind of thing something was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Image,
    Volume,
    Network,
    Builder,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Builder => "builder",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// Nanoseconds since the epoch; no two actions have the same.
    pub(crate) at: i64,
    pub(crate) kind: Kind,
    /// `start`, `exec_create: sh -c true`.
    pub(crate) name: String,
    /// The id of the thing, or the name of what is known by its name.
    pub(crate) subject: String,
    pub(crate) attributes: Attributes,
}

impl Action {
    fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(key, value)| key.len() + value.len());
        size_of::<Self>() + self.name.len() + self.subject.len() + attributes.sum::<usize>()
    }
}

#[derive(Default)]
pub(crate) struct Log {
    state: Mutex<State>,
    /// Wakes followers; set when the daemon ends.
    closing: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    actions: VecDeque<Arc<Action>>,
    bytes: usize,
    /// Time of the newest action there was.
    newest: i64,
    /// Time of the newest action that is not remembered any more.
    forgotten: i64,
}

impl Log {
    fn tell(&self, kind: Kind, name: String, subject: &str, attributes: Attributes) {
        let mut state = self.lock();
        let at = clock::now().max(state.newest + 1);
        let action = Action { at, kind, name, subject: subject.to_owned(), attributes };
        state.bytes += action.bytes();
        state.newest = at;
        state.actions.push_back(Arc::new(action));
        while state.actions.len() > MOST || (state.bytes > MOST_BYTES && state.actions.len() > 1) {
            state.forget_oldest();
        }
        drop(state);
        self.closing.send_modify(|_| {});
    }

    /// What happens from now on; with a moment, also what is remembered of the time since then.
    pub(crate) fn follow(self: &Arc<Self>, span: Span) -> Follower {
        let state = self.lock();
        let position = match span {
            Span { since: None, until: None } => state.newest,
            Span { since, .. } => since.unwrap_or_default().saturating_sub(1).max(state.forgotten),
        };
        drop(state);
        Follower::new(self.clone(), self.closing.subscribe(), position, span.until)
    }

    /// The daemon ends: followers get what there is, and their streams end.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// The first action after `position`.
    ///
    /// # Errors
    /// `Forgotten` if there was one that is not remembered any more.
    fn after(&self, position: i64) -> Result<Option<Arc<Action>>, Forgotten> {
        let state = self.lock();
        if state.forgotten > position {
            return Err(Forgotten);
        }
        let index = state.actions.partition_point(|action| action.at <= position);
        Ok(state.actions.get(index).cloned())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that a client asks about, in nanoseconds since the epoch, both ends included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
}

/// A follower stayed behind what the log remembers.
struct Forgotten;

impl State {
    fn forget_oldest(&mut self) {
        if let Some(action) = self.actions.pop_front() {
            self.bytes -= action.bytes();
            self.forgotten = action.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind as ErrorKind;

    fn tell(log: &Log, name: &str) {
        log.tell(Kind::Container, name.to_owned(), "id", Attributes::new());
    }

    /// Names of what there is for a follower whose time is over.
    async fn rest(mut follower: Follower) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(action) = follower.next().await.unwrap() {
            names.push(action.name.clone());
        }
        names
    }

    #[tokio::test]
    async fn who_asks_for_a_time_gets_that_time_and_no_more() {
        let log = Arc::new(Log::default());
        for name in ["one", "two", "three"] {
            tell(&log, name);
        }
        let times: Vec<i64> = log.lock().actions.iter().map(|action| action.at).collect();
        assert!(times.is_sorted_by(|a, b| a < b));
        let span = |since, until| Span { since, until: Some(until) };

        assert_eq!(rest(log.follow(span(None, times[1]))).await, ["one", "two"]);
        assert_eq!(rest(log.follow(span(Some(times[1]), times[2]))).await, ["two", "three"]);
        assert_eq!(rest(log.follow(span(Some(times[1] + 1), times[1] + 1))).await, [""; 0]);
        assert_eq!(rest(log.follow(span(Some(0), 0))).await, [""; 0]);
    }

    #[tokio::test]
    async fn without_a_time_it_begins_with_what_comes() {
        let log = Arc::new(Log::default());
        tell(&log, "before");
        let mut follower = log.follow(Span::default());
        tell(&log, "after");
        assert_eq!(follower.next().await.unwrap().unwrap().name, "after");
        log.close();
        assert!(follower.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn who_does_not_read_is_told_and_the_log_stays_small() {
        let log = Arc::new(Log::default());
        let mut slow = log.follow(Span::default());
        for number in 0..=MOST {
            tell(&log, &number.to_string());
        }
        assert_eq!(log.lock().actions.len(), MOST);
        assert_eq!(slow.next().await.unwrap_err().kind(), ErrorKind::Exhausted);
        // Who comes now asked for no more than there is.
        let mut next = log.follow(Span { since: Some(0), until: None });
        assert_eq!(next.next().await.unwrap().unwrap().name, "1");
    }

    #[test]
    fn large_labels_make_the_log_short() {
        let log = Log::default();
        for _ in 0..100 {
            let labels = Attributes::from([("label".to_owned(), "x".repeat(1 << 20))]);
            log.tell(Kind::Image, "pull".to_owned(), "a", labels);
        }
        let state = log.lock();
        assert!(state.bytes <= MOST_BYTES && state.actions.len() == 7, "{}", state.bytes);
        assert_eq!(state.bytes, state.actions.iter().map(|action| action.bytes()).sum::<usize>());
    }
}
