//! What is kept about an image and about a layer.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::is_hex;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::store::boot::Boot;

/// An image's identity: the digest of its configuration, as Docker and the kubelet know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ImageId(Digest);

impl ImageId {
    pub(crate) fn new(config: Digest) -> Self {
        Self(config)
    }

    /// Accepts the whole `sha256:hex` only; [`super::ImageStore::resolve`] takes shorter forms.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Digest::parse(text).map(Self)
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.0
    }

    pub(crate) fn hex(&self) -> &str {
        self.0.hex()
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The name of a layer's directory: the layer's DiffID, or, when the layer leaves out parent
/// directories that its base describes, the digest of the whole chain below and including it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LayerKey(String);

impl LayerKey {
    pub(crate) fn of(digest: &Digest) -> Self {
        Self(digest.hex().to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LayerKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        if is_hex(&text) && matches!(text.len(), 64 | 128) {
            Ok(Self(text))
        } else {
            Err(Error::invalid(format!("{text:?} does not name a layer")))
        }
    }
}

impl From<LayerKey> for String {
    fn from(key: LayerKey) -> Self {
        key.0
    }
}

/// One image in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: ImageId,
    /// `registry/repository:tag`.
    pub(crate) tags: Vec<String>,
    /// `registry/repository@digest`, of what the registry answered for the name: an index or a
    /// manifest.
    pub(crate) digests: Vec<String>,
    /// The manifest that was chosen for this platform.
    pub(crate) manifest: Digest,
    /// The base first.
    pub(crate) layers: Vec<LayerKey>,
    /// Bytes on disk: the unpacked layers and the documents.
    pub(crate) size: u64,
    pub(crate) config: ImageConfig,
    /// The manifest's annotations.
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// When somebody on this node last gave it a name, in nanoseconds since the epoch; a pull does not.
    #[serde(default)]
    pub(crate) tagged_at: Option<i64>,
    /// Rises with every change of a record. After a crash in the middle of moving a tag the
    /// record with the higher number keeps it.
    pub(crate) generation: u64,
    /// The boot that it was made in, until all of it is on the disk: none of it counts in another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsynced: Option<Boot>,
    /// Not to be collected. From the configuration, so it is not written down.
    #[serde(skip)]
    pub(crate) pinned: bool,
}

impl Image {
    /// What people call the image: the wanted name if it is one of its own, else the first it has,
    /// or its id.
    pub(crate) fn name_like(&self, wanted: &str) -> String {
        let wanted = Reference::parse(wanted).ok().map(|name| name.to_string());
        let names = || self.tags.iter().chain(&self.digests);
        let own = wanted.filter(|wanted| names().any(|name| name == wanted));
        own.or_else(|| names().next().cloned()).unwrap_or_else(|| self.id.to_string())
    }
}

/// One unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub(crate) diff_id: Digest,
    /// Bytes of its files, in whole blocks.
    pub(crate) size: u64,
    pub(crate) inodes: u64,
    /// Its archive left something to the layers below, the mode of a directory or the content of a
    /// hard link, so it fits only on that base.
    #[serde(default)]
    pub(crate) is_bound_to_base: bool,
    /// The archive says what the root directory looks like.
    #[serde(default)]
    pub(crate) describes_root: bool,
    /// The boot that it was made in, until its files are on the disk: it does not count in another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsynced: Option<Boot>,
}

/// The digest that names a stack of layers, as the image specification defines it.
pub(crate) fn chain_id(base: Option<&Digest>, diff_id: &Digest) -> Digest {
    match base {
        None => diff_id.clone(),
        Some(base) => Digest::of(format!("{base} {diff_id}").as_bytes()),
    }
}
