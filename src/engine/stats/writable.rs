//! How large the writable layers are.
//!
//! Only a walk tells, and a layer may have a million files. So a call starts a walk through what was
//! measured too long ago, waits a moment for it, and shows what is known by then: small layers as
//! they are now, a large one as it was at the last walk, with the time of that. A walk goes on when
//! nobody waits for it any more, and no layer is walked twice at once. Nothing is walked when nobody
//! asks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::engine::container::Container;
use crate::engine::container::phase::Phase;
use crate::engine::{Shared, clock};
use crate::store::usage::usage_of_tree;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DiskUsage {
    /// When it was measured, nanoseconds since the epoch.
    pub(crate) at: i64,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// A measure younger than this is as good as a new one.
const FRESH_NANOS: i64 = 10_000_000_000;
/// How long a call waits for what it has an older figure of.
const REFRESH: Duration = Duration::from_millis(20);
/// How long a call waits for a first figure.
const FIRST: Duration = Duration::from_secs(1);

/// What is known of one container's layer; dies with the container.
#[derive(Debug, Default)]
pub(crate) struct WritableLayer {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<DiskUsage>,
    is_walked: bool,
    /// How long the last walk took.
    took: Duration,
}

impl WritableLayer {
    pub(super) fn known(&self) -> Option<DiskUsage> {
        self.lock().known
    }

    /// True if the caller is to walk the layer, and nobody else is.
    fn claim(&self, now: i64, phase: &Phase) -> bool {
        let mut state = self.lock();
        let is_fresh = state.known.is_some_and(|known| match phase {
            // Nobody writes to it any more.
            Phase::Exited(end) if known.at > end.finished_at => true,
            Phase::Created { .. } | Phase::Running { .. } | Phase::Exited(_) => {
                now.saturating_sub(known.at) < FRESH_NANOS
            }
        });
        let claimed = !is_fresh && !state.is_walked;
        state.is_walked |= claimed;
        claimed
    }

    fn walk(&self, upper: &Path) {
        let (at, started) = (clock::now(), Instant::now());
        let usage = usage_of_tree(upper).ok();
        let mut state = self.lock();
        state.is_walked = false;
        state.took = started.elapsed();
        if let Some((bytes, inodes)) = usage {
            state.known = Some(DiskUsage { at, bytes, inodes });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to walk what is not fresh; `None` when all is.
pub(super) fn start(shared: &Shared, containers: &[Arc<Container>]) -> Option<JoinHandle<()>> {
    let now = clock::now();
    let mut stale: Vec<_> = containers
        .iter()
        .filter(|container| container.writable.claim(now, &container.record().phase))
        .cloned()
        .collect();
    if stale.is_empty() {
        return None;
    }
    // The large ones last: nobody is to wait behind them.
    stale.sort_by_key(|container| container.writable.lock().took);
    let layout = shared.layout.clone();
    Some(tokio::task::spawn_blocking(move || {
        for container in stale {
            container.writable.walk(&layout.container_root(&container.id).join("upper"));
        }
    }))
}

/// Waits a moment for the walk.
pub(super) async fn finish(walk: Option<JoinHandle<()>>, containers: &[Arc<Container>]) {
    let Some(mut walk) = walk else { return };
    if tokio::time::timeout(REFRESH, &mut walk).await.is_err()
        && containers.iter().any(|container| container.writable.known().is_none())
    {
        // What is not known by then is left out.
        let _ = tokio::time::timeout(FIRST, walk).await;
    }
}

/// Of all layers together.
pub(crate) async fn total(shared: &Arc<Shared>) -> DiskUsage {
    let containers = shared.containers.all();
    finish(start(shared, &containers), &containers).await;
    let known = containers.iter().filter_map(|container| container.writable.known());
    known.fold(DiskUsage { at: clock::now(), ..DiskUsage::default() }, |sum, usage| DiskUsage {
        at: sum.at.min(usage.at),
        bytes: sum.bytes + usage.bytes,
        inodes: sum.inodes + usage.inodes,
    })
}

/// Bytes below `directory` on disk, counted off the threads that serve calls; 0 if there is no such directory.
pub(in crate::engine) async fn bytes_below(directory: PathBuf) -> u64 {
    let walk = tokio::task::spawn_blocking(move || usage_of_tree(&directory));
    walk.await.ok().and_then(Result::ok).map_or(0, |(bytes, _)| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::phase::{End, Reason};

    #[test]
    fn a_layer_is_walked_again_when_its_figure_is_old_and_by_one_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let layer = WritableLayer::default();
        let running = Phase::Running { pid: 1, started_at: 1 };
        let now = clock::now();
        assert!(layer.claim(now, &running));
        assert!(!layer.claim(now, &running), "it is walked already");
        layer.walk(temp.path());
        let at = layer.known().unwrap().at;
        assert!(!layer.claim(at + FRESH_NANOS - 1, &running));
        assert!(layer.claim(at + FRESH_NANOS, &running));
    }

    #[test]
    fn the_layer_of_an_exited_container_is_walked_once() {
        let temp = tempfile::tempdir().unwrap();
        let layer = WritableLayer::default();
        layer.walk(temp.path());
        let at = layer.known().unwrap().at;
        let exited = |finished_at| {
            let (code, reason, message) = (0, Reason::Completed, String::new());
            Phase::Exited(End { code, started_at: None, finished_at, reason, message })
        };
        assert!(!layer.claim(i64::MAX, &exited(at - 1)));
        assert!(layer.claim(i64::MAX, &exited(at)));
    }
}
