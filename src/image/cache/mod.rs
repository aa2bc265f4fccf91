//! Build caches elsewhere, in BuildKit's formats: layers by the keys of the steps that made them.
//!
//! ```text
//!   manifest ─▶ cacheconfig.v0: layers, and records that name them      a cache by itself   (registry, local)
//!   manifest ─▶ an image's configuration ─▶ moby.buildkit.cache.v0      records of the image's own layers (inline)
//! ```
//!
//! A record's digest is our key of the step, which has all in it that the step was made from; so records have no inputs. BuildKit's
//! are digests of its own graph: neither finds the other's layers, and both pass over what they do not find.

mod export;
mod registry;

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub(crate) use self::export::{CacheStep, Sink, export, put_document};
pub(crate) use self::registry::{RegistryCache, RegistrySink};
use super::config::ConfigDocument;
use super::digest::Digest;
use super::local::LocalLayer;
use super::manifest::{Descriptor, LayerBlob, Manifest};
use super::store::NewLayer;
use super::{ImageStore, Stack, StackedLayer};
use crate::error::{Context, Error, Result};

/// The media type of a cache's configuration.
pub(crate) const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Where an image's configuration has the records of its layers.
pub(crate) const INLINE: &str = "moby.buildkit.cache.v0";
/// Layers of one cache, and records.
const MOST: usize = 10_000;
/// A layer that lies on no other.
const ALONE: i64 = -1;

/// What a cache has.
#[derive(Debug, Default)]
pub(crate) struct Records {
    layers: Vec<LayerBlob>,
    by_key: HashMap<Digest, usize>,
}

/// A cache that layers can be fetched from.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    fn records(&self) -> &Records;

    /// Fetches and unpacks one of its layers.
    fn fetch<'a>(
        &'a self,
        store: &'a ImageStore,
        layer: &'a LayerBlob,
    ) -> BoxFuture<'a, Result<LocalLayer>>;
}

/// Where a cache has its configuration, by its manifest or index; `None` for the manifest or index of an image.
///
/// # Errors
/// `InvalidArgument` for what is neither.
pub(crate) fn config_of(manifest: &[u8]) -> Result<Option<Descriptor>> {
    #[derive(Deserialize)]
    struct Form {
        config: Option<Descriptor>,
        #[serde(default)]
        manifests: Vec<Descriptor>,
    }
    let form: Form = serde_json::from_slice(manifest)
        .map_err(|error| Error::invalid(format!("the manifest is not valid: {error}")))?;
    let mut all = form.config.into_iter().chain(form.manifests);
    Ok(all.find(|it| it.media_type == CACHE_CONFIG))
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct RawConfig {
    layers: Vec<RawLayer>,
    records: Vec<RawRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RawLayer {
    blob: Digest,
    #[serde(default, rename = "parent")]
    parent: i64,
    #[serde(default)]
    annotations: Option<RawAnnotations>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RawAnnotations {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: Digest,
    #[serde(default)]
    size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct RawRecord {
    #[serde(default, rename = "layers")]
    results: Vec<RawResult>,
    digest: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct RawResult {
    layer: usize,
}

impl Records {
    /// Of a cache's configuration.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none.
    pub(crate) fn parse(config: &[u8]) -> Result<Self> {
        let raw: RawConfig = serde_json::from_slice(config)
            .map_err(|error| Error::invalid(format!("the cache's configuration: {error}")))?;
        let layers = raw.layers.into_iter().map(|layer| {
            let annotations = layer.annotations.filter(|known| known.size > 0);
            let missing = || Error::invalid("a layer of the cache is not described");
            let RawAnnotations { media_type, diff_id, size } = annotations.ok_or_else(missing)?;
            let descriptor = Descriptor::new(&media_type, layer.blob, size);
            Ok(LayerBlob { descriptor, diff_id })
        });
        Self::of(layers.collect::<Result<_>>()?, raw.records)
    }

    /// Of an image's configuration; `None` if it has none.
    ///
    /// # Errors
    /// `InvalidArgument` for records that are none, and for a configuration that does not fit the manifest.
    pub(crate) fn inline(config: &[u8], manifest: &Manifest) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Inline {
            #[serde(rename = "moby.buildkit.cache.v0")]
            records: Option<String>,
        }
        let wrong = |why: String| Error::invalid(format!("the image's cache records: {why}"));
        let found: Inline =
            serde_json::from_slice(config).map_err(|error| wrong(error.to_string()))?;
        let Some(text) = found.records else { return Ok(None) };
        let text = BASE64.decode(text).map_err(|error| wrong(error.to_string()))?;
        let records = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let diff_ids = ConfigDocument::parse(config)?.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(wrong("the image has other layers".to_owned()));
        }
        let layers = manifest.layers.iter().cloned().zip(diff_ids);
        let layers = layers.map(|(descriptor, diff_id)| LayerBlob { descriptor, diff_id });
        Self::of(layers.collect(), records).map(Some)
    }

    fn of(layers: Vec<LayerBlob>, records: Vec<RawRecord>) -> Result<Self> {
        if layers.len() > MOST || records.len() > MOST {
            return Err(Error::invalid(format!(
                "the cache has more than {MOST} layers or records"
            )));
        }
        let mut by_key = HashMap::new();
        for RawRecord { results, digest } in records {
            // One of BuildKit's that has no layer by itself.
            let Some(RawResult { layer }) = results.first() else { continue };
            if *layer >= layers.len() {
                return Err(Error::invalid("a record of the cache names a layer that it lacks"));
            }
            by_key.insert(digest, *layer);
        }
        Ok(Self { layers, by_key })
    }

    /// Those of both.
    fn and(mut self, other: Self) -> Self {
        let own = self.layers.len();
        self.layers.extend(other.layers);
        self.by_key.extend(other.by_key.into_iter().map(|(key, layer)| (key, own + layer)));
        self
    }

    pub(crate) fn find(&self, key: &Digest) -> Option<&LayerBlob> {
        self.layers.get(*self.by_key.get(key)?)
    }
}

/// The configuration of a cache: its layers, and the place of a layer by each key.
fn write(layers: &[LayerBlob], records: &[(Digest, usize)]) -> Result<Vec<u8>> {
    let layers = layers.iter().map(|LayerBlob { descriptor, diff_id }| RawLayer {
        blob: descriptor.digest.clone(),
        parent: ALONE,
        annotations: Some(RawAnnotations {
            media_type: descriptor.media_type.clone(),
            diff_id: diff_id.clone(),
            size: descriptor.size,
        }),
    });
    let config = RawConfig { layers: layers.collect(), records: raw(records) };
    serde_json::to_vec(&config).context("write the cache's configuration")
}

/// For an image's configuration: by each key the place of a layer among the image's.
pub(crate) fn inline_records(records: &[(Digest, usize)]) -> Result<String> {
    let text = serde_json::to_vec(&raw(records)).context("write the image's cache records")?;
    Ok(BASE64.encode(text))
}

fn raw(records: &[(Digest, usize)]) -> Vec<RawRecord> {
    let record = |(key, layer): &(Digest, usize)| RawRecord {
        results: vec![RawResult { layer: *layer }],
        digest: key.clone(),
    };
    records.iter().map(record).collect()
}

impl ImageStore {
    /// A layer of a cache, on top of a stack: the one that is here already, or else fetched.
    pub(crate) async fn import_layer(
        &self,
        source: &dyn Source,
        layer: &LayerBlob,
        base: &Stack,
    ) -> Result<StackedLayer> {
        let chain = self.chain_on(base, &layer.diff_id).await?;
        if let Some(lease) = self.shared.lease_layer(&layer.diff_id, &chain) {
            let present = NewLayer::Present(layer.diff_id.clone(), lease);
            return self.settle_on(base, &chain, present).await;
        }
        let fetched = source.fetch(self, layer).await?;
        self.settle_on(base, &chain, fetched.into_new()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> LayerBlob {
        let digest = Digest::of(text.as_bytes());
        LayerBlob { descriptor: Descriptor::new("tar", digest.clone(), 7), diff_id: digest }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_no_cache_is_refused() {
        let (layers, key) = ([layer("a"), layer("b")], |text: &str| Digest::of(text.as_bytes()));
        let config =
            write(&layers, &[(key("one"), 1), (key("two"), 0), (key("three"), 1)]).unwrap();
        let records = Records::parse(&config).unwrap();
        assert_eq!(records.find(&key("one")), Some(&layers[1]));
        assert_eq!(records.find(&key("two")), Some(&layers[0]));
        assert_eq!(records.find(&key("four")), None);
        // As BuildKit writes what it has of its own.
        let foreign = format!(
            r#"{{"records":[{{"digest":"{0}","inputs":[[{{"link":1}}]]}},{{"digest":"{0}","chains":[]}}]}}"#,
            key("x")
        );
        assert_eq!(Records::parse(foreign.as_bytes()).unwrap().find(&key("x")), None);
        for wrong in ["", "[]x", r#"{"layers":[{"blob":"sha256:0"}]}"#] {
            assert!(Records::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let other = write(&[layer("c")], &[(key("four"), 0)]).unwrap();
        let both = records.and(Records::parse(&other).unwrap());
        assert_eq!(both.find(&key("one")), Some(&layers[1]));
        assert_eq!(both.find(&key("four")), Some(&layer("c")));
        let outside = write(&layers, &[(key("one"), 2)]).unwrap();
        assert!(Records::parse(&outside).is_err());
    }

    #[test]
    fn an_images_records_are_about_its_own_layers() {
        let layers = [layer("a"), layer("b")];
        let manifest = Manifest {
            config: Descriptor::new("", Digest::of(b""), 2),
            layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
            annotations: Default::default(),
        };
        let key = Digest::of(b"key");
        let inline = |place: usize| inline_records(&[(key.clone(), place)]).unwrap();
        let config = |records: Option<String>, count: usize| {
            let diff_ids: Vec<_> =
                layers.iter().take(count).map(|layer| layer.diff_id.to_string()).collect();
            let mut config = serde_json::json!({
                "os": "linux", "architecture": "amd64",
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
            });
            if let Some(records) = records {
                config[INLINE] = records.into();
            }
            config.to_string().into_bytes()
        };
        let found = Records::inline(&config(Some(inline(1)), 2), &manifest).unwrap().unwrap();
        assert_eq!(found.find(&key), Some(&layers[1]));
        assert!(Records::inline(&config(None, 2), &manifest).unwrap().is_none());
        for (records, count) in [(inline(2), 2), (inline(1), 1), ("no base64!".to_owned(), 2)] {
            assert!(Records::inline(&config(Some(records), count), &manifest).is_err());
        }
    }
}
