//! Pushing: an image's layers, archived anew, its configuration and its manifest to a registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::digest::Digest;
use super::index::{self, Variant};
use super::manifest::{OCI_INDEX, OCI_MANIFEST};
use super::pieces::{self, Pieces};
use super::reference::Reference;
use super::registry::Session;
use super::save::{self, Documents};
use super::{Credentials, Held, ImageStore, LayerKey, pack};
use crate::error::{Context, Error, Result};

/// What becomes of one layer, or of the whole.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Preparing(Digest),
    Pushing {
        digest: Digest,
        size: u64,
        /// Grows.
        sent: Arc<AtomicU64>,
    },
    Present(Digest),
    Pushed(Digest),
}

/// What the name stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) digest: Digest,
    /// Bytes of the manifest.
    pub(crate) size: usize,
}

/// Pushes an image under a name with a tag. Ends early when nobody listens to what becomes of it.
///
/// # Errors
/// `Denied` when the registry does not take the credentials, `Unavailable` when it fails.
pub(crate) async fn push(
    store: &ImageStore,
    held: Held,
    (name, credentials): (&Reference, &Credentials),
    events: &mpsc::Sender<Event>,
) -> Result<Pushed> {
    let session = store.shared.registry.session(name, credentials)?;
    let tag = name.tag().context("a name without a tag")?;
    let documents = put_image(store, &session, held, events).await?;
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
    variants: Vec<Variant>,
    (name, credentials): (&Reference, &Credentials),
    events: &mpsc::Sender<Event>,
) -> Result<Pushed> {
    let session = store.shared.registry.session(name, credentials)?;
    let tag = name.tag().context("a name without a tag")?;
    let mut images = Vec::new();
    for Variant { held, predicates } in variants {
        let image = put_image(store, &session, held, events).await?;
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
    held: Held,
    events: &mpsc::Sender<Event>,
) -> Result<Documents> {
    let held = Arc::new(held);
    let documents = {
        let (store, held) = (store.clone(), held.clone());
        let reading = tokio::task::spawn_blocking(move || save::image(&store, &held));
        reading.await.context("read the layers")??
    };
    let tell =
        async |event| events.send(event).await.map_err(|_| Error::internal("nobody listens"));
    for (digest, _) in &documents.layers {
        tell(Event::Preparing(digest.clone())).await?;
    }
    for (key, (digest, size)) in held.image.layers.iter().zip(&documents.layers) {
        if session.has_blob(digest).await? {
            tell(Event::Present(digest.clone())).await?;
            continue;
        }
        let sent = Arc::new(AtomicU64::new(0));
        let (digest, size) = (digest.clone(), *size);
        tell(Event::Pushing { digest: digest.clone(), size, sent: sent.clone() }).await?;
        let pieces = archive(store, key);
        session
            .push_blob((&digest, size), pieces, &sent)
            .await
            .with_context(|| format!("push layer {digest}"))?;
        tell(Event::Pushed(digest)).await?;
    }
    put_document(session, documents.config.clone()).await.context("push the config")?;
    Ok(documents)
}

/// A small blob, unless it is there.
async fn put_document(session: &Session, document: Vec<u8>) -> Result<()> {
    let digest = Digest::of(&document);
    if session.has_blob(&digest).await? {
        return Ok(());
    }
    let size = document.len() as u64;
    session.push_blob((&digest, size), pieces::whole(document), &Arc::default()).await
}

impl Event {
    pub(crate) fn digest(&self) -> &Digest {
        match self {
            Self::Preparing(digest)
            | Self::Pushing { digest, .. }
            | Self::Present(digest)
            | Self::Pushed(digest) => digest,
        }
    }

    /// Bytes on their way, and all of them.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        match self {
            Self::Pushing { size, sent, .. } => Some((sent.load(Ordering::Relaxed), *size)),
            Self::Preparing(_) | Self::Present(_) | Self::Pushed(_) => None,
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

fn archive(store: &ImageStore, key: &LayerKey) -> Pieces {
    let (store, key) = (store.clone(), key.clone());
    pieces::send(move |out| pack::write(&store.open_layer(&key)?, out))
}
