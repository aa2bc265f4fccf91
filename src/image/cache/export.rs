//! A cache on its way elsewhere.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{CACHE_CONFIG, write};
use crate::error::{Context, Result};
use crate::image::compression::{Compressed, Compression, compressed};
use crate::image::digest::Digest;
use crate::image::manifest::{self, Descriptor, LayerBlob, OCI_MANIFEST};
use crate::image::pieces::{self, Archive};
use crate::image::{ImageStore, LayerKey, StackedLayer};

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

    /// Archives of the layer that it had, and may have no more.
    fn known(&self, layer: &LayerKey) -> Vec<LayerBlob> {
        let _ = layer;
        Vec::new()
    }

    /// It has these archives of layers now.
    fn note<'a>(&'a self, layers: &'a [(LayerKey, LayerBlob)]) -> BoxFuture<'a, ()> {
        let _ = layers;
        async {}.boxed()
    }
}

/// Sends the layers of steps, and what tells of them; the descriptor of the manifest.
pub(crate) async fn export(
    store: &ImageStore,
    steps: &[CacheStep],
    compression: Compression,
    sink: &dyn Sink,
) -> Result<Descriptor> {
    let (mut layers, mut records) = (Vec::<(LayerKey, LayerBlob)>::new(), Vec::new());
    for CacheStep { key, layer } in steps {
        let layer = store.key_of(layer).await?;
        let known = layers.iter().position(|(known, _)| *known == layer);
        records.push((key.clone(), known.unwrap_or(layers.len())));
        if known.is_none() {
            let blob = put_layer(store, &layer, compression, sink).await?;
            layers.push((layer, blob));
        }
    }
    sink.note(&layers).await;
    let layers: Vec<_> = layers.into_iter().map(|(_, blob)| blob).collect();
    let config = write(&layers, &records)?;
    let described = Descriptor::of(CACHE_CONFIG, &config);
    put_document(sink, config).await.context("write the cache's configuration")?;
    let layers: Vec<_> = layers.iter().map(|layer| layer.descriptor.to_json()).collect();
    let manifest = manifest::write_of(&described, &layers)?;
    sink.put_manifest(&manifest).await.context("write the cache's manifest")?;
    Ok(Descriptor::of(OCI_MANIFEST, &manifest))
}

async fn put_layer(
    store: &ImageStore,
    layer: &LayerKey,
    compression: Compression,
    sink: &dyn Sink,
) -> Result<LayerBlob> {
    for blob in sink.known(layer).into_iter().filter(|blob| compression.takes(blob)) {
        if sink.has(&blob.descriptor.digest).await? {
            return Ok(blob);
        }
    }
    let (store, layer) = (store.clone(), layer.clone());
    let packing = move || compressed(&store, &layer, compression);
    let packed = tokio::task::spawn_blocking(packing).await.context("read a layer")?;
    let Compressed { blob, file } = packed?;
    let Descriptor { digest, size, .. } = &blob.descriptor;
    if !sink.has(digest).await? {
        let file = Arc::new(file);
        let put = sink.put(digest, *size, &|| pieces::of_file(file.clone())).await;
        put.with_context(|| format!("write layer {digest}"))?;
    }
    Ok(blob)
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
