//! Waiting for a condition. The only place that lets time pass.

use std::time::Duration;

use tokio::time::{Instant, interval};

/// Generous: the machine may be busy, and a test that passes does not wait so long.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Probes until there is an answer. Panics after `limit`.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    let mut ticks = interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
    }
}

/// Probes until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, LONG, async || holds().await.then_some(())).await;
}
