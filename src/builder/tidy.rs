//! The limits of what builds leave, kept after each of them.
//!
//! When a build and all that came of it is let go, and an image stands on its layers or none does, what is too old goes, and
//! then what is too much, the least recently used first. One round at a time; builds that end meanwhile share the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::Builder;
use super::cached::{Prune, Room};
use crate::error::Result;

const DAY: i64 = 24 * 3600 * 1_000_000_000;

/// Whether a round runs, and whether another one is to follow.
#[derive(Clone, Default)]
pub(super) struct Rounds {
    alone: Arc<tokio::sync::Mutex<()>>,
    is_wanted: Arc<AtomicBool>,
}

/// Begins a round when it is dropped: the last part of a build.
pub(super) struct Tidy(pub(super) Builder);

impl Drop for Tidy {
    fn drop(&mut self) {
        // Without a runtime the daemon is at its end.
        let Ok(runtime) = Handle::try_current() else { return };
        if self.0.rounds.is_wanted.swap(true, Ordering::AcqRel) {
            return;
        }
        let builder = self.0.clone();
        runtime.spawn(async move {
            let _alone = builder.rounds.alone.lock().await;
            builder.rounds.is_wanted.store(false, Ordering::Release);
            if let Err(error) = builder.tidy().await {
                tracing::warn!(error = error.chain(), "the build cache is not kept to its limits");
            }
        });
    }
}

impl Builder {
    async fn tidy(&self) -> Result<()> {
        let limits = self.engine.build_limits();
        let total = self.engine.image_space()?.total;
        let mut rounds = Vec::new();
        if limits.max_unused_days > 0 {
            let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
            let until = Some(now.saturating_sub(i64::from(limits.max_unused_days) * DAY));
            rounds.push(Prune { until, ..Prune::default() });
        }
        let room = Room {
            reserved: limits.reserved_space.of(total),
            most: limits.max_used_space.of(total),
            free: limits.min_free_space.of(total),
        };
        if room.most > 0 || room.free > 0 {
            rounds.push(Prune { room, ..Prune::default() });
        }
        for prune in rounds {
            let (gone, bytes) = self.forget(&prune).await?;
            if !gone.is_empty() {
                tracing::info!(count = gone.len(), bytes, "the build cache was kept to its limits");
            }
        }
        // A layer that took the place of another under its key left that one to nobody.
        self.engine.sweep_layers().await
    }
}
