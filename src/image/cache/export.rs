//! A cache on its way elsewhere.

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::mpsc;

use super::{CACHE_CONFIG, CachedLayer, write};
use crate::error::{Context, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, OCI_MANIFEST};
use crate::image::pieces::{self, Pieces};
use crate::image::{ImageStore, StackedLayer, pack};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

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
        pieces: Pieces,
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
    let (mut layers, mut records) = (Vec::<CachedLayer>::new(), Vec::new());
    for CacheStep { key, layer } in steps {
        let (layer_key, digest, size) = store.archive_of(layer).await?;
        let known = layers.iter().position(|known| known.diff_id == digest);
        records.push((key.clone(), known.unwrap_or(layers.len())));
        if known.is_some() {
            continue;
        }
        if !sink.has(&digest).await? {
            let (store, layer_key) = (store.clone(), layer_key);
            let archive = pieces::send(move |out| pack::write(&store.open_layer(&layer_key)?, out));
            let put = sink.put(&digest, size, archive).await;
            put.with_context(|| format!("write layer {digest}"))?;
        }
        let descriptor = Descriptor::new(LAYER, digest.clone(), size);
        layers.push(CachedLayer { descriptor, diff_id: digest });
    }
    let config = write(&layers, &records)?;
    let described = Descriptor::new(CACHE_CONFIG, Digest::of(&config), config.len() as u64);
    put(sink, config).await.context("write the cache's configuration")?;
    let shown = |it: &Descriptor| json!({ "mediaType": it.media_type, "digest": it.digest.to_string(), "size": it.size });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": shown(&described),
        "layers": layers.iter().map(|layer| shown(&layer.descriptor)).collect::<Vec<_>>(),
    });
    let manifest = serde_json::to_vec(&manifest).context("write the cache's manifest")?;
    sink.put_manifest(&manifest).await.context("write the cache's manifest")?;
    Ok(Descriptor::new(OCI_MANIFEST, Digest::of(&manifest), manifest.len() as u64))
}

/// A document, unless it is there.
async fn put(sink: &dyn Sink, document: Vec<u8>) -> Result<()> {
    let digest = Digest::of(&document);
    if sink.has(&digest).await? {
        return Ok(());
    }
    let size = document.len() as u64;
    let (sender, pieces) = mpsc::channel(1);
    // There is room for one.
    let _ = sender.send(Ok(document.into())).await;
    drop(sender);
    sink.put(&digest, size, pieces).await
}
