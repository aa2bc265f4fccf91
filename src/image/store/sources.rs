//! Where registries have layers: what was pulled from there, or pushed.
//!
//! A registry takes a blob from another of its repositories without being sent it. Records are not synced: one that is
//! lost costs an upload. They go with their layers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::record::{Layer, LayerKey};
use super::{ImageStore, blocking};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, LayerBlob, oci_layer_type};
use crate::image::reference::Reference;
use crate::store::atomic::Durability;
use crate::store::table::Table;

/// Of one layer. The ones that were used last stay.
const MOST: usize = 8;

/// A repository that has an archive of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::image) struct LayerSource {
    registry: String,
    pub(in crate::image) repository: String,
    media_type: String,
    digest: Digest,
    /// Of the archive, in bytes.
    size: u64,
    diff_id: Digest,
}

impl LayerSource {
    pub(in crate::image) fn new(at: &Reference, blob: &LayerBlob) -> Self {
        let Descriptor { media_type, digest, size, .. } = &blob.descriptor;
        Self {
            registry: at.registry().to_owned(),
            repository: at.repository().to_owned(),
            media_type: oci_layer_type(media_type),
            digest: digest.clone(),
            size: *size,
            diff_id: blob.diff_id.clone(),
        }
    }

    pub(in crate::image) fn blob(&self) -> LayerBlob {
        let descriptor = Descriptor::new(&self.media_type, self.digest.clone(), self.size);
        LayerBlob { descriptor, diff_id: self.diff_id.clone() }
    }

    pub(in crate::image) fn is_at(&self, registry: &str) -> bool {
        self.registry == registry
    }

    fn is_place_of(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.registry.clone(), it.repository.clone(), it.digest.clone());
        place(self) == place(other)
    }
}

pub(super) struct LayerSources {
    records: Table<Vec<LayerSource>>,
    by_layer: Mutex<HashMap<LayerKey, Arc<Vec<LayerSource>>>>,
}

impl LayerSources {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let records = Table::open(path, Durability::UntilReboot)?;
        Ok(Self { records, by_layer: Mutex::default() })
    }

    /// Forgets what speaks of a layer that is not there.
    pub(super) fn load(&self, layers: &HashMap<LayerKey, Arc<Layer>>) -> Result<()> {
        let mut all = self.lock();
        for (key, sources) in self.records.scan()? {
            let layer = LayerKey::try_from(key.clone()).ok();
            match layer.filter(|layer| layers.contains_key(layer)) {
                Some(layer) => drop(all.insert(layer, Arc::new(sources))),
                None => self.records.remove(&key)?,
            }
        }
        Ok(())
    }

    /// For a layer that is no more. For callers that hold the lock of changes.
    pub(super) fn drop_layer(&self, layer: &LayerKey) {
        if self.lock().remove(layer).is_some() {
            // The next start removes it otherwise.
            let _ = self.records.remove(layer.as_str());
        }
    }

    fn of(&self, layer: &LayerKey) -> Arc<Vec<LayerSource>> {
        self.lock().get(layer).cloned().unwrap_or_default()
    }

    /// On the disk, then in memory. For callers that hold the lock of changes.
    fn change(&self, layer: &LayerKey, change: impl FnOnce(&mut Vec<LayerSource>)) -> Result<()> {
        let before = self.of(layer);
        let mut after = Vec::clone(&before);
        change(&mut after);
        if after != *before {
            self.records.put(layer.as_str(), &after)?;
            self.lock().insert(layer.clone(), Arc::new(after));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LayerKey, Arc<Vec<LayerSource>>>> {
        self.by_layer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ImageStore {
    /// The archives of a layer that a registry has, and where; the one that was used last first.
    pub(in crate::image) fn sources(&self, layer: &LayerKey, registry: &str) -> Vec<LayerSource> {
        let sources = self.shared.sources.of(layer);
        sources.iter().filter(|source| source.is_at(registry)).cloned().collect()
    }

    /// Those of all registries, this one's first.
    pub(in crate::image) fn all_sources(
        &self,
        layer: &LayerKey,
        registry: &str,
    ) -> Vec<LayerSource> {
        let mut sources = Vec::clone(&self.shared.sources.of(layer));
        sources.sort_by_key(|source| !source.is_at(registry));
        sources
    }

    /// Notes that a repository has these archives of layers. It goes without, if that fails.
    pub(in crate::image) async fn note_sources(
        &self,
        at: &Reference,
        layers: &[(LayerKey, LayerBlob)],
    ) {
        let sources = layers.iter().map(|(key, blob)| (key.clone(), LayerSource::new(at, blob)));
        if let Err(error) = self.add_sources(sources.collect()).await {
            tracing::warn!(error = error.chain(), "where layers are is not noted");
        }
    }

    /// Notes that repositories have these archives of layers.
    pub(in crate::image) async fn add_sources(
        &self,
        sources: Vec<(LayerKey, LayerSource)>,
    ) -> Result<()> {
        let store = self.clone();
        blocking(move || {
            let _changes = store.shared.lock_changes();
            let layers = store.shared.catalog();
            let known = sources.into_iter().filter(|(layer, _)| layers.layers.contains_key(layer));
            for (layer, source) in known {
                store.shared.sources.change(&layer, |all| {
                    all.retain(|other| !other.is_place_of(&source));
                    all.insert(0, source);
                    all.truncate(MOST);
                })?;
            }
            Ok(())
        })
        .await
    }

    /// Notes that a repository has one no more.
    pub(in crate::image) async fn drop_source(
        &self,
        layer: LayerKey,
        source: LayerSource,
    ) -> Result<()> {
        let store = self.clone();
        let dropping = move || {
            let _changes = store.shared.lock_changes();
            store.shared.sources.change(&layer, |all| all.retain(|it| !it.is_place_of(&source)))
        };
        blocking(dropping).await
    }
}
