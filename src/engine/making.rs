//! New images that nobody pulled: of a container's changes, of an archive of files, of an archive
//! of images; and images as archives.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::actions::{Act, ImageAct};
use super::files::Upload;
use super::standalone::Standalone;
use super::{Shared, operation, standalone};
use crate::error::{Context, Error, Kind, Result};
use crate::image::compression::Compression;
use crate::image::load::{self, Outcome};
use crate::image::local::LocalLayer;
use crate::image::pieces::{self, Pieces};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::save::{Saved, save};
use crate::image::{ImageId, pack};

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct About {
    /// The `config` of its configuration document.
    pub(crate) config: Value,
    pub(crate) author: String,
    pub(crate) comment: String,
    /// Of its newest layer.
    pub(crate) created_by: String,
    /// Without a name it is known by its id alone.
    pub(crate) name: Option<Reference>,
}

/// Makes an image of a container: the image's layers, and its changes as one more. What runs is
/// paused meanwhile, if that is wanted.
///
/// # Errors
/// `NotFound` if the container's image was removed.
pub(super) async fn commit(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    about: About,
    with_pause: bool,
) -> Result<ImageId> {
    operation::run(async move {
        let record = container.record();
        let run = record.run().filter(|run| with_pause && !run.is_paused);
        // What has ended, or is ending, changes nothing any more.
        let is_over = || match (run, container.record().run()) {
            (Some(run), Some(now)) => now.pod != run.pod || now.end.is_some(),
            _ => true,
        };
        if run.is_some() {
            match standalone::pause(shared.clone(), container.clone()).await {
                Err(_) if is_over() => {}
                other => other?,
            }
        }
        let layer = changes(&shared, &container).await;
        if run.is_some() {
            match standalone::unpause(shared.clone(), container.clone()).await {
                Err(_) if is_over() => {}
                // Somebody was faster.
                Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
                other => other?,
            }
        }
        let layer = layer?;
        let held = shared.images.hold(&record.image_id);
        let held =
            held.ok_or_else(|| Error::not_found(format!("No such image: {}", record.image_name)))?;
        let base = shared.images.configuration(&held.image)?;
        let base = serde_json::from_slice(&base).context("read the image's configuration")?;
        let mut layers = shared.images.layers_of(&held.image)?;
        layers.push(layer);
        let (comment, name) = (about.comment.clone(), about.name.clone());
        let made = assemble(&shared, base, layers, about).await?;
        let reference = name.map(|name| name.familiar()).unwrap_or_default();
        let image = made.to_string();
        let act = Act::Commit { image: &image, reference: &reference, comment: &comment };
        shared.tell(&record, act);
        Ok(made)
    })
    .await
}

/// A container's changes as a layer.
async fn changes(shared: &Arc<Shared>, container: &Standalone) -> Result<LocalLayer> {
    let _at_rest = container.lock_if_at_rest().await;
    container.check_there(shared)?;
    let upper = shared.layout.container_root(&container.id).join("upper");
    if !upper.exists() {
        // It never ran.
        shared.layout.make_container_root(&container.id)?;
    }
    let upload = shared.images.begin_layer(None)?;
    let writer = upload.writer();
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = pack::write(&pack::open(&upper)?, writer)?;
        out.flush().context("write the archive")
    });
    let packed = packing.await.context("archive the container's changes")?;
    match (packed, upload.finish().await) {
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Ok(()), Ok(layer)) => Ok(layer),
    }
}

/// Makes an image of one layer.
pub(super) async fn import(
    shared: Arc<Shared>,
    layer: LocalLayer,
    about: About,
) -> Result<ImageId> {
    operation::run(async move {
        let platform = Platform::host();
        let base = json!({ "architecture": platform.architecture, "os": platform.os });
        let name = about.name.clone();
        let made = assemble(&shared, base, vec![layer], about).await?;
        let act = name.as_ref().map_or(ImageAct::Plain("import"), ImageAct::Import);
        shared.tell_of_image(&made, act);
        Ok(made)
    })
    .await
}

/// `base` is the configuration document to begin with.
async fn assemble(
    shared: &Shared,
    mut document: Value,
    layers: Vec<LocalLayer>,
    about: About,
) -> Result<ImageId> {
    let About { config, author, comment, created_by, name } = about;
    let created = jiff::Timestamp::now().to_string();
    let mut step = json!({ "created": created, "created_by": created_by, "comment": comment });
    if !author.is_empty() {
        step["author"] = json!(author);
    }
    let whole = document.as_object_mut().context("the image's configuration is no object")?;
    let mut history = match whole.remove("history") {
        Some(Value::Array(history)) => history,
        Some(_) | None => Vec::new(),
    };
    history.push(step);
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id().to_string()).collect();
    whole.insert("created".into(), json!(created));
    whole.insert("author".into(), json!(author));
    whole.insert("comment".into(), json!(comment));
    whole.insert("config".into(), config);
    whole.insert("history".into(), Value::Array(history));
    whole.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let document = serde_json::to_vec(&document).context("write the image's configuration")?;
    let tags = name.and_then(|name| name.tagged_name()).into_iter().collect();
    shared.images.assemble(document, layers, tags).await
}

/// Loads every image of an archive, plain or compressed.
pub(super) async fn load(shared: Arc<Shared>, upload: Upload) -> Result<Outcome> {
    let archive = upload.finish().await?;
    operation::run(async move {
        let layout = shared.layout.clone();
        let inflating =
            tokio::task::spawn_blocking(move || load::inflate(archive, || nameless(&layout)));
        let archive = inflating.await.context("read the archive")??;
        let outcome = load::load(&shared.images, archive).await?;
        for image in &outcome.images {
            shared.tell_of_image(&image.id, ImageAct::Plain("load"));
        }
        Ok(outcome)
    })
    .await
}

/// A file below the root directory that goes with its descriptor.
pub(super) fn nameless(layout: &super::layout::Layout) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(layout.root())
        .context("make a file for the archive")
}

/// An archive of the named images.
///
/// # Errors
/// `NotFound` for a name that none has.
pub(super) fn archive(shared: &Arc<Shared>, names: &[String]) -> Result<Pieces> {
    let mut all: Vec<Saved> = Vec::new();
    let found = names.iter().map(|name| saved(shared, name)).collect::<Result<Vec<_>>>()?;
    for mut found in found.into_iter().flatten() {
        match all.iter_mut().find(|known| known.held.image.id == found.held.image.id) {
            Some(known) => {
                found.tags.retain(|tag| !known.tags.contains(tag));
                known.tags.append(&mut found.tags);
            }
            None => all.push(found),
        }
    }
    for saved in &all {
        shared.tell_of_held_image(&saved.held.image, ImageAct::Plain("save"));
    }
    let shared = shared.clone();
    Ok(pieces::send(move |out| save(&shared.images, &all, Compression::NONE, out)))
}

/// Under the name that was asked for; a repository alone stands for all its tags. By its id an image has no name.
fn saved(shared: &Shared, name: &str) -> Result<Vec<Saved>> {
    let hold = |found: &str| {
        let held = shared.images.hold(found);
        held.ok_or_else(|| Error::not_found(format!("No such image: {name}")))
    };
    let mut all = Vec::new();
    if let Some(repository) = Reference::repository_alone(name) {
        let is_of_it = |tag: &&String| tag.rsplit_once(':').is_some_and(|it| it.0 == repository);
        for image in shared.images.list() {
            let tags: Vec<String> = image.tags.iter().filter(is_of_it).cloned().collect();
            if !tags.is_empty() {
                all.push(Saved { held: hold(&image.id.to_string())?, tags });
            }
        }
    }
    if all.is_empty() {
        let held = hold(name)?;
        let tag = Reference::parse(name).ok().and_then(|name| name.tagged_name());
        let tags = tag.filter(|tag| held.image.tags.contains(tag)).into_iter().collect();
        all.push(Saved { held, tags });
    }
    Ok(all)
}
