//! Images as one archive: an OCI layout that is a `docker save` archive too.
//!
//! ```text
//!   oci-layout  index.json        for those who know the one
//!   manifest.json                 for those who know the other
//!   blobs/sha256/<hex>            what both speak of
//! ```
//!
//! Layers are directories here, so each is archived anew: once to learn its digest and size, once
//! to be written. An image whose layers came in other archives gets a new configuration, which
//! names these, and so a new id.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use super::digest::{Algorithm, Digest, Hasher};
use super::gzip::Gzip;
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

/// Writes the archive; blocks.
pub(crate) fn save<W: Write>(store: &ImageStore, images: &[Saved], out: W) -> Result<W> {
    let mut archive = Archive::begin(out)?;
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
    out: W,
) -> Result<W> {
    let mut archive = Archive::begin(out)?;
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

/// Blocks: every layer is read.
pub(super) fn image(store: &ImageStore, held: &Held) -> Result<Documents> {
    let layers = held.image.layers.iter().map(|key| archived(store, key));
    documents(store, held, layers.collect::<Result<_>>()?)
}

/// A layer's plain archive. Blocks: all of it is read.
pub(super) fn archived(store: &ImageStore, key: &LayerKey) -> Result<LayerBlob> {
    let (digest, size) = measure(&store.open_layer(key)?)?;
    Ok(LayerBlob::plain(digest, size))
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

/// A layer's compressed archive, in a file without a name.
pub(super) struct Compressed {
    pub(super) blob: LayerBlob,
    pub(super) file: File,
}

/// Archives a layer and compresses that, next to the store's data. Blocks: all of it is read.
pub(super) fn compressed(store: &ImageStore, key: &LayerKey) -> Result<Compressed> {
    let file = store.unnamed_file()?;
    let packed = Measure::before(BufWriter::with_capacity(1 << 20, file));
    let plain = Measure::before(Gzip::new(packed).context("compress the layer")?);
    let plain = pack::write(&store.open_layer(key)?, plain)?;
    let diff_id = plain.hasher.finish();
    let packed = plain.out.finish().context("compress the layer")?;
    let blob = LayerBlob::gzip(packed.hasher.finish(), packed.size, diff_id);
    let file = packed.out.into_inner().map_err(IntoInnerError::into_error);
    Ok(Compressed { blob, file: file.context("compress the layer")? })
}

/// Digest and size of the archive of a layer's files.
pub(super) fn measure(files: &OwnedFd) -> Result<(Digest, u64)> {
    let Measure { hasher, size, .. } = pack::write(files, Measure::before(io::sink()))?;
    Ok((hasher.finish(), size))
}

/// What goes through to `out`.
struct Measure<W> {
    out: W,
    hasher: Hasher,
    /// Bytes.
    size: u64,
}

impl<W: Write> Measure<W> {
    fn before(out: W) -> Self {
        Self { out, hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }
}

impl<W: Write> Write for Measure<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Archive<W> {
    out: W,
    /// Blobs that images share are written once.
    written: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    fn begin(out: W) -> Result<Self> {
        let mut archive = Self { out, written: BTreeSet::new() };
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(archive)
    }

    fn image(&mut self, store: &ImageStore, held: &Held) -> Result<Documents> {
        let image = image(store, held)?;
        for (key, layer) in held.image.layers.iter().zip(&image.layers) {
            self.layer(store, key, &layer.descriptor)?;
        }
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

    fn layer(
        &mut self,
        store: &ImageStore,
        key: &LayerKey,
        Descriptor { digest, size, .. }: &Descriptor,
    ) -> Result<()> {
        let path = blob_path(digest);
        if !self.written.insert(path.clone()) {
            return Ok(());
        }
        self.header(&path, *size)?;
        let counted = Counted { out: &mut self.out, left: *size };
        let Counted { left, .. } = pack::write(&store.open_layer(key)?, counted)?;
        if left != 0 {
            return Err(Error::internal(format!("layer {digest} has changed meanwhile")));
        }
        self.pad(*size)
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
