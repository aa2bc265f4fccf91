//! Layers that stay without an image, to be found again under a key: what a build made, by what it
//! was made from.
//!
//! Records are not synced: one that is lost is made again. One that survived a power cut speaks of a whole layer, or of one
//! that was dropped with the rest of what was not on the disk (`unsynced`), and is forgotten.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::building::{StackedLayer, Stored};
use super::commit::Freed;
use super::record::{Layer, LayerKey};
use super::{Catalog, ImageStore, Shared, blocking};
use crate::error::{Context, Result};
use crate::image::digest::Digest;
use crate::store::atomic::Durability;
use crate::store::table::Table;

/// What is known of a layer that was kept. Times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) layer: LayerKey,
    /// For people.
    pub(crate) description: String,
    /// Bytes on disk.
    pub(crate) size: u64,
    pub(crate) created_at: i64,
    pub(crate) used_at: i64,
    pub(crate) uses: u64,
}

/// A layer to be kept.
pub(crate) struct Keep {
    pub(crate) key: Digest,
    pub(crate) layer: StackedLayer,
    pub(crate) description: String,
}

pub(in crate::image) struct KeptLayers {
    records: Table<Kept>,
    by_key: Mutex<HashMap<String, Arc<Kept>>>,
}

impl KeptLayers {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let records = Table::open(path, Durability::UntilReboot)?;
        Ok(Self { records, by_key: Mutex::default() })
    }

    /// Forgets what speaks of a layer that is not there.
    pub(super) fn load(&self, layers: &HashMap<LayerKey, Arc<Layer>>) -> Result<()> {
        let mut all = self.lock();
        for (key, kept) in self.records.scan()? {
            match layers.contains_key(&kept.layer) {
                true => drop(all.insert(key, Arc::new(kept))),
                false => self.records.remove(&key)?,
            }
        }
        Ok(())
    }

    pub(super) fn layers(&self) -> HashSet<LayerKey> {
        self.lock().values().map(|kept| kept.layer.clone()).collect()
    }

    fn put(&self, key: &str, kept: Kept) -> Result<()> {
        self.records.put(key, &kept)?;
        self.lock().insert(key.to_owned(), Arc::new(kept));
        Ok(())
    }

    fn get(&self, key: &str) -> Option<Arc<Kept>> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Kept>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ImageStore {
    /// The layer that was kept under this key; it stays as long as the answer lives.
    pub(crate) fn find_kept(&self, key: &Digest) -> Option<StackedLayer> {
        // Under the lock: between the look and the lease nobody may remove it.
        let _changes = self.shared.lock_changes();
        let kept = self.shared.kept.get(key.hex())?;
        self.shared.stored(&kept.layer).map(|stored| StackedLayer::stored(self, stored))
    }

    /// Every layer that is kept, by its key.
    pub(crate) fn kept(&self) -> Vec<(String, Arc<Kept>)> {
        let mut all: Vec<_> =
            self.shared.kept.lock().iter().map(|(key, kept)| (key.clone(), kept.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Keeps layers that were made. They are written out soon.
    pub(crate) async fn keep(&self, layers: Vec<Keep>, now: i64) -> Result<()> {
        let mut all = Vec::with_capacity(layers.len());
        for Keep { key, layer, description } in layers {
            all.push((key, layer.settled().await?, description));
        }
        let store = self.clone();
        blocking(move || {
            for (key, stored, description) in all {
                let kept = Kept {
                    layer: stored.key.clone(),
                    description,
                    size: stored.size,
                    created_at: now,
                    used_at: now,
                    uses: 0,
                };
                store.shared.kept.put(key.hex(), kept)?;
            }
            store.write_out_soon();
            Ok(())
        })
        .await
    }

    /// Notes that kept layers were of use.
    pub(crate) fn kept_used(&self, keys: &[Digest], now: i64) -> Result<()> {
        for key in keys {
            if let Some(kept) = self.shared.kept.get(key.hex()) {
                let uses = kept.uses + 1;
                self.shared.kept.put(key.hex(), Kept { used_at: now, uses, ..(*kept).clone() })?;
            }
        }
        Ok(())
    }

    /// Forgets these keys and these caches unless a build has what they stand for, and removes the layers that nobody needs
    /// then: what was forgotten, and the bytes that went. What cannot be removed is told of in the log.
    pub(crate) async fn forget_builds(
        &self,
        keys: Vec<String>,
        caches: Vec<String>,
        in_use: impl FnOnce() -> HashSet<LayerKey> + Send + 'static,
    ) -> Result<(Vec<String>, u64)> {
        let store = self.clone();
        blocking(move || {
            let mut freed = Freed::default();
            store.shared.forget_kept(&keys, in_use, &mut freed);
            store.shared.caches.take_out(&caches, &mut freed);
            let forgotten = (std::mem::take(&mut freed.names), freed.bytes);
            // What failed was told.
            let _ = freed.remove();
            Ok(forgotten)
        })
        .await
    }

    /// Whether somebody counts on the layer now: a build, a pull, who sends it.
    pub(crate) fn is_leased(&self, layer: &LayerKey) -> bool {
        self.shared.layers.leases.holds(layer)
    }
}

impl Shared {
    fn forget_kept(
        &self,
        keys: &[String],
        in_use: impl FnOnce() -> HashSet<LayerKey>,
        freed: &mut Freed,
    ) {
        let _changes = self.lock_changes();
        for key in keys {
            let Some(kept) = self.kept.get(key) else { continue };
            if self.layers.leases.holds(&kept.layer) {
                continue;
            }
            match self.kept.records.remove(key).context("forget a layer") {
                Ok(()) => {
                    self.kept.lock().remove(key);
                    freed.names.push(key.clone());
                }
                Err(error) => freed.failed(error),
            }
        }
        self.take_out_unused(Catalog::clone(&self.catalog()), in_use, freed);
    }

    /// A layer of the store, kept from removal. For callers that hold the lock of changes.
    pub(super) fn stored(&self, key: &LayerKey) -> Option<Stored> {
        let layer = self.catalog().layers.get(key).cloned()?;
        Some(Stored::new(key.clone(), &layer, self.layers.leases.take(key.clone())))
    }
}
