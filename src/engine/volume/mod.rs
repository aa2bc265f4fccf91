//! Volumes: directories with names, which outlive the containers that they are mounted in.
//!
//! ```text
//!   ROOT/volume-records/<name>.json   what a volume is: there is one if it stands here
//!   ROOT/volumes/<name>/_data         its files
//!                      /_new          what it is being filled with from an image
//!                      /_ready        the same, whole, on its way into `_data`
//! ```
//!
//! Volumes are made and removed one at a time, under `changes`. Who is about to mount one holds a
//! [`Claim`] until a container's record says so; neither kind of volume can be removed.

mod create;
mod fill;
mod mount;
mod remove;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub(super) use self::create::ensure;
pub(crate) use self::create::{Request, create};
pub(super) use self::fill::fill;
pub(super) use self::mount::{detach, directory, open};
pub(crate) use self::remove::{prune, remove, users};
pub(super) use self::remove::{remove_unclaimed, size};
use super::Shared;
use crate::error::{Context, Error, Result};

/// What the next daemon must know of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) labels: BTreeMap<String, String>,
    /// As the client wrote them: `type`, `o` and `device` of a bind; mostly none.
    pub(crate) options: BTreeMap<String, String>,
    /// Nobody gave it a name: it goes with its container, when that is asked for.
    pub(crate) is_anonymous: bool,
}

pub(crate) struct Volume {
    pub(crate) record: Record,
    /// Held while it gets its first files.
    filling: tokio::sync::Mutex<()>,
    claims: AtomicUsize,
}

/// Keeps a volume from removal.
pub(super) struct Claim {
    pub(super) volume: Arc<Volume>,
}

impl Claim {
    fn of(volume: Arc<Volume>) -> Self {
        volume.claims.fetch_add(1, Ordering::SeqCst);
        Self { volume }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.volume.claims.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Volume {
    fn new(record: Record) -> Self {
        Self { record, filling: tokio::sync::Mutex::default(), claims: AtomicUsize::default() }
    }
}

/// The volumes there are, by name.
#[derive(Default)]
pub(super) struct Volumes {
    by_name: Mutex<BTreeMap<String, Arc<Volume>>>,
    changes: tokio::sync::Mutex<()>,
}

impl Volumes {
    /// Ordered by name.
    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        self.lock().values().cloned().collect()
    }

    /// # Errors
    /// `NotFound` in Docker's words.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Volume>> {
        self.lock().get(name).cloned().ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            Error::not_found(format!("get {shown}: no such volume"))
        })
    }

    fn insert(&self, volume: Arc<Volume>) {
        self.lock().insert(volume.record.name.clone(), volume);
    }

    fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Volume>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes up what an earlier daemon left: volumes, and one that was being filled or removed.
pub(super) fn load(shared: &Shared) -> Result<()> {
    for (name, record) in shared.volume_records.scan()? {
        if !shared.layout.volume(&name).exists() {
            // Its files went first.
            shared.volume_records.remove(&name)?;
            continue;
        }
        fill::take_up(&shared.layout, &name).with_context(|| format!("take up volume {name}"))?;
        shared.volumes.insert(Arc::new(Volume::new(record)));
    }
    Ok(())
}
