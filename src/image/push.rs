//! Pushing: an image's layers, archived anew, its configuration and its manifest to a registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::digest::Digest;
use super::manifest::OCI_MANIFEST;
use super::pieces::{self, Pieces};
use super::reference::Reference;
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
    let held = Arc::new(held);
    let documents = {
        let (store, held) = (store.clone(), held.clone());
        let reading = tokio::task::spawn_blocking(move || save::image(&store, &held));
        reading.await.context("read the layers")??
    };
    let Documents { config, manifest, layers } = documents;
    let tell =
        async |event| events.send(event).await.map_err(|_| Error::internal("nobody listens"));
    for (digest, _) in &layers {
        tell(Event::Preparing(digest.clone())).await?;
    }
    for (key, (digest, size)) in held.image.layers.iter().zip(&layers) {
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
    let id = Digest::of(&config);
    if !session.has_blob(&id).await? {
        let (sender, pieces) = mpsc::channel(1);
        let size = config.len() as u64;
        let _ = sender.send(Ok(Bytes::from(config))).await;
        drop(sender);
        session.push_blob((&id, size), pieces, &Arc::default()).await.context("push the config")?;
    }
    session.push_manifest(tag, OCI_MANIFEST, &manifest).await.context("push the manifest")?;
    Ok(Pushed { digest: Digest::of(&manifest), size: manifest.len() })
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
