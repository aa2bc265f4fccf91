//! Pushing: an image's layers, its configuration and its manifest to a registry.
//!
//! ```text
//!   layer ─▶ the repository has it ─▶ another one of the registry has it: mount ─▶ archived anew, sent meanwhile
//!                                                                                      │ broken off
//!                                                                                      ▼
//!                                                                       compressed to a file, the rest of it sent
//! ```
//!
//! Which repositories have a layer, and as which archive, is known of those that it was pulled from or pushed to. So a layer
//! that came compressed stays as it came on its own registry, and on one that has that archive, too; elsewhere it is archived anew and
//! compressed, with gzip if nobody asks for something else, while it is sent. The same bytes come of it each time: what broke off
//! goes on with them.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Semaphore, mpsc};

use crate::error::{Context, Error, Result};
use crate::image::compression::{Compressed, Compression, Streamed, compressed, streamed};
use crate::image::digest::Digest;
use crate::image::index::{self, Variant};
use crate::image::manifest::{Descriptor, LayerBlob, OCI_INDEX, OCI_MANIFEST};
use crate::image::pieces;
use crate::image::reference::Reference;
use crate::image::registry::Session;
use crate::image::registry::streaming::Sent;
use crate::image::registry::upload::{Mount, Upload};
use crate::image::save::{self, Documents};
use crate::image::store::{LayerSource, blocking};
use crate::image::{Credentials, Held, ImageStore, LayerKey};

/// Layers that are sent at once, of all pushes.
const LAYERS_AT_ONCE: usize = 4;

/// What pushes share.
pub(super) struct Pushes {
    places: Semaphore,
}

impl Default for Pushes {
    fn default() -> Self {
        Self { places: Semaphore::new(LAYERS_AT_ONCE) }
    }
}

/// What becomes of one layer, by its DiffID.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Preparing(Digest),
    Pushing {
        diff_id: Digest,
        /// Bytes of the archive; of the layer's files while it is compressed on the way.
        size: u64,
        /// Of these. Grows, and falls when the registry has less than it was sent.
        sent: Arc<AtomicU64>,
    },
    Present(Digest),
    /// From this repository of the same registry.
    Mounted(Digest, String),
    Pushed(Digest),
}

/// What the name stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) digest: Digest,
    /// Bytes of the manifest.
    pub(crate) size: usize,
}

/// Pushes an image under a name with a tag; what the registry lacks is compressed so. Ends early when nobody listens to what becomes of it.
///
/// # Errors
/// `Denied` when the registry does not take the credentials, `Unavailable` when it fails.
pub(crate) async fn push(
    store: &ImageStore,
    (held, compression): (Held, Compression),
    (name, credentials): (&Reference, &Credentials),
    events: &mpsc::Sender<Event>,
) -> Result<Pushed> {
    let session = store.shared.registry.session(name, credentials)?;
    let tag = name.tag().context("a name without a tag")?;
    let documents = put_image(store, &session, (held, name, compression), events).await?;
    let Documents { manifest, .. } = documents;
    session.push_manifest(tag, OCI_MANIFEST, &manifest).await.context("push the manifest")?;
    Ok(Pushed { digest: Digest::of(&manifest), size: manifest.len() })
}

/// Pushes several images, and what is attested of them, under one name.
///
/// # Errors
/// As [`push`].
pub(crate) async fn push_index(
    store: &ImageStore,
    (variants, compression): (Vec<Variant>, Compression),
    (name, credentials): (&Reference, &Credentials),
    events: &mpsc::Sender<Event>,
) -> Result<Pushed> {
    let session = store.shared.registry.session(name, credentials)?;
    let tag = name.tag().context("a name without a tag")?;
    let mut images = Vec::new();
    for Variant { held, predicates } in variants {
        let image = put_image(store, &session, (held, name, compression), events).await?;
        let digest = Digest::of(&image.manifest).to_string();
        session.push_manifest(&digest, OCI_MANIFEST, &image.manifest).await?;
        let attested = index::attest(&image, &predicates, std::slice::from_ref(name))?;
        if let Some(attested) = &attested {
            for blob in attested.statements.iter().chain([&attested.config]) {
                put_document(&session, blob.clone()).await.context("push what is attested")?;
            }
            let digest = Digest::of(&attested.manifest).to_string();
            session.push_manifest(&digest, OCI_MANIFEST, &attested.manifest).await?;
        }
        images.push((image, attested));
    }
    let index = index::write(&images)?;
    session.push_manifest(tag, OCI_INDEX, &index).await.context("push the index")?;
    Ok(Pushed { digest: Digest::of(&index), size: index.len() })
}

/// All of an image but its manifest.
async fn put_image(
    store: &ImageStore,
    session: &Session,
    (held, to, compression): (Held, &Reference, Compression),
    events: &mpsc::Sender<Event>,
) -> Result<Documents> {
    let layers = held.image.layers.iter().cloned().zip(store.layer_sizes(&held.image));
    let layers: Vec<_> = layers.collect();
    let mut distinct = layers.clone();
    distinct.sort();
    distinct.dedup();
    for (_, (diff_id, _)) in &distinct {
        tell(events, Event::Preparing(diff_id.clone())).await?;
    }
    let pushing = distinct.into_iter().map(|(key, (diff_id, size))| async move {
        // Nobody closes it.
        let _place = store.shared.pushes.places.acquire().await.ok();
        let (key_of, diff_id_of) = (&key, &diff_id);
        let layer = Layer {
            store,
            session,
            to,
            compression,
            key: key_of,
            diff_id: diff_id_of,
            size,
            events,
        };
        let blob = Box::pin(layer.put()).await.with_context(|| format!("push layer {diff_id}"))?;
        Ok::<_, Error>((key, blob))
    });
    let pushed: Vec<_> =
        stream::iter(pushing).buffer_unordered(LAYERS_AT_ONCE).try_collect().await?;
    store.note_sources(to, &pushed).await;
    let pushed: HashMap<_, _> = pushed.into_iter().collect();
    let blobs = layers.iter().map(|(key, _)| pushed.get(key).cloned());
    let blobs: Vec<_> = blobs.collect::<Option<_>>().context("a layer was not pushed")?;
    let documents = {
        let store = store.clone();
        blocking(move || save::documents(&store, &held, blobs)).await?
    };
    put_document(session, documents.config.clone()).await.context("push the config")?;
    Ok(documents)
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) -> Result<()> {
    events.send(event).await.map_err(|_| Error::internal("nobody listens"))
}

/// One layer on its way to a repository.
struct Layer<'a> {
    store: &'a ImageStore,
    session: &'a Session,
    to: &'a Reference,
    compression: Compression,
    key: &'a LayerKey,
    diff_id: &'a Digest,
    /// Bytes of its files.
    size: u64,
    events: &'a mpsc::Sender<Event>,
}

impl Layer<'_> {
    /// The archive that the repository has of it now.
    async fn put(&self) -> Result<LayerBlob> {
        let mut known = self.store.all_sources(self.key, self.to.registry());
        known.retain(|source| self.compression.takes(&source.blob()));
        let mut asked: Vec<Digest> = Vec::new();
        for source in &known {
            let blob = source.blob();
            let digest = &blob.descriptor.digest;
            if asked.contains(digest) {
                continue;
            }
            if self.session.has_blob(digest).await? {
                return self.is_present(blob).await;
            }
            asked.push(digest.clone());
        }
        let mut upload = None;
        let (registry, repository) = (self.to.registry(), self.to.repository());
        let elsewhere = |it: &&LayerSource| it.is_at(registry) && it.repository != repository;
        if let Some(source) = known.iter().find(elsewhere) {
            let blob = source.blob();
            match self.session.mount(&blob.descriptor.digest, &source.repository).await? {
                Mount::Done => {
                    let from = source.repository.clone();
                    tell(self.events, Event::Mounted(self.diff_id.clone(), from)).await?;
                    return Ok(blob);
                }
                Mount::Begun(begun) => {
                    // It would have said yes if it had it there.
                    self.store.drop_source(self.key.clone(), source.clone()).await?;
                    upload = Some(begun);
                }
                Mount::Refused => {}
            }
        }
        let blob = self.send(upload).await?;
        tell(self.events, Event::Pushed(self.diff_id.clone())).await?;
        Ok(blob)
    }

    async fn send(&self, upload: Option<Upload>) -> Result<LayerBlob> {
        let stream = || streamed(self.store, self.key, self.compression);
        let Streamed { pieces, blob, read } = stream();
        self.is_pushing(self.size, &read).await?;
        match self.session.stream_blob(pieces, upload).await? {
            Sent::Whole(upload) => {
                let blob = blob.await.context("the layer's archive has no end")?;
                let Descriptor { digest, size, .. } = &blob.descriptor;
                let again = || stream().pieces;
                let whole = (digest, *size);
                self.session.push_blob(whole, &again, Some(upload), &Arc::default()).await?;
                Ok(blob)
            }
            Sent::Broken(upload) => self.send_file(upload).await,
        }
    }

    /// As it was done before it broke off, but so that it can break off again.
    async fn send_file(&self, upload: Option<Upload>) -> Result<LayerBlob> {
        let Compressed { blob, file } = {
            let (store, key, compression) =
                (self.store.clone(), self.key.clone(), self.compression);
            blocking(move || compressed(&store, &key, compression))
                .await
                .context("read the layer")?
        };
        let Descriptor { digest, size, .. } = &blob.descriptor;
        // The answer may be all that was lost, or somebody else was faster.
        if self.session.has_blob(digest).await? {
            return Ok(blob);
        }
        let sent = Arc::new(AtomicU64::new(0));
        self.is_pushing(*size, &sent).await?;
        let file = Arc::new(file);
        let archive = || pieces::of_file(file.clone());
        self.session.push_blob((digest, *size), &archive, upload, &sent).await?;
        Ok(blob)
    }

    async fn is_pushing(&self, size: u64, sent: &Arc<AtomicU64>) -> Result<()> {
        let (diff_id, sent) = (self.diff_id.clone(), sent.clone());
        tell(self.events, Event::Pushing { diff_id, size, sent }).await
    }

    async fn is_present(&self, blob: LayerBlob) -> Result<LayerBlob> {
        tell(self.events, Event::Present(self.diff_id.clone())).await?;
        Ok(blob)
    }
}

/// A small blob, unless it is there.
async fn put_document(session: &Session, document: Vec<u8>) -> Result<()> {
    let digest = Digest::of(&document);
    if session.has_blob(&digest).await? {
        return Ok(());
    }
    let size = document.len() as u64;
    let archive = || pieces::whole(document.clone());
    session.push_blob((&digest, size), &archive, None, &Arc::default()).await
}

impl Event {
    pub(crate) fn diff_id(&self) -> &Digest {
        match self {
            Self::Preparing(diff_id)
            | Self::Pushing { diff_id, .. }
            | Self::Present(diff_id)
            | Self::Mounted(diff_id, _)
            | Self::Pushed(diff_id) => diff_id,
        }
    }

    /// Bytes on their way, and all of them.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        match self {
            // An archive has more than its files.
            Self::Pushing { size, sent, .. } => {
                Some((sent.load(Ordering::Relaxed).min(*size), *size))
            }
            Self::Preparing(_) | Self::Present(_) | Self::Mounted(..) | Self::Pushed(_) => None,
        }
    }
}

/// Whether a registry takes the credentials.
///
/// # Errors
/// `Denied` if it does not.
pub(crate) async fn check(
    store: &ImageStore,
    registry: &Reference,
    credentials: &Credentials,
) -> Result<()> {
    store.shared.registry.session(registry, credentials)?.check().await
}
