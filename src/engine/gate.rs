//! How many pods and containers are made at the same time.
//!
//! Each takes some milliseconds of a processor, most of them in the kernel. When hundreds are asked for at once, all of them
//! would end late together, and so would every Stop, Remove and Status between them. So they queue here, and what is made at a
//! time is about as much as there are processors for; nothing else queues.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

/// Who takes longer waits for something other than a processor: a plugin, a disk, a file system that hangs.
const PATIENCE: Duration = Duration::from_secs(1);

const FEWEST: usize = 4;

pub(super) struct Gate {
    places: Arc<Semaphore>,
    patience: Duration,
}

/// A place, until this is dropped or patience has ended.
pub(super) struct Entered {
    _leaves: oneshot::Sender<()>,
}

impl Gate {
    /// Twice as many places as there are processors for this process, and some where those are few.
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(FEWEST.max(2 * processors), PATIENCE)
    }

    fn with(places: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), patience }
    }

    /// Waits for a place; who came first goes first.
    pub(super) async fn enter(&self) -> Entered {
        // Nobody closes it.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (leaves, left) = oneshot::channel();
        let patience = self.patience;
        tokio::spawn(async move {
            let _ = tokio::time::timeout(patience, left).await;
            drop(place);
        });
        Entered { _leaves: leaves }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_place_goes_on_when_its_holder_leaves() {
        let gate = Gate::with(1, Duration::MAX);
        let first = gate.enter().await;
        assert!(gate.enter().now_or_never().is_none());
        drop(first);
        let _next = gate.enter().await;
    }

    #[tokio::test]
    async fn a_place_goes_on_when_its_holder_hangs() {
        let gate = Gate::with(1, Duration::from_millis(20));
        let before = std::time::Instant::now();
        let _hangs = gate.enter().await;
        let _next = gate.enter().await;
        assert!(before.elapsed() >= Duration::from_millis(20));
    }
}
