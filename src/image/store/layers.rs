//! Layer directories: made in `ingest`, moved to `layers` when whole, moved back to be removed.

use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::record::{Layer, LayerKey};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::snapshot;
use crate::image::unpack::{Unpacked, fill_borrowed, fill_implied};
use crate::store::atomic::{Directory, Durability};
use crate::store::boot::Boot;
use crate::store::remove::remove_tree;

pub(super) const FILES: &str = "fs";
const META: &str = "meta.json";

pub(in crate::image) struct LayerDirectories {
    layers: PathBuf,
    ingest: PathBuf,
    building: PathBuf,
    empty: PathBuf,
    disk: Disk,
    pub(in crate::image) leases: Leases,
}

impl LayerDirectories {
    /// Also begins to remove what a killed daemon left in `ingest`.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let [layers, ingest, building, empty] =
            ["layers", "ingest", "building", "empty"].map(|name| root.join(name));
        for path in [&layers, &ingest, &building, &empty] {
            crate::store::private_dir(path)?;
        }
        // The empty directory shows through as the root of an image without layers.
        let anyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&empty, anyone).context("open the empty layer")?;
        drop_all_in(&ingest)?;
        let disk = Disk::of(&layers)?;
        Ok(Self { layers, ingest, building, empty, disk, leases: Leases::default() })
    }

    /// Begins to remove what builds of a killed daemon left. Nothing of them may run any more.
    pub(super) fn drop_buildings(&self) -> Result<()> {
        drop_all_in(&self.building)
    }

    /// A fresh directory for a part of a build.
    pub(super) fn workplace(&self) -> Result<Workplace> {
        let path = self.building.join(crate::id::random_hex()?);
        make_directory(&path, 0o700)?;
        Ok(Workplace { path })
    }

    /// Describes a directory that has its files in [`FILES`], as one of `layers` is described.
    pub(super) fn describe(directory: &Path, layer: &Layer) -> Result<()> {
        let meta = serde_json::to_vec(layer).context("encode meta.json")?;
        Directory::open(directory, Durability::UntilReboot)?.replace(META, &meta)
    }

    /// Moves a described directory to its name.
    pub(super) fn adopt(&self, directory: &Path, key: &LayerKey) -> Result<()> {
        std::fs::rename(directory, self.layers.join(key.as_str()))
            .with_context(|| format!("move layer {}", key.as_str()))
    }

    pub(super) fn empty(&self) -> &Path {
        &self.empty
    }

    /// What stands in `layers`. A directory whose description cannot be read is removed, as is one that another boot than
    /// this did not write out: it counts as absent.
    pub(super) fn load(&self, boot: &Boot) -> Result<HashMap<LayerKey, Arc<Layer>>> {
        let mut found = HashMap::new();
        for entry in std::fs::read_dir(&self.layers).context("list layers")? {
            let path = entry.context("list layers")?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match LayerKey::try_from(name).and_then(|key| Ok((key, read_meta(&path, boot)?))) {
                Ok((key, layer)) => {
                    found.insert(key, Arc::new(layer));
                }
                Err(error) => {
                    tracing::warn!(
                        path = %path.display(), error = error.chain(),
                        "a damaged layer is removed"
                    );
                    let out = self.ingest.join(crate::id::random_hex()?);
                    std::fs::rename(&path, &out).context("take out a damaged layer")?;
                    remove_in_background(vec![out]);
                }
            }
        }
        Ok(found)
    }

    pub(super) fn directory_of(&self, key: &LayerKey) -> PathBuf {
        self.layers.join(key.as_str())
    }

    /// The root directory of a layer's files.
    pub(super) fn files_of(&self, key: &LayerKey) -> PathBuf {
        self.directory_of(key).join(FILES)
    }

    /// A fresh directory to unpack into. It is removed when dropped before it is a layer.
    pub(in crate::image) fn stage(&self) -> Result<Staging> {
        let path = self.ingest.join(crate::id::random_hex()?);
        make_directory(&path, 0o700)?;
        let staging = Staging::new(path);
        make_directory(&staging.files, 0o755)?;
        Ok(staging)
    }

    /// Takes a layer's directory out of use; the caller removes the returned path.
    pub(super) fn take_out(&self, key: &LayerKey) -> Result<PathBuf> {
        let out = self.ingest.join(crate::id::random_hex()?);
        std::fs::rename(self.layers.join(key.as_str()), &out)
            .with_context(|| format!("take out layer {}", key.as_str()))?;
        Ok(out)
    }

    /// Writes all data of the file system the layers are on to its disk.
    pub(super) fn sync_all(&self) -> Result<()> {
        self.disk.sync()
    }

    /// The same for who may outlive the store.
    pub(super) fn disk(&self) -> Disk {
        self.disk.clone()
    }

    /// Makes the names in `layers` durable.
    pub(super) fn sync_names(&self) -> Result<()> {
        let directory = File::open(&self.layers).context("open layers")?;
        directory.sync_all().context("sync layers")
    }
}

/// The file system that layers are on. Opened before anything is written: a failure to write it is told once to each who has it
/// open by then (syncfs(2)).
#[derive(Clone)]
pub(super) struct Disk(Arc<File>);

impl Disk {
    fn of(directory: &Path) -> Result<Self> {
        Ok(Self(Arc::new(File::open(directory).context("open layers")?)))
    }

    /// Waits until all that was written is there.
    pub(super) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.0).context("sync the image store")
    }
}

fn read_meta(layer: &Path, boot: &Boot) -> Result<Layer> {
    let bytes = Directory::open(layer, Durability::Synced)?.read(META).context("read meta.json")?;
    if !layer.join(FILES).is_dir() {
        return Err(Error::internal("the layer has no files directory"));
    }
    let layer: Layer = serde_json::from_slice(&bytes).context("read meta.json")?;
    match &layer.unsynced {
        Some(other) if other != boot => {
            Err(Error::internal("it was not on the disk when the machine went down"))
        }
        Some(_) | None => Ok(layer),
    }
}

pub(super) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().mode(mode).create(path);
    made.with_context(|| format!("make {}", path.display()))
}

fn drop_all_in(directory: &Path) -> Result<()> {
    let context = || format!("list {}", directory.display());
    let mut leftovers = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(context)? {
        leftovers.push(entry.with_context(context)?.path());
    }
    if !leftovers.is_empty() {
        tracing::info!(count = leftovers.len(), "dropping work of an earlier daemon");
        remove_in_background(leftovers);
    }
    Ok(())
}

/// A directory that is removed with what is in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Workplace {
    path: PathBuf,
}

impl Workplace {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, for root's eyes or for everybody's.
    pub(crate) fn make(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let path = self.path.join(name);
        make_directory(&path, mode)?;
        Ok(path)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        remove_in_background(vec![std::mem::take(&mut self.path)]);
    }
}

/// Removing a tree takes as long as its files are many; nobody waits for it here.
fn remove_in_background(paths: Vec<PathBuf>) {
    let remove = move || {
        for path in paths {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(error = error.chain(), "space could not be given back");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("cais-remove".to_owned()).spawn(remove) {
        // The next start removes them.
        tracing::warn!(%error, "cannot start a thread to remove old layers");
    }
}

/// A directory under `ingest` that nobody knows yet.
pub(in crate::image) struct Staging {
    path: PathBuf,
    files: PathBuf,
}

impl Staging {
    fn new(path: PathBuf) -> Self {
        Self { files: path.join(FILES), path }
    }
}

/// Where the layer's files go.
impl AsRef<Path> for Staging {
    fn as_ref(&self) -> &Path {
        &self.files
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After the move to `layers` there is nothing here any more.
        if self.path.exists() {
            remove_in_background(vec![self.path.clone()]);
        }
    }
}

/// An unpacked layer that waits for the image it belongs to. Pulls that run at the same time
/// share it; the first to commit moves it.
pub(in crate::image) struct Staged {
    staging: Arc<Staging>,
    unpacked: Unpacked,
    /// Of the files copied from the layers below.
    borrowed_size: AtomicU64,
    place: Mutex<Place>,
}

enum Place {
    Unpacked,
    /// Nothing but the move is left.
    Finished(LayerKey),
    Moved(LayerKey),
}

impl Staged {
    pub(in crate::image) fn new(staging: Arc<Staging>, unpacked: Unpacked) -> Self {
        Self {
            staging,
            unpacked,
            borrowed_size: AtomicU64::new(0),
            place: Mutex::new(Place::Unpacked),
        }
    }

    pub(in crate::image) fn diff_id(&self) -> &Digest {
        &self.unpacked.diff_id
    }

    /// Where its files are, before or after the move.
    pub(super) fn files(&self, directories: &LayerDirectories) -> PathBuf {
        match &*self.place.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::Unpacked | Place::Finished(_) => self.staging.files.clone(),
            Place::Moved(key) => directories.files_of(key),
        }
    }

    /// Completes the layer for its base (the top layer last) and describes it. After the next
    /// [`LayerDirectories::sync_all`] it can be moved.
    pub(super) fn finish(
        &self,
        directories: &LayerDirectories,
        base: &[PathBuf],
        chain: &Digest,
    ) -> Result<LayerKey> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let key =
            LayerKey::of(if self.is_bound_to_base() { chain } else { &self.unpacked.diff_id });
        match &*place {
            Place::Finished(done) | Place::Moved(done) if *done == key => return Ok(key),
            Place::Finished(_) | Place::Moved(_) => {
                return Err(Error::new(
                    Kind::Busy,
                    format!("layer {} is being unpacked on another base", self.diff_id()),
                ));
            }
            Place::Unpacked => {}
        }
        if self.is_bound_to_base() {
            self.complete(directories, base)
                .with_context(|| format!("complete layer {}", self.diff_id()))?;
        }
        LayerDirectories::describe(&self.staging.path, &self.layer())?;
        *place = Place::Finished(key.clone());
        Ok(key)
    }

    fn is_bound_to_base(&self) -> bool {
        !(self.unpacked.implied.is_empty() && self.unpacked.borrowed.is_empty())
    }

    /// Takes over what the archive left to the layers below.
    fn complete(&self, directories: &LayerDirectories, base: &[PathBuf]) -> Result<()> {
        let files = &self.staging.files;
        let mut implied = self.unpacked.implied.clone();
        if !self.unpacked.borrowed.is_empty() {
            let below = snapshot::mount(base, &directories.empty, None, None)?;
            let filled = fill_borrowed(files, &below, &self.unpacked.borrowed)?;
            self.borrowed_size.store(filled.size, Ordering::Relaxed);
            implied.extend(filled.implied);
            // In byte order a directory comes before what is in it.
            implied.sort();
        }
        fill_implied(files, base, &implied)
    }

    /// Moves the finished directory to its name.
    pub(super) fn settle(&self, directories: &LayerDirectories) -> Result<()> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Place::Finished(key) = &*place {
            let key = key.clone();
            directories.adopt(&self.staging.path, &key)?;
            *place = Place::Moved(key);
        }
        Ok(())
    }

    pub(super) fn layer(&self) -> Layer {
        Layer {
            diff_id: self.unpacked.diff_id.clone(),
            size: self.unpacked.size + self.borrowed_size.load(Ordering::Relaxed),
            inodes: self.unpacked.inodes,
            is_bound_to_base: self.is_bound_to_base(),
            describes_root: self.unpacked.describes_root,
            // It is described to be synced at once.
            unsynced: None,
        }
    }
}

/// Layers that pulls in progress count on.
#[derive(Clone, Default)]
pub(in crate::image) struct Leases(Arc<Mutex<HashMap<LayerKey, usize>>>);

impl Leases {
    pub(super) fn take(&self, key: LayerKey) -> Lease {
        *self.lock().entry(key.clone()).or_default() += 1;
        Lease { leases: self.clone(), key }
    }

    pub(super) fn holds(&self, key: &LayerKey) -> bool {
        self.lock().contains_key(key)
    }

    pub(super) fn all(&self) -> HashSet<LayerKey> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LayerKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one layer from being removed.
pub(in crate::image) struct Lease {
    leases: Leases,
    pub(super) key: LayerKey,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.leases.lock();
        if let Some(count) = leases.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                leases.remove(&self.key);
            }
        }
    }
}
