//! Layers that are made in place: the upper directory of an overlay is the layer.
//!
//! ```text
//!   Stack ──▶ Site: `fs` and `work`, mounted over the stack; somebody changes files there
//!               │ finish: the mount goes, the layer is hashed on a thread of its own
//!               ▼
//!   StackedLayer: lies under the next site at once; when it is hashed it moves to `layers`
//! ```
//!
//! Nothing is archived and nothing copied. A layer's digest is that of the archive that would be made
//! of it (`pack`), so that it stays the same when it is pushed or saved. Until the move nobody but
//! the build knows it; a daemon that is killed leaves a directory in `building`, which its successor
//! removes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::caches::{CacheLease, CacheMount};
use super::clamp::clamp;
use super::commit::NewLayer;
use super::layers::{FILES, LayerDirectories, Lease, Workplace, make_directory};
use super::record::{Image, ImageId, Layer, LayerKey};
use super::{Held, ImageStore, Shared};
use crate::error::{Context, Error, Kind, Result};
use crate::image::config::ConfigDocument;
use crate::image::digest::Digest;
use crate::image::local::LocalLayer;
use crate::image::manifest::{self, LayerBlob};
use crate::image::mapped::{Mapped, of_descriptor};
use crate::image::snapshot::{self, Life, Owners, Writable};
use crate::image::{chain_id, compression, pack};

/// The directory of a workplace that becomes the layer's.
const LAYER: &str = "layer";
const BLOCK: u64 = 512;

/// A layer of the store, kept from removal as long as this lives.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) key: LayerKey,
    pub(super) diff_id: Digest,
    pub(super) size: u64,
    describes_root: bool,
    _lease: Arc<Lease>,
}

impl Stored {
    pub(super) fn new(key: LayerKey, layer: &Layer, lease: Lease) -> Self {
        Self {
            key,
            diff_id: layer.diff_id.clone(),
            size: layer.size,
            describes_root: layer.describes_root,
            _lease: Arc::new(lease),
        }
    }
}

/// What became of a layer, for each that asks.
type Settling = SharedFuture<BoxFuture<'static, Result<Stored, (Kind, String)>>>;

/// One layer of a stack; clones are of the same one.
#[derive(Clone)]
pub(crate) struct StackedLayer(Source);

#[derive(Clone)]
enum Source {
    Stored {
        stored: Stored,
        files: PathBuf,
    },
    Made {
        files: Arc<OwnedFd>,
        /// The same through a mount that maps owners, as soon as that was asked for.
        mapped: Arc<OnceLock<OwnedFd>>,
        settling: Settling,
        _workplace: Arc<Workplace>,
    },
}

impl StackedLayer {
    pub(super) fn stored(store: &ImageStore, stored: Stored) -> Self {
        let files = store.shared.layers.files_of(&stored.key);
        Self(Source::Stored { stored, files })
    }

    /// Where its files are now. A layer that was made may move while this is used, so it is named by
    /// its descriptor.
    fn files(&self) -> PathBuf {
        match &self.0 {
            Source::Stored { files, .. } => files.clone(),
            Source::Made { files, .. } => of_descriptor(files),
        }
    }

    fn files_through(&self, mapped: &Mapped) -> Result<PathBuf> {
        match &self.0 {
            Source::Stored { files, .. } => mapped.path(files),
            Source::Made { files, mapped: own, .. } => {
                if own.get().is_none() {
                    let opened = mapped.open_elsewhere(&of_descriptor(files))?;
                    // Of two that ask at once one is the first.
                    let _ = own.set(opened);
                }
                let opened = own.get().context("a layer that was opened just now")?;
                Ok(of_descriptor(opened))
            }
        }
    }

    fn describes_root(&self) -> bool {
        match &self.0 {
            Source::Stored { stored, .. } => stored.describes_root,
            Source::Made { .. } => true,
        }
    }

    /// Waits until the layer is in the store.
    pub(super) async fn settled(&self) -> Result<Stored> {
        match &self.0 {
            Source::Stored { stored, .. } => Ok(stored.clone()),
            Source::Made { settling, .. } => {
                settling.clone().await.map_err(|(kind, chain)| Error::new(kind, chain))
            }
        }
    }
}

/// Layers that lie on each other, the base first.
#[derive(Clone, Default)]
pub(crate) struct Stack(Vec<StackedLayer>);

impl Stack {
    #[must_use]
    pub(crate) fn with(&self, layer: StackedLayer) -> Self {
        let mut layers = self.0.clone();
        layers.push(layer);
        Self(layers)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn layers(&self) -> &[StackedLayer] {
        &self.0
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(StackedLayer::files).collect()
    }

    fn paths_through(&self, mapped: &Mapped) -> Result<Vec<PathBuf>> {
        self.0.iter().map(|layer| layer.files_through(mapped)).collect()
    }
}

/// Where one layer is being made: a stack with an empty layer on top, mounted for writing and
/// attached nowhere. Dropped before its end, nothing of it is left.
pub(crate) struct Site {
    store: ImageStore,
    workplace: Workplace,
    mount: OwnedFd,
    /// The upper directory through the mount that maps owners, if it is mounted so.
    mapped: Option<OwnedFd>,
    latest: Option<i64>,
}

impl Site {
    pub(crate) fn mount(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// What was changed is a layer now. Whoever else has the mount must have closed it.
    pub(crate) fn finish(self) -> Result<StackedLayer> {
        let Self { store, workplace, mount, mapped, latest } = self;
        drop(mount);
        let layer = workplace.path().join(LAYER);
        let files = Arc::new(pack::open(&layer.join(FILES))?);
        if let Some(latest) = latest {
            clamp(&files, latest)?;
        }
        let workplace = Arc::new(workplace);
        let (shared, of_layer, held) = (store.shared.clone(), files.clone(), workplace.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            let settled = shared.settle(&layer, &of_layer);
            drop(held);
            settled.map_err(|error| (error.kind(), error.chain()))
        });
        let settling = hashing.map(|ended| {
            ended.unwrap_or_else(|error| Err((Kind::Internal, format!("hash a layer: {error}"))))
        });
        let settling = settling.boxed().shared();
        let mapped = Arc::new(mapped.map_or_else(OnceLock::new, OnceLock::from));
        Ok(StackedLayer(Source::Made { files, mapped, settling, _workplace: workplace }))
    }
}

impl ImageStore {
    /// A directory for a part of a build, on the file system that the layers are on.
    pub(crate) fn workplace(&self) -> Result<Workplace> {
        self.shared.layers.workplace()
    }

    /// A directory that stays from build to build, for a command; whether it is there or not.
    pub(crate) fn lease_cache(&self, name: &Digest, description: &str) -> CacheLease {
        self.shared.caches.lease(name, description)
    }

    /// Every one, by its name, and whether a command has it.
    pub(crate) fn caches(&self) -> Vec<(String, CacheMount, bool)> {
        self.shared.caches.all()
    }

    /// Learns the sizes of those that changed; with `in_use` as they are now of those that commands have. Blocks.
    pub(crate) fn measure_caches(&self, in_use: bool) {
        self.shared.caches.measure(in_use);
    }

    /// Removes what builds of a killed daemon left; nothing of them may run any more.
    pub(crate) fn drop_unfinished_builds(&self) -> Result<()> {
        self.shared.layers.drop_buildings()
    }

    /// The layers of an image, kept from removal as long as the stack lives.
    ///
    /// # Errors
    /// `NotFound` if the image is being removed.
    pub(crate) fn stack_of(&self, image: &Image) -> Result<Stack> {
        let _changes = self.shared.lock_changes();
        let layers = image.layers.iter().map(|key| {
            let stored = self.shared.stored(key);
            let gone = || Error::not_found(format!("No such image: {}", image.id));
            stored.map(|stored| StackedLayer::stored(self, stored)).ok_or_else(gone)
        });
        layers.collect::<Result<_>>().map(Stack)
    }

    /// The store as the users of builds see it, once somebody has asked for it.
    pub(crate) fn mapped(&self) -> Option<Arc<Mapped>> {
        self.shared.mapped.get().cloned()
    }

    /// The same, made for these users if it was not there. They stay the same for the daemon's life.
    ///
    /// # Errors
    /// `Unsupported` if the file system cannot map owners.
    pub(crate) fn map_for(&self, owners: Owners<'_>) -> Result<Arc<Mapped>> {
        if let Some(mapped) = self.mapped() {
            return Ok(mapped);
        }
        let mapped = Arc::new(Mapped::new(&self.shared.root, owners)?);
        Ok(self.shared.mapped.get_or_init(|| mapped).clone())
    }

    /// Mounts a stack read-only, its files for the users of `mapped` if it is given.
    pub(crate) fn mount_stack(&self, stack: &Stack, mapped: Option<&Mapped>) -> Result<OwnedFd> {
        self.mount_over(stack, None, mapped).context("mount layers")
    }

    fn mount_over(
        &self,
        stack: &Stack,
        writable: Option<Writable<'_>>,
        mapped: Option<&Mapped>,
    ) -> Result<OwnedFd> {
        let empty = self.shared.layers.empty();
        match mapped {
            None => snapshot::mount(&stack.paths(), empty, writable, None),
            Some(mapped) => mapped.mount(&stack.paths_through(mapped)?, empty, writable),
        }
    }

    /// Mounts a directory that is no layer's with a place for changes on top, which go with the
    /// workplace.
    pub(crate) fn mount_changeable(
        &self,
        below: &Path,
        workplace: &Workplace,
        mapped: Option<&Mapped>,
    ) -> Result<OwnedFd> {
        let (upper, work) = (workplace.make("upper", 0o755)?, workplace.make("work", 0o700)?);
        snapshot::copy_root(below, &upper, None)?;
        let writable = Some(Writable { upper: &upper, work: &work, life: Life::Short });
        let empty = self.shared.layers.empty();
        match mapped {
            None => snapshot::mount(&[below.to_owned()], empty, writable, None),
            Some(mapped) => mapped.mount(&[mapped.path(below)?], empty, writable),
        }
    }

    /// Begins a layer on top of a stack, in which no file will have a time after `latest`, seconds
    /// since the epoch. With `mapped` its files are for those users, while the layer has the owners of an
    /// image; nobody else can make a file in it.
    pub(crate) fn begin_site(
        &self,
        stack: &Stack,
        latest: Option<i64>,
        mapped: Option<&Mapped>,
    ) -> Result<Site> {
        let workplace = self.workplace()?;
        let layer = workplace.make(LAYER, 0o700)?;
        let upper = layer.join(FILES);
        make_directory(&upper, 0o755)?;
        let work = workplace.make("work", 0o700)?;
        if let Some(describing) = stack.0.iter().rev().find(|layer| layer.describes_root()) {
            snapshot::copy_root(&describing.files(), &upper, None)?;
        }
        let writable = Some(Writable { upper: &upper, work: &work, life: Life::Layer });
        let mount = self.mount_over(stack, writable, mapped);
        let mount = mount.context("mount a layer in the making")?;
        let mapped = mapped.map(|mapped| mapped.open(&upper)).transpose()?;
        Ok(Site { store: self.clone(), workplace, mount, mapped, latest })
    }

    /// The layers of a stack as those of an image, once each is in the store.
    pub(crate) async fn layers_of_stack(&self, stack: &Stack) -> Result<Vec<LocalLayer>> {
        let mut chain: Option<Digest> = None;
        let mut layers = Vec::with_capacity(stack.0.len());
        for layer in &stack.0 {
            let Stored { diff_id, .. } = layer.settled().await?;
            let here = chain_id(chain.as_ref(), &diff_id);
            let found = self.find_layer(&diff_id, &here);
            layers.push(found.with_context(|| format!("layer {diff_id} is gone"))?);
            chain = Some(here);
        }
        Ok(layers)
    }

    /// The chain of a layer that lies on a stack.
    pub(in crate::image) async fn chain_on(&self, base: &Stack, layer: &Digest) -> Result<Digest> {
        let mut chain: Option<Digest> = None;
        for below in &base.0 {
            chain = Some(chain_id(chain.as_ref(), &below.settled().await?.diff_id));
        }
        Ok(chain_id(chain.as_ref(), layer))
    }

    /// Takes a layer that came from elsewhere into the store, on top of a stack.
    pub(in crate::image) async fn settle_on(
        &self,
        base: &Stack,
        chain: &Digest,
        layer: NewLayer,
    ) -> Result<StackedLayer> {
        let (store, base, chain) = (self.clone(), base.clone(), chain.clone());
        let settling = move || store.shared.settle_new(&base.paths(), &chain, &layer);
        Ok(StackedLayer::stored(self, super::blocking(settling).await?))
    }

    /// Which layer it is, once it is in the store.
    pub(in crate::image) async fn key_of(&self, layer: &StackedLayer) -> Result<LayerKey> {
        Ok(layer.settled().await?.key)
    }

    /// The DiffIDs of layers, once each is in the store.
    pub(crate) async fn diff_ids(&self, layers: &[StackedLayer]) -> Result<Vec<Digest>> {
        let mut diff_ids = Vec::new();
        for layer in layers {
            diff_ids.push(layer.settled().await?.diff_id);
        }
        Ok(diff_ids)
    }

    /// An image of a configuration document and the layers of a stack, to be sent somewhere. The
    /// store has no record of it, so there is none to be removed.
    ///
    /// # Errors
    /// `InvalidArgument` if the document is none.
    pub(crate) async fn hold_stack(&self, document: Vec<u8>, stack: &Stack) -> Result<Held> {
        let config = ConfigDocument::parse(&document)?.config;
        let mut size = document.len() as u64;
        let (mut layers, mut described, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        for layer in &stack.0 {
            let stored = layer.settled().await?;
            size += stored.size;
            leases.push(self.shared.layers.leases.take(stored.key.clone()));
            layers.push(stored.key.clone());
            described.push(LayerBlob::plain(stored.diff_id.clone(), 0));
        }
        let image = Image {
            id: ImageId::new(Digest::of(&document)),
            tags: Vec::new(),
            digests: Vec::new(),
            manifest: Digest::of(&manifest::write(&document, &described)?),
            layers,
            size,
            config,
            annotations: Default::default(),
            tagged_at: None,
            generation: 0,
            unsynced: None,
            pinned: false,
        };
        Ok(Held { image: Arc::new(image), document: Some(document), _leases: leases })
    }
}

impl Shared {
    /// The same for a thread that may block.
    fn settle_new(&self, base: &[PathBuf], chain: &Digest, layer: &NewLayer) -> Result<Stored> {
        let key = match layer {
            NewLayer::Present(_, lease) => lease.key.clone(),
            NewLayer::Unpacked(staged) => {
                let key = staged.finish(&self.layers, base, chain)?;
                // Whoever finds it takes it as it is, for an image too.
                self.layers.sync_all()?;
                key
            }
        };
        let _changes = self.lock_changes();
        if let NewLayer::Unpacked(staged) = layer
            && !self.catalog().layers.contains_key(&key)
        {
            staged.settle(&self.layers)?;
            self.layers.sync_names()?;
            let mut catalog = super::Catalog::clone(&self.catalog());
            catalog.layers.insert(key.clone(), Arc::new(staged.layer()));
            self.catalog.store(Arc::new(catalog));
        }
        self.stored(&key).with_context(|| format!("layer {key:?} is gone"))
    }

    /// Hashes the files of a finished layer and moves it to `layers`. If one of the same content is
    /// there already, that one is taken.
    fn settle(&self, directory: &Path, files: &OwnedFd) -> Result<Stored> {
        let (summed, measured) = thread::scope(|scope| {
            let measuring = scope.spawn(|| {
                let (mut size, mut inodes) = (0, 0);
                measure(files.as_fd(), &mut size, &mut inodes).map(|()| (size, inodes))
            });
            (compression::measure(files), measuring.join())
        });
        let (diff_id, _) = summed.context("hash a layer")?;
        let measured = measured.map_err(|_| Error::internal("a thread that measures is gone"))?;
        let (size, inodes) = measured.context("measure a layer")?;
        let key = LayerKey::of(&diff_id);
        let layer = Layer {
            diff_id,
            size,
            inodes,
            is_bound_to_base: false,
            describes_root: true,
            unsynced: Some(self.boot.clone()),
        };
        LayerDirectories::describe(directory, &layer)?;
        let _changes = self.lock_changes();
        let mut catalog = super::Catalog::clone(&self.catalog());
        if let Some(known) = catalog.layers.get(&key) {
            return Ok(Stored::new(key.clone(), known, self.layers.leases.take(key)));
        }
        self.layers.adopt(directory, &key)?;
        let stored = Stored::new(key.clone(), &layer, self.layers.leases.take(key.clone()));
        catalog.layers.insert(key, Arc::new(layer));
        self.catalog.store(Arc::new(catalog));
        Ok(stored)
    }
}

/// Bytes in whole blocks, and inodes.
fn measure(directory: BorrowedFd<'_>, size: &mut u64, inodes: &mut u64) -> Result<()> {
    let stat = rustix::fs::fstat(directory).context("stat")?;
    *size += u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK;
    *inodes += 1;
    for entry in Dir::read_from(directory).context("list")? {
        let entry = entry.context("list")?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let stat =
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).context("stat")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below =
                rustix::fs::openat(directory, name, flags, Mode::empty()).context("open")?;
            measure(below.as_fd(), size, inodes)?;
        } else {
            // A file of several names counts in parts, so that all of them make one.
            let names = stat.st_nlink.max(1);
            *size += u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK / names;
            *inodes += 1;
        }
    }
    Ok(())
}
