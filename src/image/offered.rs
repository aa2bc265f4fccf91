//! What a registry has under a name, without fetching it.

use super::config::ConfigDocument;
use super::digest::Digest;
use super::manifest::Document;
use super::platform::Platform;
use super::reference::Reference;
use super::registry::{self, auth::Credentials};
use super::store::ImageStore;
use crate::error::Result;

/// A manifest, or an index of several.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    /// Bytes of the document itself.
    pub(crate) size: usize,
    /// What there are images for.
    pub(crate) platforms: Vec<Platform>,
}

/// Asks the registry, as a pull would: its mirrors first.
///
/// # Errors
/// `NotFound` and `Denied` as the registry has it, and `InvalidArgument` for what is no image.
pub(crate) async fn look(
    store: &ImageStore,
    reference: &Reference,
    credentials: &Credentials,
) -> Result<Offered> {
    let session = store.shared.registry.session(reference, credentials)?;
    let served = session.resolve().await?;
    let platforms = match Document::parse(&served.bytes, &served.media_type)? {
        // Attestations lie beside the images, for a platform that is called unknown.
        Document::Index(entries) => entries
            .into_iter()
            .filter_map(|entry| entry.platform)
            .filter(|platform| platform.os != "unknown")
            .collect(),
        Document::Manifest(manifest) => {
            let config = session.document(&manifest.config, registry::Document::Blob).await?;
            vec![ConfigDocument::parse(&config.bytes)?.config.platform]
        }
    };
    let size = served.bytes.len();
    Ok(Offered { media_type: served.media_type, digest: served.digest, size, platforms })
}
