//! What builds make is there before it is on the disk, and is written out behind their backs.
//!
//! ```text
//!   described with the boot's name ──▶ file system synced ──▶ layers described without it
//!         ──▶ synced again ──▶ images recorded without it
//! ```
//!
//! A record that has the name of another boot speaks of what a power cut may have taken parts of, and is dropped whole when the
//! store is opened. A daemon that is killed takes nothing: the kernel has the bytes, and its successor goes on from the records.
//!
//! A name that an unsynced image takes from one that is on the disk stays in that one's record until the other is there too. Of
//! two records with one name the younger has it, so only who comes after a power cut sees the older one.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::catalog::Catalog;
use super::layers::LayerDirectories;
use super::record::{Image, ImageId, Layer, LayerKey};
use super::{ImageStore, Shared};
use crate::error::{Error, Result};

/// Who writes it out, and what waits for that.
#[derive(Default)]
pub(super) struct WritingOut {
    state: Mutex<State>,
    /// An image whose record has a name still, and the one that took it.
    losses: Mutex<HashSet<(ImageId, ImageId)>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Working,
    /// Somebody has made more meanwhile.
    Again,
    /// The disk has lost something, and no later sync would tell of it: nothing is taken for written any more.
    Failed,
}

impl WritingOut {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if somebody is at it, who will go on, or if it is of no use.
    fn begin(&self) -> bool {
        let mut state = self.state();
        let (next, begins) = match *state {
            State::Idle => (State::Working, true),
            State::Working | State::Again => (State::Again, false),
            State::Failed => (State::Failed, false),
        };
        *state = next;
        begins
    }

    /// True for who goes on: there `is_more` to be done, or somebody has asked for it.
    fn goes_on(&self, is_more: bool) -> bool {
        let mut state = self.state();
        let (next, goes_on) = match *state {
            State::Again => (State::Working, true),
            State::Working | State::Idle if is_more => (State::Working, true),
            State::Working | State::Idle => (State::Idle, false),
            State::Failed => (State::Failed, false),
        };
        *state = next;
        goes_on
    }

    fn losses(&self) -> MutexGuard<'_, HashSet<(ImageId, ImageId)>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_loss(&self, loser: ImageId, taker: ImageId) {
        self.losses().insert((loser, taker));
    }

    /// Whether the image's record has a name that is not its own any more.
    pub(super) fn has_lost(&self, image: &ImageId) -> bool {
        self.losses().iter().any(|(loser, _)| loser == image)
    }
}

/// As it was before a sync: what was changed or made again after it is another one.
struct Unsynced {
    layers: Vec<(LayerKey, Arc<Layer>)>,
    images: Vec<(ImageId, u64)>,
}

impl Unsynced {
    fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.images.is_empty()
    }
}

impl ImageStore {
    /// Begins to write to the disk what is not there yet, and does not wait for it.
    pub(in crate::image) fn write_out_soon(&self) {
        let shared = &self.shared;
        if !shared.has_anything_unsynced() || !shared.writing_out.begin() {
            return;
        }
        let store = Arc::downgrade(shared);
        let work = move || {
            loop {
                // The store may be closed meanwhile: who opens it goes on.
                let written = write_out(|| store.upgrade());
                let Some(shared) = store.upgrade() else { return };
                let is_more = written.is_ok() && shared.has_anything_unsynced();
                if let Err(error) = written {
                    tracing::error!(error = error.chain(), "what was built is not on the disk");
                }
                if !shared.writing_out.goes_on(is_more) {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("cais-sync".to_owned()).spawn(work) {
            // The next build tries again, or the next start.
            tracing::warn!(%error, "cannot start a thread to write out what was built");
            self.shared.writing_out.goes_on(false);
        }
    }

    /// Waits until all that was made is on the disk.
    pub(crate) async fn write_out(&self) -> Result<()> {
        let store = self.clone();
        super::blocking(move || store.shared.write_out()).await
    }
}

/// Does it once. What is made meanwhile is left to the next time.
fn write_out<S: Deref<Target = Shared>>(store: impl Fn() -> Option<S>) -> Result<()> {
    let Some(shared) = store() else { return Ok(()) };
    let (unsynced, disk) = (shared.unsynced(), shared.layers.disk());
    if *shared.writing_out.state() == State::Failed {
        return Err(Error::internal("the disk has failed to write what was built before"));
    }
    let sync = || {
        let synced = disk.sync();
        if synced.is_err()
            && let Some(shared) = store()
        {
            *shared.writing_out.state() = State::Failed;
        }
        synced
    };
    // Nobody holds the store while the disk works.
    drop(shared);
    if !unsynced.is_empty() {
        sync()?;
        let Some(shared) = store() else { return Ok(()) };
        shared.describe_as_synced(&unsynced.layers)?;
        drop(shared);
        sync()?;
    }
    let Some(shared) = store() else { return Ok(()) };
    shared.take_as_synced(&unsynced)
}

impl Shared {
    pub(super) fn write_out(&self) -> Result<()> {
        write_out(|| Some(self))
    }

    fn has_anything_unsynced(&self) -> bool {
        !(self.unsynced().is_empty() && self.writing_out.losses().is_empty())
    }

    fn unsynced(&self) -> Unsynced {
        let catalog = self.catalog();
        let layers = catalog.layers.iter().filter(|(_, layer)| layer.unsynced.is_some());
        let images = catalog.images.iter().filter(|(_, image)| image.unsynced.is_some());
        Unsynced {
            layers: layers.map(|(key, layer)| (key.clone(), layer.clone())).collect(),
            images: images.map(|(id, image)| (id.clone(), image.generation)).collect(),
        }
    }

    /// The descriptions are not on the disk themselves yet.
    fn describe_as_synced(&self, layers: &[(LayerKey, Arc<Layer>)]) -> Result<()> {
        let _changes = self.lock_changes();
        let catalog = self.catalog();
        for (key, layer) in layers.iter().filter(|(key, layer)| catalog.has(key, layer)) {
            LayerDirectories::describe(&self.layers.directory_of(key), &synced(layer))?;
        }
        Ok(())
    }

    fn take_as_synced(&self, Unsynced { layers, images }: &Unsynced) -> Result<()> {
        let _changes = self.lock_changes();
        let mut catalog = Catalog::clone(&self.catalog());
        for (key, layer) in layers {
            if catalog.has(key, layer) {
                catalog.layers.insert(key.clone(), Arc::new(synced(layer)));
            }
        }
        for (id, generation) in images {
            let Some(image) = catalog.images.get(id) else { continue };
            if image.unsynced.is_some() && image.generation == *generation {
                let image = Image { unsynced: None, ..Image::clone(image) };
                self.records.put(id.hex(), &image)?;
                catalog.images.insert(id.clone(), Arc::new(image));
            }
        }
        let catalog = Arc::new(catalog);
        self.catalog.store(catalog.clone());
        let is_due = |taker: &ImageId| {
            catalog.images.get(taker).is_none_or(|taker| taker.unsynced.is_none())
        };
        self.settle_losses(&catalog, is_due)
    }

    /// Takes the names from the records of those that they were taken from, if it `is_due` for the taker. For callers that hold
    /// the lock of changes.
    pub(super) fn settle_losses(
        &self,
        catalog: &Catalog,
        is_due: impl Fn(&ImageId) -> bool,
    ) -> Result<()> {
        let all = self.writing_out.losses().clone();
        let (due, later): (HashSet<_>, HashSet<_>) =
            all.into_iter().partition(|(_, taker)| is_due(taker));
        let waits = |loser: &ImageId| later.iter().any(|(other, _)| other == loser);
        for loss in &due {
            // What one record says goes at once.
            if waits(&loss.0) {
                continue;
            }
            if let Some(loser) = catalog.images.get(&loss.0) {
                self.put(loser)?;
            }
            self.writing_out.losses().remove(loss);
        }
        Ok(())
    }

    /// Records an image. Waits for the disk unless more of the image is not there.
    pub(super) fn put(&self, image: &Image) -> Result<()> {
        match image.unsynced {
            Some(_) => self.records.put_unsynced(image.id.hex(), image),
            None => self.records.put(image.id.hex(), image),
        }
    }

    pub(super) fn is_unsynced(&self, layers: &[LayerKey]) -> bool {
        let catalog = self.catalog();
        let mut known = layers.iter().filter_map(|key| catalog.layers.get(key));
        known.any(|layer| layer.unsynced.is_some())
    }
}

impl Catalog {
    /// Whether the layer is this very one, and not one of the same content that was made after it went.
    fn has(&self, key: &LayerKey, layer: &Arc<Layer>) -> bool {
        self.layers.get(key).is_some_and(|known| Arc::ptr_eq(known, layer))
    }
}

fn synced(layer: &Layer) -> Layer {
    Layer { unsynced: None, ..layer.clone() }
}
