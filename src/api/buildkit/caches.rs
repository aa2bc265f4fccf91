//! Build caches that a client wants layers from, and those that it wants written.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_dockerfile::Platform;
use cais_proto::buildkit::control::CacheOptionsEntry;

use super::BuildKit;
use super::attrs::is_true;
use super::board::Board;
use super::compression;
use super::content::{Directory, LocalCache};
use super::export::Response;
use super::job::{Job, Outcome};
use super::session::Session;
use crate::api::docker::convert::build;
use crate::api::docker::convert::create::unsupported;
use crate::builder::{Extent, image_platform};
use crate::error::{Error, Result};
use crate::image::cache::{RegistryCache, RegistrySink, Sink, Source, export};
use crate::image::compression::Compression;
use crate::image::digest::Digest;
use crate::image::reference::Reference;

const INLINE: &str = "inline";
/// Attributes of directories that are read, and of those that are written.
const SOURCE: &str = "src";
const DESTINATION: &str = "dest";
/// The name under which clients find the manifest of what was written.
const MANIFEST: &str = "cache.manifest";

/// A cache to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Export {
    place: Place,
    extent: Extent,
    compression: Compression,
    /// The build is done, whatever becomes of it.
    may_fail: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Registry(Reference),
    /// A directory of the client's.
    Local(String),
}

/// # Errors
/// `Unsupported`, by name, for what we lack; `InvalidArgument` for one that has no place.
pub(super) fn check(job: &Job) -> Result<()> {
    let Some(cache) = &job.request.cache else { return Ok(()) };
    cache.exports.iter().try_for_each(|entry| read(entry).map(drop))?;
    cache.imports.iter().try_for_each(|entry| place(entry, SOURCE).map(drop))
}

/// Whether the image is to have the records of its own layers.
pub(super) fn is_inline(job: &Job) -> bool {
    let exports = job.request.cache.iter().flat_map(|cache| &cache.exports);
    exports.into_iter().any(|entry| entry.r#type == INLINE)
}

fn place(entry: &CacheOptionsEntry, path: &str) -> Result<Place> {
    let attr = |key: &str| entry.attrs.get(key).filter(|text| !text.is_empty());
    let missing =
        |key: &str| Error::invalid(format!("a cache of type {} needs {key}", entry.r#type));
    match entry.r#type.as_str() {
        "registry" => {
            let reference = attr("ref").ok_or_else(|| missing("ref"))?;
            // What is read may be named by its digest; what is written has a name.
            let reference = match path {
                SOURCE => Reference::parse(reference)?,
                _ => build::tag(reference)?,
            };
            Ok(Place::Registry(reference))
        }
        "local" => Ok(Place::Local(attr(path).ok_or_else(|| missing(path))?.clone())),
        other => unsupported(format!("a build cache of type {other:?}")),
    }
}

/// `None` for one in the image.
fn read(entry: &CacheOptionsEntry) -> Result<Option<Export>> {
    let attr = |key: &str| entry.attrs.get(key).map(String::as_str).unwrap_or_default();
    let extent = match attr("mode") {
        "" | "min" => Extent::Image,
        "max" => Extent::All,
        other => return Err(Error::invalid(format!("unknown cache mode: {other}"))),
    };
    let compression = compression::read(&entry.attrs)?;
    if entry.r#type == INLINE {
        return Ok(None);
    }
    let may_fail = is_true(attr("ignore-error"));
    Ok(Some(Export { place: place(entry, DESTINATION)?, extent, compression, may_fail }))
}

/// Opens the caches that layers may come from. One that is not there is shown, and does without.
pub(super) async fn open(
    kit: &BuildKit,
    job: &Job,
    session: &Arc<Session>,
    platforms: &[String],
) -> Result<Vec<Arc<dyn Source>>> {
    let mut sources = Vec::new();
    let imports = job.request.cache.as_ref().map(|cache| cache.imports.as_slice());
    for entry in imports.unwrap_or_default() {
        let opened = match place(entry, SOURCE)? {
            Place::Registry(reference) => {
                let shown = reference.familiar();
                let opening = of_registry(kit, session, &reference, platforms);
                shown_on(&job.board, &format!("importing cache manifest from {shown}"), opening)
                    .await
            }
            Place::Local(path) => {
                let opening = of_directory(session, &path, &entry.attrs);
                shown_on(&job.board, "importing cache manifest from local", opening).await
            }
        };
        sources.extend(opened);
    }
    Ok(sources)
}

async fn shown_on(
    board: &Board,
    name: &str,
    opening: impl Future<Output = Result<Arc<dyn Source>>>,
) -> Option<Arc<dyn Source>> {
    let task = board.begin(name);
    let opened = opening.await;
    task.ended(&opened);
    opened.ok()
}

async fn of_registry(
    kit: &BuildKit,
    session: &Session,
    reference: &Reference,
    platforms: &[String],
) -> Result<Arc<dyn Source>> {
    let platform = |text: &String| {
        Platform::or_host(text).map(|it| image_platform(&it)).map_err(Error::invalid)
    };
    let platforms = platforms.iter().map(platform).collect::<Result<Vec<_>>>()?;
    let credentials = session.credentials(reference.registry()).await?;
    let store = kit.0.engine.images();
    Ok(Arc::new(RegistryCache::open(store, reference, &credentials, &platforms).await?))
}

async fn of_directory(
    session: &Arc<Session>,
    path: &str,
    attrs: &BTreeMap<String, String>,
) -> Result<Arc<dyn Source>> {
    // The client has looked it up in its own index.
    let digest = Digest::parse(attrs.get("digest").map(String::as_str).unwrap_or_default())?;
    Ok(Arc::new(LocalCache::open(Directory::of(session, path)?, &digest).await?))
}

/// Writes the caches that were asked for.
pub(super) async fn write(
    kit: &BuildKit,
    job: &Job,
    outcome: &Outcome,
    session: &Arc<Session>,
) -> Result<Response> {
    let mut response = Response::new();
    let exports = job.request.cache.as_ref().map(|cache| cache.exports.as_slice());
    for entry in exports.unwrap_or_default() {
        let Some(export) = read(entry)? else { continue };
        let kind = match &export.place {
            Place::Registry(_) => "registry",
            Place::Local(_) => "client directory",
        };
        let mut task = job.board.begin(&format!("exporting cache to {kind}"));
        task.part("preparing build cache for export", (0, 0), false);
        match send(kit, outcome, session, &export).await {
            Ok(manifest) => {
                task.part("preparing build cache for export", (0, 0), true);
                task.done(false);
                response.insert(MANIFEST.to_owned(), manifest);
            }
            Err(error) => {
                task.failed(&error.chain());
                if !export.may_fail {
                    return Err(error);
                }
            }
        }
    }
    Ok(response)
}

/// The descriptor of the manifest, as JSON.
async fn send(
    kit: &BuildKit,
    outcome: &Outcome,
    session: &Arc<Session>,
    asked: &Export,
) -> Result<String> {
    let store = kit.0.engine.images();
    let sink: Box<dyn Sink> = match &asked.place {
        Place::Registry(reference) => {
            let credentials = session.credentials(reference.registry()).await?;
            Box::new(RegistrySink::open(store, reference, &credentials)?)
        }
        Place::Local(path) => Box::new(Directory::of(session, path)?),
    };
    let mut steps = Vec::new();
    for made in &outcome.parts {
        steps.extend(made.built.steps(asked.extent).await?);
    }
    let manifest = export(store, &steps, asked.compression, &*sink).await?;
    Ok(manifest.to_json().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn entry(kind: &str, attrs: &[(&str, &str)]) -> CacheOptionsEntry {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        CacheOptionsEntry { r#type: kind.to_owned(), attrs: attrs.collect() }
    }

    #[test]
    fn caches_are_named_by_type_and_place() {
        let export = read(&entry("local", &[("dest", "/c"), ("mode", "max")])).unwrap().unwrap();
        assert_eq!((export.place, export.extent), (Place::Local("/c".to_owned()), Extent::All));
        let export = read(&entry("registry", &[("ref", "x.io/a"), ("ignore-error", "true")]));
        let export = export.unwrap().unwrap();
        assert!(export.may_fail && export.extent == Extent::Image);
        assert!(
            matches!(export.place, Place::Registry(name) if name.familiar() == "x.io/a:latest")
        );
        assert!(read(&entry("inline", &[])).unwrap().is_none());
        let digest = Digest::of(b"");
        let exact = entry("registry", &[("ref", &format!("x.io/a@{digest}"))]);
        let import = place(&exact, SOURCE).unwrap();
        assert!(matches!(import, Place::Registry(name) if name.digest() == Some(&digest)));
        assert_eq!(read(&exact).unwrap_err().kind(), Kind::InvalidArgument);
        for (kind, attrs, expected) in [
            ("gha", &[][..], Kind::Unsupported),
            ("local", &[("dest", "/c"), ("compression", "estargz")], Kind::Unsupported),
            ("local", &[], Kind::InvalidArgument),
            ("registry", &[("ref", "A B")], Kind::InvalidArgument),
            ("inline", &[("mode", "most")], Kind::InvalidArgument),
        ] {
            assert_eq!(read(&entry(kind, attrs)).unwrap_err().kind(), expected, "{kind}");
        }
    }
}
