//! Containers of a pod.

pub(crate) mod config;
pub(super) mod create;
pub(super) mod exec;
pub(super) mod log;
pub(super) mod owners;
pub(crate) mod phase;
pub(crate) mod record;
pub(super) mod remove;
pub(super) mod signal;
pub(super) mod start;
pub(super) mod stop;
pub(super) mod stream;
pub(super) mod update;
mod volumes;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{OnceCell, watch};

use self::phase::{Event, Phase};
use self::record::Record;
use crate::cgroup::Resources;
use crate::engine::registry::Keyed;
use crate::engine::stats::{CpuRate, WritableLayer};
use crate::engine::{ContainerKey, Shared};
use crate::error::{Error, Result};
use crate::id::ContainerId;

/// How long killed processes may take to go when nobody reports their end.
const PATIENCE: Duration = Duration::from_secs(1);

/// A container as the engine holds it. What it is now is in its record, which readers see too.
pub(crate) struct Container {
    pub(super) id: ContainerId,
    record: ArcSwap<Record>,
    /// Changes come from calls and from the monitor's reports; one at a time goes to disk.
    change: Mutex<()>,
    exited: watch::Sender<bool>,
    /// Held while limits change, and while the record goes: one that is gone must not come back.
    pub(super) limits: tokio::sync::Mutex<()>,
    /// Held from the start until plugins have heard of it.
    pub(super) starting: tokio::sync::Mutex<()>,
    /// Set when plugins have heard of the end.
    pub(super) end_told: OnceCell<()>,
    /// StartContainer waits for the monitor's answer, and will record what it says.
    pub(super) is_starting: AtomicBool,
    pub(super) cpu_rate: CpuRate,
    pub(super) writable: WritableLayer,
}

impl Container {
    pub(super) fn new(record: Record) -> Self {
        let exited = matches!(record.phase, Phase::Exited(_));
        Self {
            id: record.id.clone(),
            record: ArcSwap::from_pointee(record),
            change: Mutex::default(),
            exited: watch::Sender::new(exited),
            limits: tokio::sync::Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            end_told: OnceCell::new(),
            is_starting: AtomicBool::new(false),
            cpu_rate: CpuRate::default(),
            writable: WritableLayer::default(),
        }
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
        let before = self.record();
        let mut record = (*before).clone();
        change(&mut record)?;
        shared.container_records.put(self.id.as_str(), &record)?;
        let changes = before.phase.changes_to(&record.phase);
        let exited = matches!(record.phase, Phase::Exited(_));
        self.record.store(Arc::new(record));
        shared.containers.changed();
        for change in changes {
            shared.container_changed(*change, self);
        }
        self.exited.send_if_modified(|known| std::mem::replace(known, exited) != exited);
        Ok(())
    }

    /// # Errors
    /// `WrongState` unless the container is running, as exec and log rotation need it.
    pub(super) fn check_running(&self) -> Result<()> {
        match &self.record().phase {
            Phase::Running { .. } => Ok(()),
            other @ (Phase::Created { .. } | Phase::Exited(_)) => {
                Err(self.is_not("running", other))
            }
        }
    }

    pub(super) fn is_not(&self, wanted: &str, phase: &Phase) -> Error {
        let id = self.id.short();
        Error::wrong_state(format!("container {id} is {}, not {wanted}", phase.name()))
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

impl Keyed for Container {
    type Key = ContainerKey;

    fn key(&self) -> ContainerKey {
        let record = self.record();
        let (name, attempt) = (record.config.name.clone(), record.config.attempt);
        ContainerKey { pod: record.pod.clone(), name, attempt }
    }
}
