//! One who follows what is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Action, Forgotten, Log};
use crate::engine::clock;
use crate::error::{Error, Kind, Result};

pub(crate) struct Follower {
    log: Arc<Log>,
    closing: watch::Receiver<bool>,
    /// Time of the action handed over last.
    position: i64,
    /// Nothing that is done after it is handed over.
    until: Option<i64>,
}

impl Follower {
    pub(super) fn new(
        log: Arc<Log>,
        closing: watch::Receiver<bool>,
        position: i64,
        until: Option<i64>,
    ) -> Self {
        Self { log, closing, position, until }
    }

    /// The next action, as soon as there is one; none when the time is over or the daemon ends.
    ///
    /// # Errors
    /// `Exhausted` when actions were forgotten that this follower has not seen.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<Action>>> {
        loop {
            // Both before the look: what comes after it wakes us, and what is there was in time.
            let is_closing = *self.closing.borrow_and_update();
            let left = self.until.map(|until| until.saturating_sub(clock::now()));
            match self.log.after(self.position) {
                Err(Forgotten) => return Err(too_slow()),
                Ok(Some(action)) if self.until.is_some_and(|until| action.at > until) => {
                    return Ok(None);
                }
                Ok(Some(action)) => {
                    self.position = action.at;
                    return Ok(Some(action));
                }
                Ok(None) if is_closing || left.is_some_and(|left| left < 0) => return Ok(None),
                Ok(None) => {}
            }
            let changed = self.closing.changed();
            match left {
                Some(left) => {
                    let left = Duration::from_nanos(u64::try_from(left).unwrap_or_default() + 1);
                    let _ = tokio::time::timeout(left, changed).await;
                }
                // The sender is part of the log, which we hold.
                None => drop(changed.await),
            }
        }
    }
}

fn too_slow() -> Error {
    Error::new(
        Kind::Exhausted,
        "events were lost: more happened than is remembered for a client that does not read",
    )
}
