//! What a build came to: an image, its configuration, its files, and what is told of how it was made.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use serde_json::Value;
use tokio::sync::watch;

use super::bases::{Base, BaseImage, OneImage, digest_at};
use super::build::{Build, EPOCH, lock};
use super::packages::{self, Inventory};
use super::stage::Finished;
use crate::engine::actions::ImageAct;
use crate::engine::files::open_below;
use crate::error::{Context as _, Result};
use crate::image::cache::{CacheStep, inline_records};
use crate::image::digest::Digest;
use crate::image::local::LocalLayer;
use crate::image::reference::Reference;
use crate::image::{Held, ImageId, ImageStore, Stack};

/// Which steps of a build a cache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Those whose layers the image has.
    Image,
    All,
}

/// What a build came to. It keeps the layers from removal.
pub(crate) struct Built {
    // Before the build, whose end begins the tidying.
    finished: Arc<Finished>,
    build: Arc<Build>,
}

impl Built {
    pub(super) fn of(build: Arc<Build>, finished: Arc<Finished>) -> Self {
        Self { finished, build }
    }

    pub(super) fn stack(&self) -> Stack {
        self.finished.stack.clone()
    }

    /// Makes an image of it, under these names.
    pub(crate) async fn image(&self, tags: &[Reference]) -> Result<ImageId> {
        self.build.assemble(&self.finished, tags).await
    }

    /// The configuration of that image.
    pub(crate) async fn document(&self) -> Result<Vec<u8>> {
        Ok(self.build.described(&self.finished).await?.0)
    }

    /// The same image for somebody else: the store does not get it.
    pub(crate) async fn held(&self) -> Result<Held> {
        Ok(self.described().await?.1)
    }

    /// And its configuration.
    pub(super) async fn described(&self) -> Result<(Vec<u8>, Held)> {
        let document = self.document().await?;
        let held = self.build.store().hold_stack(document.clone(), &self.finished.stack).await?;
        Ok((document, held))
    }

    /// Its stages that were built, by their places and names.
    pub(super) fn stages(&self) -> Vec<(usize, String, Self)> {
        let found = |(index, stage): (&usize, &watch::Sender<Option<Arc<Finished>>>)| {
            let finished = stage.borrow().clone()?;
            let name = self.build.plan.stage_name(*index);
            Some((*index, name, Self::of(self.build.clone(), finished)))
        };
        self.build.stages.iter().filter_map(found).collect()
    }

    pub(super) fn target(&self) -> usize {
        self.build.plan.target
    }

    /// The value of an argument that an ARG of the stage, or of one below it, gives it last.
    pub(super) fn argument(&self, name: &str) -> Option<&str> {
        let args = self.finished.scope.args.iter().rev();
        args.filter(|arg| arg.name == name).find_map(|arg| arg.default.as_deref())
    }

    /// The same of an ARG before all stages.
    pub(super) fn global(&self, name: &str) -> Option<&str> {
        self.build.plan.globals.get(name)
    }

    /// The images that it was made from, as far as they come from registries.
    pub(crate) fn bases(&self) -> Vec<Base> {
        let images = lock(&self.build.images);
        let base = |((_, platform), cell): (&(String, String), &Arc<OneImage>)| {
            let BaseImage { name, image, .. } = &**cell.get()?;
            let name = Reference::parse(name).ok()?;
            let digest = digest_at(&name, &image.digests)?;
            Some(Base { name, platform: platform.clone(), digest })
        };
        let mut bases: Vec<Base> = Vec::new();
        for base in images.iter().filter_map(base) {
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
        bases
    }

    /// The layers of its steps, by their keys.
    pub(crate) async fn steps(&self, extent: Extent) -> Result<Vec<CacheStep>> {
        let (steps, layers) = self.build.done();
        if extent == Extent::All {
            return Ok(steps);
        }
        let store = self.build.store();
        let own = store.diff_ids(self.finished.stack.layers()).await?;
        let made = store.diff_ids(&layers).await?;
        let of_image = steps.into_iter().zip(made).filter(|(_, diff_id)| own.contains(diff_id));
        Ok(of_image.map(|(step, _)| step).collect())
    }

    /// The packages in it.
    pub(crate) async fn inventory(&self) -> Result<Inventory> {
        let (store, stack) = (self.build.store().clone(), self.finished.stack.clone());
        super::blocking(move || packages::inventory(&root_of(&store, &stack)?)).await
    }

    /// All its files, mounted read-only, and their root opened to be listed; blocks.
    pub(crate) fn files(&self) -> Result<OwnedFd> {
        root_of(self.build.store(), &self.finished.stack)
    }
}

fn root_of(store: &ImageStore, stack: &Stack) -> Result<OwnedFd> {
    let mount = store.mount_stack(stack, None)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    open_below(&mount, Path::new(""), flags).context("open the root")
}

impl Build {
    async fn assemble(&self, finished: &Finished, tags: &[Reference]) -> Result<ImageId> {
        let (document, layers) = self.described(finished).await?;
        let names = tags.iter().filter_map(Reference::tagged_name).collect();
        let id = self.store().assemble_unsynced(document, layers, names).await?;
        for tag in tags {
            self.builder.engine.image_done(&id, ImageAct::Tag(tag));
        }
        Ok(id)
    }

    /// The configuration of an image, and its layers.
    async fn described(&self, finished: &Finished) -> Result<(Vec<u8>, Vec<LocalLayer>)> {
        let layers = self.store().layers_of_stack(&finished.stack).await?;
        let diff_ids: Vec<Digest> = layers.iter().map(LocalLayer::diff_id).cloned().collect();
        let mut settings = finished.settings.clone();
        for (key, value) in &self.options.labels {
            settings.add_label(key, value);
        }
        if self.options.has_inline_cache {
            settings.set_inline_cache(&self.inline_cache(&diff_ids).await?);
        }
        let shown: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
        let document = settings.document(&self.created, &shown)?;
        let document = self.same_but_older(&document, &diff_ids).unwrap_or(document);
        Ok((document, layers))
    }

    /// The records of an image's own layers.
    async fn inline_cache(&self, diff_ids: &[Digest]) -> Result<String> {
        let (steps, layers) = self.done();
        let made = self.store().diff_ids(&layers).await?;
        let records = steps.into_iter().zip(made).filter_map(|(step, diff_id)| {
            let place = diff_ids.iter().position(|known| *known == diff_id)?;
            Some((step.key, place))
        });
        inline_records(&records.collect::<Vec<_>>())
    }

    /// The document of an image that differs in its times alone: a build that changes nothing comes to
    /// the image that is there.
    fn same_but_older(&self, document: &[u8], diff_ids: &[Digest]) -> Option<Vec<u8>> {
        if self.plan.build_args.contains_key(EPOCH) {
            return None;
        }
        let wanted = timeless(document)?;
        self.store().list().iter().find_map(|image| {
            let layers = self.store().layer_sizes(image);
            if !layers.iter().map(|(diff_id, _)| diff_id).eq(diff_ids) {
                return None;
            }
            let found = self.store().configuration(image).ok()?;
            (timeless(&found)? == wanted).then_some(found)
        })
    }
}

/// A configuration document without its times.
fn timeless(document: &[u8]) -> Option<Value> {
    let mut document: Value = serde_json::from_slice(document).ok()?;
    document.as_object_mut()?.remove("created");
    if let Some(history) = document.get_mut("history").and_then(Value::as_array_mut) {
        for step in history.iter_mut().filter_map(Value::as_object_mut) {
            step.remove("created");
        }
    }
    Some(document)
}
