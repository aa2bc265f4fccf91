//! Images as one archive: an OCI layout that is a `docker save` archive too.
//!
//! ```text
//!   oci-layout  index.json        for those who know the one
//!   manifest.json                 for those who know the other
//!   blobs/sha256/<hex>            what both speak of
//! ```
//!
//! Layers are directories here, so each is archived anew. A plain one is read twice, to learn its digest and size and to be
//! written; one that is compressed is in a file meanwhile. An image whose layers came in other archives gets a new
//! configuration, which names these, and so a new id.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Seek, Write};

use serde_json::{Value, json};

use super::compression::{Compressed, Compression, Method, archived, compressed};
use super::digest::Digest;
use super::index::{self, Attested, Variant};
use super::manifest::{self, Descriptor, LayerBlob, OCI_INDEX, OCI_MANIFEST};
use super::reference::Reference;
use super::{Held, ImageStore, LayerKey, pack};
use crate::error::{Context, Error, Result};

const BLOCK: usize = 512;

/// An image, and the names that it is to have elsewhere: `registry/repository:tag`.
pub(crate) struct Saved {
    pub(crate) held: Held,
    pub(crate) tags: Vec<String>,
}

/// Writes the archive, with layers that are compressed so; blocks.
pub(crate) fn save<W: Write>(
    store: &ImageStore,
    images: &[Saved],
    compression: Compression,
    out: W,
) -> Result<W> {
    let mut archive = Archive::begin(compression, out)?;
    let (mut index, mut list) = (Vec::new(), Vec::new());
    for Saved { held, tags } in images {
        let image = archive.image(store, held)?;
        index.extend(named(&Descriptor::of(OCI_MANIFEST, &image.manifest), tags));
        let layers = image.layers.iter().map(|layer| blob_path(&layer.descriptor.digest));
        list.push(json!({
            "Config": blob_path(&Digest::of(&image.config)),
            "RepoTags": Some(tags.iter().map(|name| familiar(name)).collect::<Vec<_>>())
                .filter(|tags| !tags.is_empty()),
            "Layers": layers.collect::<Vec<_>>(),
        }));
    }
    archive.index(&index)?;
    archive.file("manifest.json", Value::Array(list).to_string().as_bytes())?;
    archive.end()
}

/// What `index.json` has of a document: an entry for each name, `registry/repository:tag`, or one without.
fn named(document: &Descriptor, names: &[String]) -> Vec<Value> {
    let describe = |annotations: Value| {
        let mut entry = document.to_json();
        entry["annotations"] = annotations;
        entry
    };
    if names.is_empty() {
        return vec![describe(json!({}))];
    }
    let named = |name: &String| {
        let tag = name.rsplit(':').next().unwrap_or_default();
        describe(json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        }))
    };
    names.iter().map(named).collect()
}

/// Writes an OCI layout with one index in it, under these names; blocks.
pub(crate) fn save_index<W: Write>(
    store: &ImageStore,
    variants: &[Variant],
    names: &[Reference],
    compression: Compression,
    out: W,
) -> Result<W> {
    let mut archive = Archive::begin(compression, out)?;
    let mut images = Vec::new();
    for Variant { held, predicates } in variants {
        let image = archive.image(store, held)?;
        let attested = index::attest(&image, predicates, names)?;
        if let Some(Attested { statements, config, manifest }) = &attested {
            for blob in statements.iter().chain([config, manifest]) {
                archive.blob(blob)?;
            }
        }
        images.push((image, attested));
    }
    let index = index::write(&images)?;
    archive.blob(&index)?;
    let names: Vec<String> = names.iter().filter_map(Reference::tagged_name).collect();
    archive.index(&named(&Descriptor::of(OCI_INDEX, &index), &names))?;
    archive.end()
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |it| it.familiar())
}

/// The documents of an image whose layers are archived anew.
pub(super) struct Documents {
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    /// The base first.
    pub(super) layers: Vec<LayerBlob>,
}

/// Of an image whose layers leave as these archives. Blocks for a small file.
pub(super) fn documents(
    store: &ImageStore,
    held: &Held,
    layers: Vec<LayerBlob>,
) -> Result<Documents> {
    let mut config = match &held.document {
        Some(document) => document.clone(),
        None => store.configuration(&held.image)?,
    };
    let known = store.layer_sizes(&held.image).into_iter().map(|(diff_id, _)| diff_id);
    if !known.eq(layers.iter().map(|layer| layer.diff_id.clone())) {
        let mut document: Value =
            serde_json::from_slice(&config).context("read the image's configuration")?;
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        document["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        config = serde_json::to_vec(&document).context("write the image's configuration")?;
    }
    let manifest = manifest::write(&config, &layers)?;
    Ok(Documents { config, manifest, layers })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Archive<W> {
    compression: Compression,
    out: W,
    /// Blobs that images share are written once.
    written: BTreeSet<String>,
    layers: BTreeMap<LayerKey, LayerBlob>,
}

impl<W: Write> Archive<W> {
    fn begin(compression: Compression, out: W) -> Result<Self> {
        let (written, layers) = (BTreeSet::new(), BTreeMap::new());
        let mut archive = Self { compression, out, written, layers };
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(archive)
    }

    fn image(&mut self, store: &ImageStore, held: &Held) -> Result<Documents> {
        let mut layers = Vec::new();
        for key in &held.image.layers {
            layers.push(match self.layers.get(key) {
                Some(known) => known.clone(),
                None => self.layer(store, key)?,
            });
        }
        let image = documents(store, held, layers)?;
        self.blob(&image.config)?;
        self.blob(&image.manifest)?;
        Ok(image)
    }

    fn index(&mut self, entries: &[Value]) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
        self.file("index.json", index.to_string().as_bytes())
    }

    /// Two empty blocks.
    fn end(mut self) -> Result<W> {
        self.out.write_all(&[0; 2 * BLOCK]).context("write the archive")?;
        Ok(self.out)
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<()> {
        let path = blob_path(&Digest::of(bytes));
        match self.written.insert(path.clone()) {
            true => self.file(&path, bytes),
            false => Ok(()),
        }
    }

    fn layer(&mut self, store: &ImageStore, key: &LayerKey) -> Result<LayerBlob> {
        let (blob, file) = match self.compression.method {
            Method::None => (archived(store, key)?, None),
            Method::Gzip | Method::Zstd => {
                let Compressed { blob, file } = compressed(store, key, self.compression)?;
                (blob, Some(file))
            }
        };
        self.layers.insert(key.clone(), blob.clone());
        let Descriptor { digest, size, .. } = &blob.descriptor;
        let path = blob_path(digest);
        if !self.written.insert(path.clone()) {
            return Ok(blob);
        }
        self.header(&path, *size)?;
        let mut counted = Counted { out: &mut self.out, left: *size };
        match file {
            Some(mut file) => {
                file.rewind().context("read the layer")?;
                io::copy(&mut file, &mut counted).context("write the archive")?;
            }
            None => counted = pack::write(&store.open_layer(key)?, counted)?,
        }
        if counted.left != 0 {
            return Err(Error::internal(format!("layer {digest} has changed meanwhile")));
        }
        self.pad(*size)?;
        Ok(blob)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.header(path, bytes.len() as u64)?;
        self.out.write_all(bytes).context("write the archive")?;
        self.pad(bytes.len() as u64)
    }

    fn header(&mut self, path: &str, size: u64) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(path).context("write the archive")?;
        header.set_mode(0o644);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).context("write the archive")
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = size.next_multiple_of(BLOCK as u64) - size;
        let zeros = [0; BLOCK];
        let zeros = zeros.get(..usize::try_from(rest).unwrap_or_default()).unwrap_or_default();
        self.out.write_all(zeros).context("write the archive")
    }
}

/// As much as was said, and no more.
struct Counted<'a, W> {
    out: &'a mut W,
    left: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("the layer has grown meanwhile"))?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
