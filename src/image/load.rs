//! Images out of one archive: what `docker save` writes, and an OCI layout in a tar file.
//!
//! The archive is a file: its parts may stand in any order. Nothing in it is a path on the host;
//! names are looked up among its own members.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::ConfigDocument;
use super::digest::Digest;
use super::local::LocalLayer;
use super::manifest::LARGEST_DOCUMENT;
use super::platform::Platform;
use super::reference::Reference;
use super::{ImageId, ImageStore, chain_id};
use crate::error::{Context, Error, Kind, Result};

const BUFFER: usize = 256 << 10;
const MOST_MEMBERS: usize = 100_000;

/// Links of an archive's members to others.
const MOST_LINKS: usize = 8;

/// What an archive may inflate to.
const MOST_BYTES: u64 = 64 << 30;

/// Indexes in an index.
const DEEPEST: usize = 3;

/// An image that was loaded, and the names it has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) id: ImageId,
    pub(crate) tags: Vec<String>,
}

/// What an archive gave: images that came before an error stay.
pub(crate) struct Outcome {
    pub(crate) images: Vec<Loaded>,
    pub(crate) error: Option<Error>,
}

/// Loads every image of the archive, until one of them lacks a part or has a wrong one.
///
/// # Errors
/// `InvalidArgument` for what is no such archive.
pub(crate) async fn load(store: &ImageStore, archive: File) -> Result<Outcome> {
    let members = tokio::task::spawn_blocking(move || Members::read(archive));
    let members = Arc::new(members.await.context("read the archive")??);
    let planning = members.clone();
    let plans = tokio::task::spawn_blocking(move || plans(&planning));
    let mut outcome = Outcome { images: Vec::new(), error: None };
    for plan in plans.await.context("read the archive")?? {
        match load_one(store, &members, plan).await {
            Ok(loaded) => outcome.images.push(loaded),
            Err(error) => {
                outcome.error = Some(error);
                break;
            }
        }
    }
    Ok(outcome)
}

/// An image as the archive describes it.
struct Plan {
    config: Vec<u8>,
    /// Names of members.
    layers: Vec<String>,
    tags: Vec<String>,
}

async fn load_one(store: &ImageStore, members: &Arc<Members>, plan: Plan) -> Result<Loaded> {
    let Plan { config, layers: names, tags } = plan;
    let diff_ids = ConfigDocument::parse(&config)?.diff_ids;
    if diff_ids.len() != names.len() {
        return Err(Error::invalid(format!(
            "the manifest lists {} layers, the configuration {}",
            names.len(),
            diff_ids.len()
        )));
    }
    let (mut layers, mut chain) = (Vec::new(), None);
    for (diff_id, name) in diff_ids.iter().zip(&names) {
        let here = chain_id(chain.as_ref(), diff_id);
        let layer = match store.find_layer(diff_id, &here) {
            Some(layer) => layer,
            None => stage(store, members, diff_id, name).await?,
        };
        layers.push(layer);
        chain = Some(here);
    }
    let id = store.assemble(config, layers, tags.clone()).await?;
    Ok(Loaded { id, tags })
}

async fn stage(
    store: &ImageStore,
    members: &Arc<Members>,
    diff_id: &Digest,
    name: &str,
) -> Result<LocalLayer> {
    let upload = store.begin_layer(Some(diff_id.clone()))?;
    let (members, mut at) = (members.clone(), members.find(name)?);
    while at.size > 0 {
        let members = members.clone();
        let reading = tokio::task::spawn_blocking(move || members.piece(at));
        let piece = reading.await.context("read the archive")??;
        at = Place { offset: at.offset + piece.len() as u64, size: at.size - piece.len() as u64 };
        if !upload.push(piece).await {
            break;
        }
    }
    upload.finish().await.with_context(|| format!("layer {name}"))
}

/// Where a member's bytes are.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    size: u64,
}

enum Member {
    File(Place),
    /// To another member, by its whole name.
    Link(String),
}

struct Members {
    archive: File,
    by_name: HashMap<String, Member>,
}

impl Members {
    fn read(mut archive: File) -> Result<Self> {
        let damaged = |error: std::io::Error| Error::invalid(format!("read the archive: {error}"));
        archive.rewind().context("read the archive")?;
        let mut by_name = HashMap::new();
        let mut reader = tar::Archive::new(archive);
        for entry in reader.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            let target = entry.link_name_bytes();
            let target = target.map(|it| String::from_utf8_lossy(&it).into_owned());
            let member = match (entry.header().entry_type(), target) {
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                    let (offset, size) = (entry.raw_file_position(), entry.size());
                    Member::File(Place { offset, size })
                }
                (tar::EntryType::Link, Some(target)) => Member::Link(clean(&target)),
                (tar::EntryType::Symlink, Some(target)) => {
                    let above = name.rsplit_once('/').map_or("", |(above, _)| above);
                    Member::Link(clean(&format!("{above}/{target}")))
                }
                _ => continue,
            };
            by_name.insert(name, member);
            if by_name.len() > MOST_MEMBERS {
                return Err(Error::invalid("the archive has too many members"));
            }
        }
        Ok(Self { archive: reader.into_inner(), by_name })
    }

    fn find(&self, name: &str) -> Result<Place> {
        let mut at = clean(name);
        for _ in 0..MOST_LINKS {
            match self.by_name.get(&at) {
                Some(Member::File(place)) => return Ok(*place),
                Some(Member::Link(target)) => at.clone_from(target),
                None => break,
            }
        }
        let shown: String = name.chars().take(120).collect();
        Err(Error::invalid(format!("the archive has no {shown}")))
    }

    fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let place = self.find(name)?;
        let size = usize::try_from(place.size).unwrap_or(usize::MAX);
        if size > LARGEST_DOCUMENT {
            return Err(Error::invalid(format!("{name} is larger than {LARGEST_DOCUMENT} bytes")));
        }
        let mut bytes = vec![0; size];
        self.archive
            .read_exact_at(&mut bytes, place.offset)
            .map_err(|error| Error::invalid(format!("read {name}: {error}")))?;
        Ok(bytes)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let parsed = serde_json::from_slice(&self.document(name)?);
        parsed.with_context(|| format!("read {name}")).kind(Kind::InvalidArgument)
    }

    /// The document of a descriptor, whose digest must be its own.
    fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.document(&blob_path(digest))?;
        match digest.mismatch(&bytes) {
            Some(found) => Err(Error::invalid(format!("blob {digest} has the digest {found}"))),
            None => Ok(bytes),
        }
    }

    fn piece(&self, at: Place) -> Result<Bytes> {
        let size = usize::try_from(at.size).unwrap_or(usize::MAX).min(BUFFER);
        let mut bytes = vec![0; size];
        self.archive
            .read_exact_at(&mut bytes, at.offset)
            .map_err(|error| Error::invalid(format!("read the archive: {error}")))?;
        Ok(bytes.into())
    }
}

/// As members are looked up: without `.`, `..` and slashes at either end.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn blob_path(digest: &Digest) -> String {
    let text = digest.to_string();
    let algorithm = text.split(':').next().unwrap_or_default();
    format!("blobs/{algorithm}/{}", digest.hex())
}

fn plans(members: &Members) -> Result<Vec<Plan>> {
    if members.has("manifest.json") {
        return docker_plans(members);
    }
    if !members.has("index.json") {
        return Err(Error::invalid("the archive has neither manifest.json nor index.json"));
    }
    let index: OciDocument = members.parse("index.json")?;
    let mut plans = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let tags = name_of(&descriptor.annotations).into_iter().collect();
        let Some((config, layers)) = oci_image(members, &descriptor.digest, 0)? else { continue };
        plans.push(Plan { config, layers, tags });
    }
    match plans.is_empty() {
        true => Err(Error::invalid("the archive has no image for this platform")),
        false => Ok(plans),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn docker_plans(members: &Members) -> Result<Vec<Plan>> {
    let images: Vec<DockerImage> = members.parse("manifest.json")?;
    let plan = |image: DockerImage| {
        let DockerImage { config, repo_tags, layers } = image;
        let names = repo_tags.unwrap_or_default();
        let tags = names.iter().map(|name| tag_of(name)).collect::<Result<Vec<_>>>()?;
        let config = members.document(&config)?;
        Ok(Plan { config, layers: layers.unwrap_or_default(), tags })
    };
    images.into_iter().map(plan).collect()
}

fn tag_of(name: &str) -> Result<String> {
    let reference = Reference::parse(name)?;
    let tag = reference.tagged_name().filter(|_| reference.digest().is_none());
    tag.ok_or_else(|| Error::invalid(format!("{name:?} is no name with a tag")))
}

#[derive(Deserialize)]
struct OciDocument {
    #[serde(default)]
    manifests: Option<Vec<OciDescriptor>>,
    #[serde(default)]
    config: Option<OciDescriptor>,
    #[serde(default)]
    layers: Option<Vec<OciDescriptor>>,
}

#[derive(Deserialize)]
struct OciDescriptor {
    digest: Digest,
    #[serde(default)]
    annotations: HashMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

/// The configuration and the layers of a manifest, or of the one in an index that is for us.
fn oci_image(
    members: &Members,
    digest: &Digest,
    depth: usize,
) -> Result<Option<(Vec<u8>, Vec<String>)>> {
    let document: OciDocument = serde_json::from_slice(&members.blob(digest)?)
        .with_context(|| format!("read {digest}"))
        .kind(Kind::InvalidArgument)?;
    if let Some(config) = document.config {
        let layers = document.layers.unwrap_or_default();
        let layers = layers.iter().map(|layer| blob_path(&layer.digest)).collect();
        return Ok(Some((members.blob(&config.digest)?, layers)));
    }
    if depth == DEEPEST {
        return Err(Error::invalid("the archive's indexes are nested too deep"));
    }
    let host = Platform::host();
    let is_ours = |it: &OciDescriptor| {
        it.platform
            .as_ref()
            .is_none_or(|it| (&it.os, &it.architecture) == (&host.os, &host.architecture))
    };
    for inner in document.manifests.unwrap_or_default() {
        // An archive may leave out what is for other platforms.
        if is_ours(&inner)
            && members.has(&blob_path(&inner.digest))
            && let Some(found) = oci_image(members, &inner.digest, depth + 1)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A whole name, if there is one; a tag alone names nothing.
fn name_of(annotations: &HashMap<String, String>) -> Option<String> {
    let whole = annotations.get("io.containerd.image.name");
    let other = annotations.get("org.opencontainers.image.ref.name");
    let other = other.filter(|name| name.contains([':', '/']));
    whole.or(other).and_then(|name| tag_of(name).ok())
}

/// Inflates an archive that is compressed, into a file without a name.
pub(crate) fn inflate(mut archive: File, empty: impl FnOnce() -> Result<File>) -> Result<File> {
    let mut start = [0; 6];
    archive.rewind().context("read the archive")?;
    let count = archive.read(&mut start).context("read the archive")?;
    archive.seek(SeekFrom::Start(0)).context("read the archive")?;
    let damaged = |error: std::io::Error| Error::invalid(format!("inflate the archive: {error}"));
    let mut out;
    match start.get(..count).unwrap_or_default() {
        [0x1f, 0x8b, ..] => {
            out = empty()?;
            let decoder = flate2::read::MultiGzDecoder::new(archive);
            std::io::copy(&mut decoder.take(MOST_BYTES), &mut out).map_err(damaged)?;
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            out = empty()?;
            let decoder = zstd::Decoder::new(archive).context("start zstd")?;
            std::io::copy(&mut decoder.take(MOST_BYTES), &mut out).map_err(damaged)?;
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] | [b'B', b'Z', b'h', ..] => {
            return Err(Error::new(
                Kind::Unsupported,
                "the archive is compressed with xz or bzip2; gzip, zstd and none are known",
            ));
        }
        _ => return Ok(archive),
    }
    out.rewind().context("read the archive")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_looked_up_and_never_opened() {
        for (path, expected) in
            [("./a/b", "a/b"), ("../../etc/passwd", "etc/passwd"), ("a/../b/", "b"), ("/", "")]
        {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn a_tag_alone_names_nothing() {
        let annotations = |key: &str, name: &str| HashMap::from([(key.into(), name.into())]);
        let reference = "org.opencontainers.image.ref.name";
        assert_eq!(name_of(&annotations(reference, "latest")), None);
        let web = Some("docker.io/library/web:v1".to_owned());
        assert_eq!(name_of(&annotations(reference, "docker.io/library/web:v1")), web);
        assert_eq!(name_of(&annotations("io.containerd.image.name", "web:v1")), web);
        assert_eq!(name_of(&HashMap::new()), None);
    }
}
