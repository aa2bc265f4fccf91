//! Caches in registries.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Records, Sink, Source, config_of};
use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;
use crate::image::local::LocalLayer;
use crate::image::manifest::{Document, LayerBlob, OCI_MANIFEST};
use crate::image::pieces::Archive;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::registry::{self, Served, Session};
use crate::image::store::LayerSource;
use crate::image::{Credentials, ImageStore, LayerKey};

/// A cache under a name, or an image that has its records with it.
pub(crate) struct RegistryCache {
    name: String,
    session: Session,
    records: Records,
}

impl fmt::Debug for RegistryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryCache").field(&self.name).finish()
    }
}

impl RegistryCache {
    /// `platforms`: those whose images are asked, of an index of images.
    ///
    /// # Errors
    /// `NotFound` for an image without records, and for what is not there.
    pub(crate) async fn open(
        store: &ImageStore,
        reference: &Reference,
        credentials: &Credentials,
        platforms: &[Platform],
    ) -> Result<Self> {
        let session = store.shared.registry.session(reference, credentials)?;
        let served = session.resolve().await?;
        let records = records(&session, served, platforms).await?;
        Ok(Self { name: reference.to_string(), session, records })
    }
}

async fn records(session: &Session, served: Served, platforms: &[Platform]) -> Result<Records> {
    if let Some(config) = config_of(&served.bytes)? {
        let config = session.document(&config, registry::Document::Blob).await?;
        return Records::parse(&config.bytes);
    }
    let manifests = match Document::parse(&served.bytes, &served.media_type)? {
        Document::Manifest(manifest) => vec![manifest],
        Document::Index(entries) => {
            let mut manifests = Vec::new();
            for entry in platforms.iter().filter_map(|platform| platform.choose(&entries)) {
                let below = session.document(entry, registry::Document::Manifest).await?;
                match Document::parse(&below.bytes, &below.media_type)? {
                    Document::Manifest(manifest) => manifests.push(manifest),
                    Document::Index(_) => {
                        return Err(Error::invalid("the image's index is nested too deeply"));
                    }
                }
            }
            manifests
        }
    };
    let mut found = Vec::new();
    for manifest in manifests {
        let config = session.document(&manifest.config, registry::Document::Blob).await?;
        found.extend(Records::inline(&config.bytes, &manifest)?);
    }
    let all = found.into_iter().reduce(Records::and);
    all.ok_or_else(|| Error::not_found("the image has no cache records"))
}

impl Source for RegistryCache {
    fn records(&self) -> &Records {
        &self.records
    }

    fn fetch<'a>(
        &'a self,
        store: &'a ImageStore,
        layer: &'a LayerBlob,
    ) -> BoxFuture<'a, Result<LocalLayer>> {
        async move {
            let upload = store.begin_layer(Some(layer.diff_id.clone()))?;
            let received = AtomicU64::new(0);
            let sent = self.session.blob(&layer.descriptor, upload.pieces(), &received).await;
            match (sent, upload.finish().await) {
                (Ok(()), unpacked) => unpacked,
                (Err(error), _) => Err(error),
            }
        }
        .boxed()
    }
}

/// A name that a cache is to have.
pub(crate) struct RegistrySink {
    store: ImageStore,
    name: Reference,
    session: Session,
    tag: String,
}

impl RegistrySink {
    pub(crate) fn open(
        store: &ImageStore,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Self> {
        let tag = reference.tag().context("a name without a tag")?.to_owned();
        let session = store.shared.registry.session(reference, credentials)?;
        Ok(Self { store: store.clone(), name: reference.clone(), session, tag })
    }
}

impl Sink for RegistrySink {
    fn has<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<bool>> {
        self.session.has_blob(digest).boxed()
    }

    fn put<'a>(
        &'a self,
        digest: &'a Digest,
        size: u64,
        archive: Archive<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let sent = Arc::default();
            self.session.push_blob((digest, size), archive, None, &sent).await
        }
        .boxed()
    }

    fn put_manifest<'a>(&'a self, manifest: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.session.push_manifest(&self.tag, OCI_MANIFEST, manifest).boxed()
    }

    fn known(&self, layer: &LayerKey) -> Vec<LayerBlob> {
        let sources = self.store.sources(layer, self.name.registry());
        let here = sources.iter().filter(|it| it.repository == self.name.repository());
        here.map(LayerSource::blob).collect()
    }

    fn note<'a>(&'a self, layers: &'a [(LayerKey, LayerBlob)]) -> BoxFuture<'a, ()> {
        self.store.note_sources(&self.name, layers).boxed()
    }
}
