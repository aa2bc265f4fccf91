//! The images on disk, and the handle the engine holds.
//!
//! ```text
//!   ROOT/images/
//!     lock                        one daemon per store
//!     images/<id hex>.json        one record per image: what exists is what stands here
//!     layers/<key>/{fs,meta.json} unpacked layers, shared between images
//!     blobs/sha256/<hex>          manifests and configurations
//!     ingest/<random>/            work in progress and what is being removed; emptied at start
//!     building/<random>/          parts of builds in progress; emptied when their containers are gone
//!     kept/<key hex>.json         layers that builds left to be found again
//!     sources/<key>.json          where registries have a layer
//!     caches/<name hex>/          what `RUN --mount=type=cache` keeps between builds
//!     cache-mounts/<name hex>.json  what is known of it
//!     empty/                      a directory to stand below a single layer
//! ```
//!
//! An image appears in this order: layers unpacked in `ingest`, file system synced, layer
//! directories renamed, their parent synced, documents, then the record. It goes in the other
//! order. So a kill at any moment leaves it whole or absent. What builds make is recorded without
//! the syncs, marked with the boot, and synced later (`unsynced`). Readers take the published
//! catalog and never wait; changes are made one at a time under `changes`.

mod building;
mod caches;
mod catalog;
mod clamp;
mod commit;
mod kept;
mod layers;
mod names;
mod record;
mod sources;
#[cfg(test)]
mod tests;
mod unsynced;
#[cfg(test)]
mod unsynced_tests;

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use rustix::fs::{Mode, OFlags};

pub(crate) use self::building::{Site, Stack, StackedLayer};
pub(crate) use self::caches::CacheLease;
use self::caches::CacheMounts;
use self::catalog::Catalog;
pub(in crate::image) use self::commit::{NewImage, NewLayer};
use self::kept::KeptLayers;
pub(crate) use self::kept::{Keep, Kept};
use self::layers::LayerDirectories;
pub(crate) use self::layers::Workplace;
pub(in crate::image) use self::layers::{Lease, Staged};
pub(crate) use self::record::{Image, ImageId, LayerKey, chain_id};
pub(in crate::image) use self::sources::LayerSource;
use self::sources::LayerSources;
use self::unsynced::WritingOut;
use super::digest::Digest;
use super::mapped::Mapped;
use super::platform::Platform;
use super::progress::Progress;
use super::pull::{Credentials, Pull, Pulls};
use super::push::Pushes;
use super::reference::Reference;
use super::registry::{Registry, Settings as RegistrySettings};
use super::snapshot::{self, Owners, Writable};
use crate::error::{Context, Result};
use crate::store::atomic::{Directory, Durability};
use crate::store::boot::Boot;
use crate::store::lock::Lock;
use crate::store::table::Table;

/// How the store behaves; the defaults are those of a daemon without configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) registry: RegistrySettings,
    /// Layers of one image fetched at the same time.
    pub(crate) parallel_layers: usize,
    /// References whose images are reported as pinned, and stay.
    pub(crate) pinned: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { registry: RegistrySettings::default(), parallel_layers: 3, pinned: Vec::new() }
    }
}

/// What the store takes up, for `ImageFsInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// A directory on the file system that holds the images.
    pub(crate) mount_point: PathBuf,
}

/// An image whose layers stay, whatever becomes of its record.
pub(crate) struct Held {
    pub(crate) image: Arc<Image>,
    /// The configuration document of one that the store has no record of.
    pub(in crate::image) document: Option<Vec<u8>>,
    _leases: Vec<Lease>,
}

/// The handle; clones share one store.
#[derive(Clone)]
pub(crate) struct ImageStore {
    pub(in crate::image) shared: Arc<Shared>,
}

pub(in crate::image) struct Shared {
    pub(in crate::image) root: PathBuf,
    pub(in crate::image) settings: Settings,
    pub(in crate::image) registry: Arc<Registry>,
    pub(in crate::image) pulls: Pulls,
    pub(in crate::image) pushes: Pushes,
    pub(in crate::image) layers: LayerDirectories,
    catalog: ArcSwap<Catalog>,
    records: Table<Image>,
    kept: KeptLayers,
    sources: LayerSources,
    caches: CacheMounts,
    blobs: Directory,
    boot: Boot,
    writing_out: WritingOut,
    changes: Mutex<()>,
    /// For the users of builds, who are the same for all of them.
    mapped: OnceLock<Arc<Mapped>>,
    _lock: Lock,
}

impl ImageStore {
    /// Opens the store in `root` (`ROOT/images`), making it if it is missing. Work that a killed
    /// daemon left is dropped; call [`Self::sweep`] when it is known which layers containers use.
    pub(crate) fn open(root: &Path, settings: Settings) -> Result<Self> {
        let store = Self::open_in(Boot::now()?, root, settings)?;
        store.write_out_soon();
        Ok(store)
    }

    /// As in this boot of the machine.
    fn open_in(boot: Boot, root: &Path, settings: Settings) -> Result<Self> {
        let context = || format!("open the image store in {}", root.display());
        crate::store::private_dir(root)?;
        let lock = Lock::acquire(&root.join("lock"))?;
        let layers = LayerDirectories::open(root).with_context(context)?;
        let blobs_path = root.join("blobs/sha256");
        crate::store::private_dir(&blobs_path)?;
        let blobs = Directory::open(&blobs_path, Durability::Synced)?;
        let records = Table::open(&root.join("images"), Durability::Synced)?;
        let kept = KeptLayers::open(&root.join("kept"))?;
        let sources = LayerSources::open(&root.join("sources"))?;
        let caches = CacheMounts::open(root)?;
        let mut shared = Shared {
            root: root.to_owned(),
            registry: Arc::new(Registry::new(settings.registry.clone())),
            pulls: Pulls::default(),
            pushes: Pushes::default(),
            settings,
            layers,
            catalog: ArcSwap::default(),
            records,
            kept,
            sources,
            caches,
            blobs,
            boot,
            writing_out: WritingOut::default(),
            changes: Mutex::new(()),
            mapped: OnceLock::new(),
            _lock: lock,
        };
        let catalog = shared.load().with_context(context)?;
        shared.kept.load(&catalog.layers).with_context(context)?;
        shared.sources.load(&catalog.layers).with_context(context)?;
        shared.catalog = ArcSwap::from_pointee(catalog);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Every image, ordered by id.
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<_> = self.shared.catalog().images.values().cloned().collect();
        images.sort_by(|a, b| a.id.cmp(&b.id));
        images
    }

    /// Finds an image by tag, digest, whole id, or unambiguous prefix of an id.
    pub(crate) fn resolve(&self, text: &str) -> Option<Arc<Image>> {
        self.shared.catalog().resolve(text).cloned()
    }

    /// Finds an image as [`Self::resolve`] does, and keeps its layers from removal as long as the
    /// answer lives.
    pub(crate) fn hold(&self, text: &str) -> Option<Held> {
        let image = self.resolve(text)?;
        let leases = &self.shared.layers.leases;
        let held = image.layers.iter().map(|key| leases.take(key.clone())).collect();
        // Whoever removes takes the image out of the catalog first, and asks for leases then.
        let now = self.shared.catalog().images.get(&image.id).cloned()?;
        (now.layers == image.layers).then_some(Held { image: now, document: None, _leases: held })
    }

    /// Fetches an image and gives it the name it was asked for. Concurrent pulls of the same name
    /// join; one that nobody waits for any more goes on in the background.
    pub(crate) async fn pull(&self, reference: &str, credentials: Credentials) -> Result<ImageId> {
        super::pull::pull(self, reference, credentials).await
    }

    /// As [`Self::pull`], for those who want to see how far it is.
    pub(crate) fn begin_pull(&self, reference: Reference, credentials: Credentials) -> Pull {
        super::pull::begin(self, (reference, credentials, None))
    }

    /// The same for another machine's platform; the image gets no tag.
    pub(crate) fn begin_pull_for(
        &self,
        platform: Platform,
        reference: Reference,
        credentials: Credentials,
    ) -> Pull {
        super::pull::begin(self, (reference, credentials, Some(platform)))
    }

    /// The image's configuration document, as it came.
    pub(crate) fn configuration(&self, image: &Image) -> Result<Vec<u8>> {
        let read = self.shared.blobs.read(image.id.hex());
        read.with_context(|| format!("read the configuration of image {}", image.id))
    }

    /// The image's manifest, as it came.
    pub(crate) fn manifest(&self, image: &Image) -> Result<Vec<u8>> {
        let read = self.shared.blobs.read(image.manifest.hex());
        read.with_context(|| format!("read the manifest of image {}", image.id))
    }

    /// DiffID and bytes on disk of each layer, the base first.
    pub(crate) fn layer_sizes(&self, image: &Image) -> Vec<(Digest, u64)> {
        let catalog = self.shared.catalog();
        let layers = image.layers.iter().filter_map(|key| catalog.layers.get(key));
        layers.map(|layer| (layer.diff_id.clone(), layer.size)).collect()
    }

    /// Gives an image one more name; another image of that name loses it.
    pub(crate) async fn tag(&self, id: &ImageId, name: Reference) -> Result<()> {
        let (store, id) = (self.clone(), id.clone());
        blocking(move || store.shared.tag(&id, &name)).await
    }

    /// Takes a name from the image that has it, and leaves the image.
    pub(crate) async fn untag(&self, name: Reference) -> Result<()> {
        let store = self.clone();
        blocking(move || store.shared.untag(&name)).await
    }

    /// Removes the image that `text` resolves to with all its names, and the layers that neither
    /// another image nor `in_use` (the layers of existing containers, asked for when nobody else changes the store) needs.
    /// The space is free when it returns. Succeeds if there is no such image.
    ///
    /// # Errors
    /// `WrongState` for a pinned image.
    pub(crate) async fn remove(
        &self,
        text: &str,
        in_use: impl FnOnce() -> HashSet<LayerKey> + Send + 'static,
    ) -> Result<()> {
        let (store, text) = (self.clone(), text.to_owned());
        blocking(move || store.shared.remove(&text, in_use)).await
    }

    /// Drops the layers that neither an image nor `in_use` needs: after a start, and when the last
    /// container of a removed image is gone.
    pub(crate) async fn sweep(
        &self,
        in_use: impl FnOnce() -> HashSet<LayerKey> + Send + 'static,
    ) -> Result<()> {
        let store = self.clone();
        blocking(move || store.shared.sweep(in_use)).await
    }

    /// What images take up on disk.
    pub(crate) fn usage(&self) -> Usage {
        let catalog = self.shared.catalog();
        let layers = catalog.layers.values();
        let (bytes, inodes) = layers
            .fold((0, 0), |(bytes, inodes), layer| (bytes + layer.size, inodes + layer.inodes));
        Usage { bytes, inodes, mount_point: self.shared.root.clone() }
    }

    /// The pulls in progress and how far each is.
    pub(crate) fn pulling(&self) -> Vec<(Reference, Arc<Progress>)> {
        self.shared.pulls.progress()
    }

    /// The image's root file system as a detached mount: with `writable` for a container, without
    /// it read-only for an image volume. With `owners` its files belong to users of theirs. Blocks
    /// for the time of a few system calls.
    pub(crate) fn mount(
        &self,
        image: &Image,
        writable: Option<Writable<'_>>,
        owners: Option<Owners<'_>>,
    ) -> Result<OwnedFd> {
        let context = || format!("mount image {}", image.id);
        let directories = &self.shared.layers;
        // One that was mounted before has what its container made of it.
        if let Some(writable) = writable.filter(Writable::is_new) {
            // The root that shows is the upper directory itself.
            let catalog = self.shared.catalog();
            let describing = image
                .layers
                .iter()
                .rev()
                .find(|&key| catalog.layers.get(key).is_some_and(|layer| layer.describes_root));
            match (describing, owners) {
                (Some(key), owners) => {
                    snapshot::copy_root(&directories.files_of(key), writable.upper, owners)
                }
                (None, Some(owners)) => snapshot::give_root(writable.upper, owners),
                (None, None) => Ok(()),
            }
            .with_context(context)?;
        }
        let layers: Vec<_> = image.layers.iter().map(|key| directories.files_of(key)).collect();
        let empty = self.shared.root.join("empty");
        snapshot::mount(&layers, &empty, writable, owners).with_context(context)
    }

    /// Layers with a container's changes on top, read-only and detached: what the container has, as
    /// it is now. `upper` may be mounted for writing meanwhile.
    pub(crate) fn mount_view(&self, layers: &[LayerKey], upper: Option<&Path>) -> Result<OwnedFd> {
        let directories = &self.shared.layers;
        let mut layers: Vec<_> = layers.iter().map(|key| directories.files_of(key)).collect();
        layers.extend(upper.map(Path::to_owned));
        let empty = self.shared.root.join("empty");
        snapshot::mount(&layers, &empty, None, None).context("mount a container's files")
    }

    /// The directory of a layer's files, for who reads them.
    pub(in crate::image) fn open_layer(&self, key: &LayerKey) -> Result<OwnedFd> {
        super::pack::open(&self.shared.layers.files_of(key))
    }

    /// A file on the disk of the layers that goes when it is closed.
    pub(in crate::image) fn unnamed_file(&self) -> Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.shared.root, flags, Mode::from_raw_mode(0o600));
        Ok(File::from(file.context("make a file without a name")?))
    }

    /// True when [`Self::mount`] can give the files to other owners.
    pub(crate) fn can_map_owners(&self) -> bool {
        // Any two directories of the file system that the layers are on.
        let root = &self.shared.root;
        snapshot::can_map([&root.join("empty"), &root.join("images")])
    }
}

impl Shared {
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// A directory that can serve this layer, kept from removal as long as the lease lives.
    pub(in crate::image) fn lease_layer(&self, diff_id: &Digest, chain: &Digest) -> Option<Lease> {
        // Under the lock: between the look and the lease nobody may remove it.
        let _changes = self.lock_changes();
        let key = self.catalog().layer(diff_id, chain)?;
        Some(self.layers.leases.take(key))
    }

    fn lock_changes(&self) -> MutexGuard<'_, ()> {
        // Nothing is left half-changed in memory by a panic: the catalog is swapped whole.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs file system work on a thread that may block, to its end even if the caller goes away.
pub(in crate::image) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("image store task")?
}
