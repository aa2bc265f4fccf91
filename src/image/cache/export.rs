//! A cache on its way elsewhere.

use futures_util::future::BoxFuture;

use super::{CACHE_CONFIG, write};
use crate::error::{Context, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{self, Descriptor, LayerBlob, OCI_MANIFEST};
use crate::image::pieces::{self, Archive};
use crate::image::{ImageStore, StackedLayer};

/// A layer that a step made, and the step's key.
#[derive(Clone)]
pub(crate) struct CacheStep {
    pub(crate) key: Digest,
    pub(crate) layer: StackedLayer,
}

/// Where a cache goes.
pub(crate) trait Sink: Send + Sync {
    fn has<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<bool>>;

    fn put<'a>(
        &'a self,
        digest: &'a Digest,
        size: u64,
        archive: Archive<'a>,
    ) -> BoxFuture<'a, Result<()>>;

    /// After all that it speaks of.
    fn put_manifest<'a>(&'a self, manifest: &'a [u8]) -> BoxFuture<'a, Result<()>>;
}

/// Sends the layers of steps, and what tells of them; the descriptor of the manifest.
pub(crate) async fn export(
    store: &ImageStore,
    steps: &[CacheStep],
    sink: &dyn Sink,
) -> Result<Descriptor> {
    let (mut layers, mut records) = (Vec::<LayerBlob>::new(), Vec::new());
    for CacheStep { key, layer } in steps {
        let (layer_key, blob) = store.archive_of(layer).await?;
        let known = layers.iter().position(|known| *known == blob);
        records.push((key.clone(), known.unwrap_or(layers.len())));
        if known.is_some() {
            continue;
        }
        let Descriptor { digest, size, .. } = &blob.descriptor;
        if !sink.has(digest).await? {
            let archive = || store.archive(&layer_key);
            let put = sink.put(digest, *size, &archive).await;
            put.with_context(|| format!("write layer {digest}"))?;
        }
        layers.push(blob);
    }
    let config = write(&layers, &records)?;
    let described = Descriptor::of(CACHE_CONFIG, &config);
    put_document(sink, config).await.context("write the cache's configuration")?;
    let layers: Vec<_> = layers.iter().map(|layer| layer.descriptor.to_json()).collect();
    let manifest = manifest::write_of(&described, &layers)?;
    sink.put_manifest(&manifest).await.context("write the cache's manifest")?;
    Ok(Descriptor::of(OCI_MANIFEST, &manifest))
}

/// A document, unless it is there.
pub(crate) async fn put_document(sink: &dyn Sink, document: Vec<u8>) -> Result<()> {
    let digest = Digest::of(&document);
    if sink.has(&digest).await? {
        return Ok(());
    }
    let size = document.len() as u64;
    sink.put(&digest, size, &|| pieces::whole(document.clone())).await
}
