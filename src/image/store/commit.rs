//! The changes of the store: an image appears, loses a name, goes. See the order in the
//! directory's description.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::Shared;
use super::catalog::Catalog;
use super::layers::{Lease, Staged};
use super::names;
use super::record::{Image, ImageId, LayerKey, chain_id};
use crate::error::{Error, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::store::remove::remove_tree;

/// Everything of an image that is not in the store yet.
pub(in crate::image) struct NewImage {
    /// `registry/repository:tag`, which it takes from whoever has it.
    pub(in crate::image) tags: Vec<String>,
    /// `registry/repository@digest`, if a registry answered that.
    pub(in crate::image) digest: Option<String>,
    pub(in crate::image) manifest: (Digest, Vec<u8>),
    pub(in crate::image) config: (Digest, Vec<u8>),
    pub(in crate::image) values: ImageConfig,
    pub(in crate::image) annotations: BTreeMap<String, String>,
    /// The base first.
    pub(in crate::image) layers: Vec<NewLayer>,
    /// It is on the disk when it is there. Layers that are not in the store yet ask for that anyway.
    pub(in crate::image) is_synced: bool,
}

pub(in crate::image) enum NewLayer {
    /// In the store already.
    Present(Digest, Lease),
    Unpacked(Arc<Staged>),
}

impl NewLayer {
    fn diff_id(&self) -> &Digest {
        match self {
            Self::Present(diff_id, _) => diff_id,
            Self::Unpacked(staged) => staged.diff_id(),
        }
    }
}

/// What was taken out of use and is to be removed. What goes wrong with one is no reason to leave the others.
#[derive(Default)]
pub(super) struct Freed {
    /// Of records that went.
    pub(super) names: Vec<String>,
    trees: Vec<PathBuf>,
    pub(super) bytes: u64,
    failure: Option<Error>,
}

impl Freed {
    pub(super) fn add(&mut self, tree: PathBuf, bytes: u64) {
        self.trees.push(tree);
        self.bytes += bytes;
    }

    pub(super) fn failed(&mut self, error: Error) {
        tracing::warn!(error = error.chain(), "space is not given back");
        self.failure.get_or_insert(error);
    }

    /// Gives the space back: the bytes. Takes as long as files are many.
    ///
    /// # Errors
    /// The first of all that went wrong, when nothing is left to be tried.
    pub(super) fn remove(mut self) -> Result<u64> {
        for tree in std::mem::take(&mut self.trees) {
            if let Err(error) = remove_tree(&tree) {
                self.failed(error);
            }
        }
        self.failure.map_or(Ok(self.bytes), Err)
    }
}

impl Shared {
    /// Makes the image part of the store under the name it was asked for.
    pub(in crate::image) fn commit(&self, new: &NewImage) -> Result<ImageId> {
        let keys = self.finish_layers(&new.layers)?;
        let has_unpacked = new.layers.iter().any(|layer| matches!(layer, NewLayer::Unpacked(_)));
        if has_unpacked {
            self.layers.sync_all()?;
        }
        let is_synced = new.is_synced || has_unpacked;
        let _changes = loop {
            let changes = self.lock_changes();
            if !(is_synced && self.is_unsynced(&keys)) {
                break changes;
            }
            drop(changes);
            self.write_out()?;
        };
        let mut settled = Vec::new();
        let settling = self.settle_layers(&new.layers, &keys, &mut settled);
        let done = settling.and_then(|()| match is_synced {
            true => self.record(new, keys),
            false => self.record_made(new, keys),
        });
        if done.is_err() {
            // Without its image a layer is nobody's: give the space back.
            self.discard(&settled);
        }
        done
    }

    fn finish_layers(&self, layers: &[NewLayer]) -> Result<Vec<LayerKey>> {
        let mut keys = Vec::with_capacity(layers.len());
        let mut base: Vec<PathBuf> = Vec::with_capacity(layers.len());
        let mut chain: Option<Digest> = None;
        for layer in layers {
            let here = chain_id(chain.as_ref(), layer.diff_id());
            let (key, files) = match layer {
                NewLayer::Present(_, lease) => {
                    (lease.key.clone(), self.layers.files_of(&lease.key))
                }
                NewLayer::Unpacked(staged) => {
                    (staged.finish(&self.layers, &base, &here)?, staged.files(&self.layers))
                }
            };
            keys.push(key);
            base.push(files);
            chain = Some(here);
        }
        Ok(keys)
    }

    fn settle_layers(
        &self,
        layers: &[NewLayer],
        keys: &[LayerKey],
        settled: &mut Vec<LayerKey>,
    ) -> Result<()> {
        let mut catalog = Catalog::clone(&self.catalog());
        for (layer, key) in layers.iter().zip(keys) {
            if let NewLayer::Unpacked(staged) = layer
                && !catalog.layers.contains_key(key)
            {
                staged.settle(&self.layers)?;
                catalog.layers.insert(key.clone(), Arc::new(staged.layer()));
                settled.push(key.clone());
            }
        }
        self.catalog.store(Arc::new(catalog));
        if settled.is_empty() { Ok(()) } else { self.layers.sync_names() }
    }

    fn discard(&self, settled: &[LayerKey]) {
        let mut catalog = Catalog::clone(&self.catalog());
        for key in settled {
            catalog.layers.remove(key);
            let removed = self.layers.take_out(key).and_then(|path| remove_tree(&path));
            if let Err(error) = removed {
                tracing::warn!(error = error.chain(), "a layer without an image stays behind");
            }
        }
        self.catalog.store(Arc::new(catalog));
    }

    /// Of what a build made. One that is there keeps what it has, but for its names.
    fn record_made(&self, new: &NewImage, keys: Vec<LayerKey>) -> Result<ImageId> {
        let (id, catalog) = (ImageId::new(new.config.0.clone()), self.catalog());
        match catalog.images.get(&id) {
            Some(known) => {
                let mut image = self.image(new, known.layers.clone(), &catalog);
                image.manifest = known.manifest.clone();
                image.size = known.size;
                image.annotations = known.annotations.clone();
                image.unsynced = known.unsynced.clone();
                self.publish(image, &new.tags)
            }
            None if self.is_unsynced(&keys) => {
                for (digest, bytes) in [&new.manifest, &new.config] {
                    self.blobs.replace_unsynced(digest.hex(), bytes)?;
                }
                let mut image = self.image(new, keys, &catalog);
                image.unsynced = Some(self.boot.clone());
                self.publish(image, &new.tags)
            }
            None => self.record(new, keys),
        }
    }

    fn record(&self, new: &NewImage, keys: Vec<LayerKey>) -> Result<ImageId> {
        for (digest, bytes) in [&new.manifest, &new.config] {
            self.blobs.replace(digest.hex(), bytes)?;
        }
        let image = self.image(new, keys, &self.catalog());
        self.publish(image, &new.tags)
    }

    /// With all its names. What is known of its disk is nothing yet.
    fn image(&self, new: &NewImage, keys: Vec<LayerKey>, catalog: &Catalog) -> Image {
        let id = ImageId::new(new.config.0.clone());
        let known = catalog.images.get(&id);
        let (mut tags, mut digests) =
            known.map(|image| (image.tags.clone(), image.digests.clone())).unwrap_or_default();
        for (all, names) in [(&mut tags, &new.tags[..]), (&mut digests, new.digest.as_slice())] {
            all.extend(
                names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>(),
            );
        }
        let tagged_at = match (new.tags.as_slice(), &new.digest) {
            ([_, ..], None) => names::now(),
            _ => known.and_then(|image| image.tagged_at),
        };
        let documents = new.manifest.1.len() + new.config.1.len();
        let layers = keys.iter().filter_map(|key| catalog.layers.get(key));
        Image {
            size: documents as u64 + layers.map(|layer| layer.size).sum::<u64>(),
            pinned: self.is_pinned(&tags),
            id,
            tags,
            digests,
            manifest: new.manifest.0.clone(),
            layers: keys,
            config: new.values.clone(),
            annotations: new.annotations.clone(),
            tagged_at,
            generation: catalog.next_generation(),
            unsynced: None,
        }
    }

    fn publish(&self, image: Image, taken: &[String]) -> Result<ImageId> {
        let (id, mut catalog) = (image.id.clone(), Catalog::clone(&self.catalog()));
        // Once this record stands the image is there, and the tag is its own.
        self.put(&image)?;
        let replaced = catalog.images.insert(id.clone(), Arc::new(image));
        for tag in taken {
            self.take_tag(&mut catalog, tag, &id)?;
        }
        if let Some(replaced) = replaced {
            self.drop_document(&catalog, &replaced.manifest)?;
        }
        self.catalog.store(Arc::new(catalog));
        Ok(id)
    }

    /// A tag names one image: the others lose it, on the disk when their heir is there.
    pub(super) fn take_tag(&self, catalog: &mut Catalog, tag: &str, owner: &ImageId) -> Result<()> {
        let is_unsynced =
            |image: Option<&Arc<Image>>| image.is_some_and(|it| it.unsynced.is_some());
        let owner_waits = is_unsynced(catalog.images.get(owner));
        let has_tag = |image: &Image| image.tags.iter().any(|other| other == tag);
        let losers = catalog.images.values().filter(|image| image.id != *owner && has_tag(image));
        for image in losers.cloned().collect::<Vec<_>>() {
            let mut changed = Image::clone(&image);
            changed.tags.retain(|other| other != tag);
            changed.pinned = self.is_pinned(&changed.tags);
            match owner_waits {
                true => self.writing_out.add_loss(changed.id.clone(), owner.clone()),
                false => {
                    // Of what it took itself nothing comes back.
                    self.settle_losses(catalog, |taker| *taker == image.id)?;
                    self.put(&changed)?;
                }
            }
            catalog.images.insert(changed.id.clone(), Arc::new(changed));
        }
        Ok(())
    }

    pub(super) fn remove(
        &self,
        text: &str,
        in_use: impl FnOnce() -> HashSet<LayerKey>,
    ) -> Result<()> {
        let freed = {
            let _changes = self.lock_changes();
            let mut catalog = Catalog::clone(&self.catalog());
            let Some(image) = catalog.resolve(text).cloned() else { return Ok(()) };
            if image.pinned {
                let name = image.tags.first().cloned().unwrap_or_else(|| image.id.to_string());
                return Err(Error::wrong_state(format!(
                    "image {name} is pinned by images.pinned in the configuration"
                )));
            }
            self.settle_losses(&catalog, |_| true)?;
            self.records.remove(image.id.hex())?;
            catalog.images.remove(&image.id);
            self.catalog.store(Arc::new(catalog.clone()));
            self.drop_document(&catalog, image.id.digest())?;
            self.drop_document(&catalog, &image.manifest)?;
            let mut freed = Freed::default();
            self.take_out_unused(catalog, in_use, &mut freed);
            freed
        };
        freed.remove().map(drop)
    }

    pub(super) fn sweep(&self, in_use: impl FnOnce() -> HashSet<LayerKey>) -> Result<()> {
        let mut freed = Freed::default();
        {
            let _changes = self.lock_changes();
            self.take_out_unused(Catalog::clone(&self.catalog()), in_use, &mut freed);
        }
        freed.remove().map(drop)
    }

    /// Takes out the layers that nobody needs. For callers that hold the lock of changes.
    pub(super) fn take_out_unused(
        &self,
        mut catalog: Catalog,
        in_use: impl FnOnce() -> HashSet<LayerKey>,
        freed: &mut Freed,
    ) {
        // Leases first: who gives one up has put a record in its place before.
        let leased = self.layers.leases.all();
        let (in_use, kept) = (in_use(), self.kept.layers());
        for key in catalog.unused_layers() {
            if kept.contains(&key) || in_use.contains(&key) || leased.contains(&key) {
                continue;
            }
            match self.layers.take_out(&key) {
                Ok(tree) => {
                    let layer = catalog.layers.remove(&key);
                    freed.add(tree, layer.map_or(0, |layer| layer.size));
                    self.sources.drop_layer(&key);
                }
                Err(error) => freed.failed(error),
            }
        }
        self.catalog.store(Arc::new(catalog));
    }

    fn drop_document(&self, catalog: &Catalog, digest: &Digest) -> Result<()> {
        let is_used = catalog
            .images
            .values()
            .any(|image| image.manifest == *digest || image.id.digest() == digest);
        if is_used { Ok(()) } else { self.blobs.remove(digest.hex()) }
    }

    pub(super) fn is_pinned(&self, tags: &[String]) -> bool {
        self.settings
            .pinned
            .iter()
            .filter_map(|text| Reference::parse(text).ok()?.tagged_name())
            .any(|name| tags.contains(&name))
    }

    /// Reads what is on disk. An image with a part missing is set aside, a document or layer
    /// without an image is dropped (layers by [`Self::sweep`], since containers may use them). What another boot did not
    /// write out is dropped too.
    pub(super) fn load(&self) -> Result<Catalog> {
        let mut catalog = Catalog { layers: self.layers.load(&self.boot)?, ..Catalog::default() };
        let documents: HashSet<String> = self.blobs.names()?.into_iter().collect();
        let mut images: Vec<Image> = Vec::new();
        for (key, image) in self.records.scan()? {
            let is_whole = key == image.id.hex()
                && documents.contains(image.id.hex())
                && documents.contains(image.manifest.hex())
                && image.layers.iter().all(|layer| catalog.layers.contains_key(layer));
            if image.unsynced.as_ref().is_some_and(|boot| *boot != self.boot) {
                tracing::warn!(
                    image = key,
                    "the image is dropped: it was not on the disk when the machine went down"
                );
                self.records.remove(&key)?;
            } else if is_whole {
                images.push(image);
            } else {
                tracing::warn!(image = key, "a part of this image is missing");
                self.records.set_aside(&key)?;
            }
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.generation));
        let mut taken: HashMap<String, ImageId> = HashMap::new();
        for mut image in images {
            image.tags.retain(|tag| {
                let owner = taken.entry(tag.clone()).or_insert_with(|| image.id.clone());
                if *owner != image.id {
                    self.writing_out.add_loss(image.id.clone(), owner.clone());
                }
                *owner == image.id
            });
            image.pinned = self.is_pinned(&image.tags);
            catalog.images.insert(image.id.clone(), Arc::new(image));
        }
        for name in documents {
            let is_used = catalog
                .images
                .values()
                .any(|image| image.manifest.hex() == name || image.id.hex() == name);
            if !is_used {
                self.blobs.remove(&name)?;
            }
        }
        Ok(catalog)
    }
}
