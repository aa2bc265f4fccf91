//! Pods: what CRI calls a pod sandbox.

pub(in crate::engine) mod attach;
pub(crate) mod config;
pub(super) mod files;
mod join;
mod names;
pub(crate) mod phase;
pub(crate) mod record;
pub(super) mod remove;
pub(super) mod run;
pub(super) mod stop;
pub(super) mod update;
pub(super) mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::OnceCell;

use self::phase::Phase;
use self::record::{Limits, Record};
use crate::engine::events::Change;
use crate::engine::registry::Keyed;
use crate::engine::stats::CpuRate;
use crate::engine::{PodKey, Shared, clock};
use crate::error::{Error, Result};
use crate::id::PodId;
use crate::monitor::client::Client;

/// A pod as the engine holds it. What it is now is in its record, which is what readers see too.
pub(crate) struct Pod {
    pub(super) id: PodId,
    /// Held while the pod, or the set of its containers, changes. Readers never take it.
    pub(super) mutation: tokio::sync::Mutex<()>,
    record: ArcSwap<Record>,
    /// The watch over the monitor changes the record without `mutation`; one at a time goes to disk.
    change: Mutex<()>,
    monitor: ArcSwapOption<Client>,
    /// Set when plugins have heard of the end.
    pub(super) end_told: OnceCell<()>,
    pub(super) cpu_rate: CpuRate,
}

impl Pod {
    pub(super) fn new(record: Record, monitor: Option<Arc<Client>>) -> Self {
        Self {
            end_told: OnceCell::new(),
            id: record.id.clone(),
            mutation: tokio::sync::Mutex::default(),
            change: Mutex::default(),
            record: ArcSwap::from_pointee(record),
            monitor: ArcSwapOption::new(monitor),
            cpu_rate: CpuRate::default(),
        }
    }

    pub(super) fn record(&self) -> Arc<Record> {
        self.record.load_full()
    }

    /// The pod's monitor.
    ///
    /// # Errors
    /// `WrongState` when it is gone: nothing can run in this pod any more.
    pub(super) fn monitor(&self) -> Result<Arc<Client>> {
        self.monitor.load_full().ok_or_else(|| {
            Error::wrong_state(format!("pod sandbox {} is not ready", self.id.short()))
        })
    }

    /// Moves to `Stopped`, on disk before in memory. Returns the monitor that was let go.
    ///
    /// The attachment stays in the record until the network is detached: a daemon that dies in
    /// between must still find it.
    pub(super) fn stopped(&self, shared: &Shared) -> Result<Option<Arc<Client>>> {
        self.update(shared, |record| {
            if record.phase != Phase::Stopped {
                record.stopped_at = clock::now();
            }
            record.phase = Phase::Stopped;
            record.monitor_pid = None;
        })?;
        Ok(self.monitor.swap(None))
    }

    pub(super) fn limits_applied(&self, shared: &Shared, limits: Limits) -> Result<()> {
        self.update(shared, |record| record.limits = Some(limits))
    }

    pub(super) fn detached(&self, shared: &Shared) -> Result<()> {
        self.update(shared, |record| {
            (record.attachment, record.way_out, record.way_out_ipv6) = (None, None, None);
            record.joined.clear();
        })
    }

    pub(super) fn networks_changed(
        &self,
        shared: &Shared,
        change: impl FnOnce(&mut Record),
    ) -> Result<()> {
        self.update(shared, change)
    }

    fn update(&self, shared: &Shared, change: impl FnOnce(&mut Record)) -> Result<()> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = (*self.record()).clone();
        let before = record.phase;
        change(&mut record);
        shared.pod_records.put(self.id.as_str(), &record)?;
        let has_stopped = record.phase == Phase::Stopped && before != Phase::Stopped;
        self.record.store(Arc::new(record));
        shared.pods.changed();
        if has_stopped {
            shared.pod_changed(Change::Stopped, self);
        }
        Ok(())
    }
}

impl Keyed for Pod {
    type Key = PodKey;

    fn key(&self) -> PodKey {
        PodKey::of(&self.record().config)
    }
}
