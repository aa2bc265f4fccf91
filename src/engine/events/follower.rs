//! One who follows the events.
//!
//! Handing an event over does not mean that it arrived: the connection may break while it is on its
//! way. What was handed over within the last moment before the follower went away therefore goes to
//! the next one again, with the time it had: nothing is lost, and who looks at the times sees each
//! event once.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Event, Forgotten, Log, Signal};
use crate::error::{Error, Kind, Result};

pub(crate) struct Follower<T: Serialize + DeserializeOwned> {
    log: Arc<Log<T>>,
    signal: watch::Receiver<Signal>,
    /// Time of the event handed over last.
    position: i64,
    /// Events between what the follower before had and what is remembered are gone.
    is_behind: bool,
    /// When what was handed over that may still be on its way.
    on_its_way: VecDeque<(Instant, i64)>,
}

impl<T: Serialize + DeserializeOwned> Follower<T> {
    pub(super) fn new(
        log: Arc<Log<T>>,
        signal: watch::Receiver<Signal>,
        position: i64,
        is_behind: bool,
    ) -> Self {
        Self { log, signal, position, is_behind, on_its_way: VecDeque::new() }
    }

    /// The next event, as soon as there is one.
    ///
    /// # Errors
    /// `Exhausted` when events were forgotten that this follower has not seen; `Unavailable` when
    /// the daemon ends. There are no events after an error.
    pub(crate) async fn next(&mut self) -> Result<Arc<Event<T>>> {
        loop {
            self.confirm();
            // Before the look, so that what comes after it wakes us.
            let is_closing = self.signal.borrow_and_update().is_closing;
            let found = if self.is_behind { Err(Forgotten) } else { self.log.after(self.position) };
            match found {
                Err(Forgotten) => return Err(too_slow()),
                Ok(Some(event)) => {
                    self.position = event.at;
                    self.on_its_way.push_back((Instant::now(), event.at));
                    return Ok(event);
                }
                Ok(None) if is_closing => {
                    return Err(Error::new(Kind::Unavailable, "the runtime is shutting down"));
                }
                Ok(None) => {}
            }
            let arrival = self.on_its_way.front().map(|(handed, _)| *handed + self.log.on_its_way);
            match arrival {
                // Whichever comes first, there is something to do.
                Some(arrival) => {
                    let _ = tokio::time::timeout_at(arrival, self.signal.changed()).await;
                }
                // The sender is part of the log, which we hold.
                None => drop(self.signal.changed().await),
            }
        }
    }

    /// Notes down what has arrived by now.
    fn confirm(&mut self) {
        let mut arrived = None;
        while let Some((handed, at)) = self.on_its_way.front().copied()
            && handed.elapsed() >= self.log.on_its_way
        {
            arrived = Some(at);
            self.on_its_way.pop_front();
        }
        if let Some(at) = arrived {
            self.log.confirm(at);
        }
    }
}

impl<T: Serialize + DeserializeOwned> Drop for Follower<T> {
    fn drop(&mut self) {
        self.confirm();
    }
}

fn too_slow() -> Error {
    Error::new(
        Kind::Exhausted,
        "events were lost: more happened than is remembered for a follower that does not read; \
         list the pods and containers, then follow again",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::{Change, MOST};
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_millis(1);

    fn log(directory: &Path, on_its_way: Duration) -> Arc<Log<u32>> {
        Arc::new(Log::open(directory, on_its_way).unwrap())
    }

    fn announce(log: &Log<u32>, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            log.announce(Change::Started, "pod", || number);
        }
    }

    /// What comes next, while there is something. Takes longer than `SOON`.
    async fn all(follower: &mut Follower<u32>) -> Vec<(u32, i64)> {
        let mut found = Vec::new();
        let moment = Duration::from_millis(20);
        while let Ok(event) = tokio::time::timeout(moment, follower.next()).await {
            let event = event.unwrap();
            found.push((event.seen, event.at));
        }
        found
    }

    fn numbers(events: &[(u32, i64)]) -> Vec<u32> {
        events.iter().map(|(number, _)| *number).collect()
    }

    #[tokio::test]
    async fn two_followers_see_every_event_once_in_order_with_growing_times() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), NEVER);
        let (mut one, mut other) = (log.follow(), log.follow());
        announce(&log, 0..100);
        let (seen, same) = (all(&mut one).await, all(&mut other).await);
        assert!(numbers(&seen).into_iter().eq(0..100));
        assert_eq!(seen, same);
        assert!(seen.is_sorted_by(|(_, a), (_, b)| a < b));
        assert_eq!(all(&mut one).await, []);
    }

    #[tokio::test]
    async fn what_happens_while_nobody_follows_waits() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), SOON);
        announce(&log, 0..3);
        let mut first = log.follow();
        assert_eq!(numbers(&all(&mut first).await), [0, 1, 2]);
        drop(first);
        announce(&log, 3..5);
        assert_eq!(numbers(&all(&mut log.follow()).await), [3, 4]);
    }

    #[tokio::test]
    async fn what_may_have_been_on_its_way_comes_again_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), NEVER);
        announce(&log, 0..2);
        let mut first = log.follow();
        let seen = all(&mut first).await;
        drop(first);
        assert_eq!(all(&mut log.follow()).await, seen);
    }

    #[tokio::test]
    async fn a_next_daemon_hands_over_what_nobody_has() {
        let temp = tempfile::tempdir().unwrap();
        let first = log(temp.path(), SOON);
        let mut follower = first.follow();
        announce(&first, 0..2);
        let seen = all(&mut follower).await;
        announce(&first, 2..4);
        drop((follower, first));

        let next = log(temp.path(), SOON);
        announce(&next, 4..5);
        let later = all(&mut next.follow()).await;

        assert_eq!(numbers(&later), [2, 3, 4]);
        assert!(seen.iter().chain(&later).is_sorted_by(|(_, a), (_, b)| a < b));
        assert!(next.announced(Change::Started, "pod") && !next.announced(Change::Deleted, "pod"));
    }

    #[tokio::test]
    async fn a_follower_that_does_not_read_is_told_and_holds_up_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), NEVER);
        let mut slow = log.follow();
        let many = u32::try_from(MOST).unwrap() + 1;
        announce(&log, 0..many);
        assert_eq!(slow.next().await.unwrap_err().kind(), Kind::Exhausted);
        // So is the next one, which might be the same again: then it goes on with what there is.
        assert_eq!(log.follow().next().await.unwrap_err().kind(), Kind::Exhausted);
        assert_eq!(log.follow().next().await.unwrap().seen, 1);
    }

    #[tokio::test]
    async fn the_end_of_the_daemon_is_told_after_the_last_event() {
        let temp = tempfile::tempdir().unwrap();
        let log = log(temp.path(), NEVER);
        let mut follower = log.follow();
        announce(&log, 0..1);
        log.close();
        assert_eq!(follower.next().await.unwrap().seen, 0);
        assert_eq!(follower.next().await.unwrap_err().kind(), Kind::Unavailable);
    }
}
