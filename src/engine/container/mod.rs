//! Containers of a pod.

pub(crate) mod config;
pub(super) mod create;
pub(super) mod exec;
pub(super) mod log;
pub(crate) mod phase;
pub(super) mod record;
pub(super) mod remove;
mod signal;
pub(crate) mod snapshot;
pub(super) mod start;
pub(super) mod stop;
pub(super) mod stream;
pub(super) mod update;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::phase::{Event, Phase};
use self::record::Record;
use self::snapshot::Snapshot;
use crate::cgroup::Resources;
use crate::engine::Shared;
use crate::error::Result;
use crate::id::ContainerId;

/// How long killed processes may take to go when nobody reports their end.
const PATIENCE: Duration = Duration::from_secs(1);

/// A container as the engine holds it. What it is now is in its record, which readers see too.
pub(crate) struct Container {
    pub(super) id: ContainerId,
    record: ArcSwap<Record>,
    snapshot: ArcSwap<Snapshot>,
    /// Changes come from calls and from the monitor's reports; one at a time goes to disk.
    change: Mutex<()>,
    exited: watch::Sender<bool>,
}

impl Container {
    pub(super) fn new(record: Record) -> Self {
        let exited = matches!(record.phase, Phase::Exited(_));
        Self {
            id: record.id.clone(),
            snapshot: ArcSwap::from_pointee(record.snapshot()),
            record: ArcSwap::from_pointee(record),
            change: Mutex::default(),
            exited: watch::Sender::new(exited),
        }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(super) fn record(&self) -> Arc<Record> {
        self.record.load_full()
    }

    /// Moves to the next phase, on disk before in memory: memory never claims what a restart
    /// would not find.
    ///
    /// # Errors
    /// `WrongState` for a move that the table does not know.
    pub(super) fn apply(&self, shared: &Shared, event: Event) -> Result<()> {
        self.update(shared, |record| {
            record.phase = record.phase.after(event)?;
            Ok(())
        })
    }

    pub(super) fn resources_applied(&self, shared: &Shared, resources: Resources) -> Result<()> {
        self.update(shared, |record| {
            record.resources = resources;
            Ok(())
        })
    }

    /// Says why the start failed, also when the monitor's report of the exit came first.
    pub(super) fn start_failed(&self, shared: &Shared, message: &str) -> Result<()> {
        self.update(shared, |record| {
            record.phase = record.phase.after_failed_start(message)?;
            Ok(())
        })
    }

    fn update(
        &self,
        shared: &Shared,
        change: impl FnOnce(&mut Record) -> Result<()>,
    ) -> Result<()> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = (*self.record()).clone();
        change(&mut record)?;
        shared.container_records.put(self.id.as_str(), &record)?;
        let exited = matches!(record.phase, Phase::Exited(_));
        self.snapshot.store(Arc::new(record.snapshot()));
        self.record.store(Arc::new(record));
        self.exited.send_if_modified(|known| std::mem::replace(known, exited) != exited);
        Ok(())
    }

    /// Returns when the container has exited.
    pub(super) async fn exited(&self) {
        // The sender is part of self: it cannot be gone.
        let _ = self.exited.subscribe().wait_for(|exited| *exited).await;
    }

    /// Kills whatever is in the container's cgroup; for when no monitor is left to ask.
    pub(super) fn kill_cgroup(&self, shared: &Shared) {
        let group = shared.cgroups.open(&self.record().cgroup);
        if let Err(error) = group.and_then(|group| group.kill(PATIENCE)) {
            tracing::warn!(container = %self.id, error = error.chain(), "kill the container");
        }
    }
}
