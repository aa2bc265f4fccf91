//! Manifests, indexes and image configurations: what a registry's JSON may say.
//!
//! One digest must never mean two things, so a document is what its media type says, must look
//! like it, and is refused when it could be read as something else too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::digest::Digest;
use super::platform::Platform;
use crate::error::{Context, Error, Kind, Result};

/// No document of a registry may be larger than this.
pub(crate) const LARGEST_DOCUMENT: usize = 4 << 20;
const MOST_LAYERS: usize = 128;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer that is not compressed.
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes the manifest of an image with these layers, the base first.
pub(super) fn write(config: &[u8], layers: &[LayerBlob]) -> Result<Vec<u8>> {
    let layers: Vec<Value> = layers.iter().map(|layer| layer.descriptor.to_json()).collect();
    write_of(&Descriptor::of(OCI_CONFIG, config), &layers)
}

/// Writes a manifest; its layers are descriptors as documents have them.
pub(super) fn write_of(config: &Descriptor, layers: &[Value]) -> Result<Vec<u8>> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": layers,
    });
    serde_json::to_vec(&manifest).context("write the manifest")
}

/// A pointer to content: its type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) urls: Option<Vec<String>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, urls: None }
    }

    /// Of a document that is at hand.
    pub(crate) fn of(media_type: &str, document: &[u8]) -> Self {
        Self::new(media_type, Digest::of(document), document.len() as u64)
    }

    /// Type, digest and size, as documents have them.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest.to_string(),
            "size": self.size,
        })
    }
}

/// A layer as one of its archives, and the digest of that when it is not compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerBlob {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
}

impl LayerBlob {
    /// Of an archive that is not compressed.
    pub(crate) fn plain(digest: Digest, size: u64) -> Self {
        Self { descriptor: Descriptor::new(OCI_LAYER, digest.clone(), size), diff_id: digest }
    }
}

/// The OCI name of a layer's media type, by either dialect's.
pub(super) fn oci_layer_type(media_type: &str) -> String {
    let compression = ["gzip", "zstd"].into_iter().find(|name| media_type.ends_with(name));
    compression.map_or_else(|| OCI_LAYER.to_owned(), |name| format!("{OCI_LAYER}+{name}"))
}

/// What a manifest request may answer.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// One image for one platform.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    /// The base first.
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Manifest,
    Index,
}

/// The form a media type stands for; `None` for types that say nothing, such as `text/plain`.
fn form_of(media_type: &str) -> Result<Option<Form>> {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match essence {
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(Some(Form::Manifest)),
        OCI_INDEX | DOCKER_LIST => Ok(Some(Form::Index)),
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Err(schema_1()),
        "" | "application/json" | "text/plain" | "application/octet-stream" => Ok(None),
        other => Err(Error::new(
            Kind::Unsupported,
            format!("media type {other:?} is not an image manifest or an index"),
        )),
    }
}

fn schema_1() -> Error {
    Error::new(
        Kind::Unsupported,
        "the image is in Docker's schema 1, which is no longer supported; push it again with a \
         current tool",
    )
}

impl Document {
    /// Reads a document that was promised to be of `media_type` (a descriptor's, or the
    /// response's `Content-Type`).
    pub(crate) fn parse(bytes: &[u8], media_type: &str) -> Result<Self> {
        let promised = form_of(media_type)?;
        let raw: RawDocument = serde_json::from_slice(bytes)
            .map_err(|error| Error::invalid(format!("the manifest is not valid: {error}")))?;
        if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
            return Err(schema_1());
        }
        if raw.schema_version != Some(2) {
            return Err(Error::invalid("the manifest's schemaVersion is not 2"));
        }
        let stated = match &raw.media_type {
            Some(stated) => {
                let promise = media_type.split(';').next().unwrap_or_default().trim();
                if promised.is_some() && promise != stated {
                    return Err(Error::invalid(format!(
                        "the manifest was announced as {promise:?} but calls itself {stated:?}"
                    )));
                }
                form_of(stated)?
            }
            None => None,
        };
        let shape = match (&raw.manifests, raw.config.is_some() || raw.layers.is_some()) {
            (Some(_), true) => {
                return Err(Error::invalid("the document is both a manifest and an index"));
            }
            (Some(_), false) => Form::Index,
            (None, _) => Form::Manifest,
        };
        if stated.or(promised).is_some_and(|form| form != shape) {
            return Err(Error::invalid("the manifest's media type and its content disagree"));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), _, _) => Ok(Self::Index(manifests)),
            (None, Some(config), Some(layers)) => {
                let annotations = raw.annotations.unwrap_or_default();
                Manifest { config, layers, annotations }.checked().map(Self::Manifest)
            }
            (None, _, _) => Err(Error::invalid("the manifest has no config or no layers")),
        }
    }
}

impl Manifest {
    fn checked(self) -> Result<Self> {
        if self.layers.len() > MOST_LAYERS {
            let count = self.layers.len();
            return Err(Error::invalid(format!("the image has {count} layers, more than 128")));
        }
        if self.config.size > LARGEST_DOCUMENT as u64 {
            return Err(Error::invalid("the image's configuration is larger than 4 MiB"));
        }
        for layer in &self.layers {
            check_layer(layer)?;
        }
        Ok(self)
    }
}

fn check_layer(layer: &Descriptor) -> Result<()> {
    const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    const OCI: &str = "application/vnd.oci.image.layer.v1.tar";

    let media_type = layer.media_type.as_str();
    let rest = media_type.strip_prefix(DOCKER).or_else(|| media_type.strip_prefix(OCI));
    if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty())
        || media_type.contains("foreign")
        || media_type.contains("nondistributable")
    {
        return Err(Error::new(
            Kind::Unsupported,
            format!("layer {} is a foreign layer, kept outside the registry", layer.digest),
        ));
    }
    match rest {
        Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd") => Ok(()),
        Some(_) | None => Err(Error::new(
            Kind::Unsupported,
            format!(
                "layer {} has the media type {media_type:?}, which is not one of an image layer",
                layer.digest
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(extra: &str, layer_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2{extra},
                "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":2}},
                "layers":[{{"mediaType":"{layer_type}","digest":"{DIGEST}","size":3}}]}}"#
        )
    }

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    #[test]
    fn both_dialects_are_read() {
        let oci = manifest("", LAYER);
        assert!(matches!(Document::parse(oci.as_bytes(), OCI_MANIFEST), Ok(Document::Manifest(_))));
        let docker = manifest(
            &format!(r#","mediaType":"{DOCKER_MANIFEST}""#),
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        );
        assert!(matches!(
            Document::parse(docker.as_bytes(), "text/plain"),
            Ok(Document::Manifest(_))
        ));
        let index =
            format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{DIGEST}","size":1}}]}}"#);
        assert!(matches!(Document::parse(index.as_bytes(), OCI_INDEX), Ok(Document::Index(_))));
    }

    #[test]
    fn a_document_that_could_be_two_things_is_refused() {
        let both = manifest(r#","manifests":[]"#, LAYER);
        for media_type in [OCI_MANIFEST, OCI_INDEX, "application/json", ""] {
            assert!(Document::parse(both.as_bytes(), media_type).is_err(), "{media_type}");
        }
        let lying = manifest(&format!(r#","mediaType":"{OCI_INDEX}""#), LAYER);
        assert!(Document::parse(lying.as_bytes(), "application/json").is_err());
        assert!(Document::parse(lying.as_bytes(), OCI_MANIFEST).is_err());
        assert!(Document::parse(manifest("", LAYER).as_bytes(), OCI_INDEX).is_err());
        let twice = manifest(r#","schemaVersion":2"#, LAYER);
        assert!(Document::parse(twice.as_bytes(), OCI_MANIFEST).is_err());
    }

    #[test]
    fn schema_1_and_strange_layers_are_refused_by_name() {
        let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        let error = Document::parse(old, "application/json").unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.chain().contains("schema 1"), "{}", error.chain());

        for layer in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ] {
            let error = Document::parse(manifest("", layer).as_bytes(), OCI_MANIFEST).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{layer}");
        }
    }
}
