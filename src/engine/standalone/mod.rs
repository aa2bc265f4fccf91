//! Standalone containers: those that Docker's clients make. Each is a pod of one.
//!
//! ```text
//!   Standalone (record, writable layer, log: under the root directory, survives the boot)
//!       │ start                                     ▲ supervise: the end goes on record,
//!       ▼                                           │ the pod is removed
//!   pod::run ─▶ container::create ─▶ attach who waits ─▶ container::start
//! ```
//!
//! What a container has only while it runs (namespaces, cgroup, address, monitor) belongs to its
//! run, an ordinary pod that is made by each start and removed at each end. Its id is the
//! container's in every run, so that exec, logs and statistics need no translation. The pod's
//! configuration says whose it is, and the CRI door leaves such pods out: kubelet ends what it
//! does not know.

mod attach;
mod boot;
pub(crate) mod config;
mod create;
pub(crate) mod exec;
pub(crate) mod health;
mod log;
mod names;
pub(crate) mod record;
mod recover;
mod registry;
mod remove;
mod restart;
mod run;
mod share;
mod start;
mod stop;
mod supervise;
mod takeover;
pub(crate) mod update;
mod volumes;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use self::attach::Attachments;
pub(crate) use self::attach::{Session, Waiting};
pub(crate) use self::create::create;
use self::health::Health;
pub(crate) use self::log::older as older_logs;
use self::record::{Record, State, Writing};
pub(super) use self::recover::load;
pub(crate) use self::recover::recover;
pub(crate) use self::registry::Standalones;
pub(crate) use self::remove::{Removal, remove};
pub(crate) use self::run::LOG;
pub(crate) use self::start::{Started, start};
pub(crate) use self::stop::{kill, parse_signal, pause, rename, restart, stop, unpause};
pub(crate) use self::takeover::take_over;
use super::Shared;
use super::actions::Act;
use super::networks::membership::Membership;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::monitor::client::failure_of;
use crate::monitor::protocol::{Failure, FailureKind};

/// A container as the engine holds it. What it is now is in its record, which readers see too.
pub(crate) struct Standalone {
    pub(super) id: ContainerId,
    /// Held while it is started, taken down or removed. Stopping does not take it.
    pub(super) mutation: tokio::sync::Mutex<()>,
    record: ArcSwap<Record>,
    /// Changes come from calls and from ends; one at a time goes to disk.
    change: Mutex<()>,
    ends: watch::Sender<Ends>,
    attachments: Attachments,
    /// Whoever carries its streams to a client; the run is taken down after them.
    carriers: TaskTracker,
    /// Wakes a restart that waits for its time.
    hurry: Notify,
    /// It is being stopped to be started again: an end is then no reason to go.
    is_restarting: AtomicBool,
    health: Health,
}

/// What those who wait for an end look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// How many runs are over.
    pub(crate) count: u64,
    pub(crate) is_running: bool,
    pub(crate) is_paused: bool,
    /// How often it was paused.
    pub(crate) pauses: u64,
    pub(crate) is_removed: bool,
    pub(crate) code: i32,
}

impl Standalone {
    fn new(record: Record) -> Self {
        let ends = Ends {
            is_running: record.run().is_some(),
            is_paused: record.is_paused(),
            code: record.exit_code(),
            ..Ends::default()
        };
        Self {
            id: record.id.clone(),
            mutation: tokio::sync::Mutex::default(),
            record: ArcSwap::from_pointee(record),
            change: Mutex::default(),
            ends: watch::Sender::new(ends),
            attachments: Attachments::default(),
            carriers: TaskTracker::new(),
            hurry: Notify::new(),
            is_restarting: AtomicBool::new(false),
            health: Health::default(),
        }
    }

    pub(crate) fn record(&self) -> Arc<Record> {
        self.record.load_full()
    }

    /// What its last probes came to.
    pub(crate) fn health_results(&self) -> health::Results {
        self.health.results()
    }

    /// For those who wait for its end; what happens after this call is not missed.
    pub(crate) fn ends(&self) -> watch::Receiver<Ends> {
        self.ends.subscribe()
    }

    /// On disk before in memory: memory never claims what a restart would not find.
    ///
    /// # Errors
    /// `NotFound` once it is removed: its record must not come back.
    fn update(&self, shared: &Shared, change: impl FnOnce(&mut Record)) -> Result<()> {
        self.update_and(shared, change, |_| {})
    }

    /// As [`Standalone::update`]. `tell` sees the record after it is published, and before those
    /// who wait for an end go on.
    fn update_and(
        &self,
        shared: &Shared,
        change: impl FnOnce(&mut Record),
        tell: impl FnOnce(&Record),
    ) -> Result<()> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ends.borrow().is_removed {
            return Err(Error::not_found(format!("No such container: {}", self.id)));
        }
        let before = self.record();
        let mut record = (*before).clone();
        change(&mut record);
        let (records, id) = (&shared.standalone_records, self.id.as_str());
        match record.writing_over(&before) {
            Writing::Synced => records.put(id, &record)?,
            Writing::Soon => records.put_soon(id, &record)?,
            Writing::Unsynced => records.put_unsynced(id, &record)?,
            Writing::Unneeded => {}
        }
        let has_ended = before.run().is_some() && record.run().is_none();
        let (is_running, is_paused) = (record.run().is_some(), record.is_paused());
        let code = record.exit_code();
        let record = Arc::new(record);
        self.record.store(record.clone());
        tell(&record);
        self.ends.send_modify(|ends| {
            ends.count += u64::from(has_ended);
            ends.pauses += u64::from(is_paused && !ends.is_paused);
            *ends = Ends { is_running, is_paused, code, ..*ends };
        });
        Ok(())
    }

    pub(super) fn networks_changed(
        &self,
        shared: &Shared,
        networks: Vec<Membership>,
    ) -> Result<()> {
        self.update(shared, |record| record.networks = networks)
    }

    /// Nothing of it is left but its record.
    fn removed(&self, shared: &Shared) -> Result<()> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let records = &shared.standalone_records;
        match self.record().goes_with_its_run() {
            true => records.remove_unsynced(self.id.as_str())?,
            false => records.remove(self.id.as_str())?,
        }
        shared.standalones.remove(&self.id);
        shared.tell(&self.record(), Act::Plain("destroy"));
        self.ends.send_modify(|ends| ends.is_removed = true);
        self.attachments.forget();
        Ok(())
    }

    /// Keeps it from being started or removed while it does not run. One that runs is not kept from
    /// anything.
    pub(super) async fn lock_if_at_rest(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.is_running() {
            return None;
        }
        let held = self.mutation.lock().await;
        (!self.is_running()).then_some(held)
    }

    /// # Errors
    /// `NotFound` once it is removed: nothing may be made for it any more.
    pub(super) fn check_there(&self, shared: &Shared) -> Result<()> {
        match shared.standalones.has(&self.id) {
            true => Ok(()),
            false => Err(Error::not_found(format!("No such container: {}", self.id))),
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.record().state, State::Running(_))
    }

    /// Returns when no run is under way.
    async fn rests(&self) {
        // The sender is part of self: it cannot be gone.
        let _ = self.ends.subscribe().wait_for(|ends| !ends.is_running).await;
    }
}

/// 126 or 127 for an error that is a command which is no program, or not there.
fn command_code(error: &Error) -> Option<i32> {
    match failure_of(error) {
        Some(
            failure @ Failure {
                kind: FailureKind::CommandNotFound | FailureKind::CommandNotExecutable,
                ..
            },
        ) => Some(failure.exit_code()),
        Some(_) | None => None,
    }
}
