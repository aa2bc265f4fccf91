//! One build: its stages as tasks, and what they have in common.
//!
//! No task is broken off in the middle of a step: each looks whether it is still wanted, and a command
//! that runs is ended. So whatever comes, the cells are closed and nothing is left behind.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cais_dockerfile::Platform;
use rustix::fs::OFlags;
use serde_json::Value;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::key::Key;
use super::packages::{self, Inventory};
use super::plan::{Plan, image_platform, runs_here};
use super::progress::{Event, Failure, Teller};
use super::stage::{Finished, Stage};
use super::tidy::Tidy;
use super::{Builder, Client, Context, Named, Options};
use crate::engine::actions::ImageAct;
use crate::engine::cells::{Cell, Confinement};
use crate::engine::files::open_below;
use crate::error::{Context as _, Error, Result};
use crate::image::cache::{CacheStep, inline_records};
use crate::image::digest::Digest;
use crate::image::local::LocalLayer;
use crate::image::platform::Platform as ImagePlatform;
use crate::image::reference::Reference;
use crate::image::{Held, Image, ImageId, ImageStore, Keep, Stack, StackedLayer};

/// The argument by which all times of an image are one, seconds since the epoch.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

pub(super) struct Build {
    pub(super) builder: Builder,
    client: Arc<dyn Client>,
    /// By their names; the build's own has none. They go when the stages are done.
    contexts: Mutex<BTreeMap<Option<String>, Arc<OnceCell<Context>>>>,
    pub(super) options: Options,
    pub(super) plan: Plan,
    pub(super) teller: Teller,
    /// Nobody wants it any more, or a stage has failed.
    pub(super) cancel: CancellationToken,
    /// Of the image and its steps, RFC 3339.
    pub(super) created: String,
    /// No file of a layer is later: seconds since the epoch.
    pub(super) latest: Option<i64>,
    stages: BTreeMap<usize, watch::Sender<Option<Arc<Finished>>>>,
    images: Mutex<BTreeMap<(String, String), Arc<OneImage>>>,
    cells: Mutex<Vec<Arc<Cell>>>,
    made: Mutex<Made>,
    /// Those that have a layer, found or made.
    steps: Mutex<Vec<CacheStep>>,
    /// The last of it that goes.
    _tidy: Tidy,
}

/// Looked for once, for all that name it.
type OneImage = OnceCell<Arc<BaseImage>>;

/// An image that stages are built on or copy from.
pub(super) struct BaseImage {
    /// Or its id, as it was looked for.
    name: String,
    pub(super) image: Arc<Image>,
    /// Its configuration.
    pub(super) document: Vec<u8>,
    pub(super) stack: Stack,
}

impl BaseImage {
    /// What another build made, and the store has no image of.
    async fn built(name: &str, built: &Built) -> Result<Self> {
        let (document, _) = built.build.described(&built.finished).await?;
        let stack = built.finished.stack.clone();
        let held = built.build.store().hold_stack(document.clone(), &stack).await?;
        Ok(Self { name: name.to_owned(), image: held.image.clone(), document, stack })
    }

    /// Of its files.
    pub(super) fn key(&self) -> Digest {
        let layers = self.image.layers.iter().map(|layer| layer.as_str());
        Key::new("image").with_all("layers", layers).finish()
    }
}

/// What goes into the cache.
#[derive(Default)]
struct Made {
    layers: Vec<Keep>,
    used: Vec<Digest>,
}

/// An image that a build stands on, or copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// As it was looked for: a client may mean another one than the Dockerfile says.
    pub(crate) name: Reference,
    pub(crate) platform: String,
    /// Of what the registry has under the name.
    pub(crate) digest: Digest,
}

/// Which steps of a build a cache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Those whose layers the image has.
    Image,
    All,
}

impl Build {
    pub(super) fn new(
        builder: Builder,
        client: Arc<dyn Client>,
        options: Options,
        plan: Plan,
        teller: Teller,
    ) -> Self {
        let stages = plan.needed.iter().map(|index| (*index, watch::Sender::new(None))).collect();
        let epoch = plan.build_args.get(EPOCH).and_then(|seconds| seconds.parse().ok());
        let epoch = epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        Self {
            _tidy: Tidy(builder.clone()),
            builder,
            client,
            contexts: Mutex::default(),
            options,
            plan,
            teller,
            cancel: CancellationToken::new(),
            latest: epoch.map(jiff::Timestamp::as_second),
            created: epoch.unwrap_or_else(jiff::Timestamp::now).to_string(),
            stages,
            images: Mutex::default(),
            cells: Mutex::default(),
            made: Mutex::default(),
            steps: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    pub(super) fn store(&self) -> &ImageStore {
        self.builder.engine.images()
    }

    /// To its end, which is told in any case.
    pub(super) async fn run(self: Arc<Self>) {
        let teller = self.teller.clone();
        let tags = self.options.tags.clone();
        // Who hears of the end may prune at once: nothing keeps layers from it any more.
        let outcome = match self.built().await {
            Ok(built) => built.image(&tags).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        teller.tell(Event::Ended(outcome)).await;
    }

    /// All stages that the target needs.
    pub(super) async fn built(self: Arc<Self>) -> Result<Built, Failure> {
        self.teller.tell(Event::Planned(self.plan.steps())).await;
        let (listener, cancel) = (self.teller.clone(), self.cancel.clone());
        let watching = tokio::spawn(async move {
            listener.0.closed().await;
            cancel.cancel();
        });
        let outcome = self.stages().await;
        watching.abort();
        lock(&self.contexts).clear();
        self.close_cells().await;
        let kept = self.keep().await.context("keep what the build made");
        let outcome = match (outcome, kept) {
            (Ok(finished), Ok(())) => Ok(Built { build: self.clone(), finished }),
            // What the next build is not told of is no image.
            (Ok(_), Err(error)) => Err(error.into()),
            (Err(failure), kept) => {
                if let Err(error) = kept {
                    tracing::warn!(error = error.chain(), "a failed build");
                }
                Err(failure)
            }
        };
        if let Err(failure) = &outcome {
            tracing::info!(error = failure.error.chain(), "a build failed");
        }
        outcome
    }

    /// Fetched when the first step needs it.
    pub(super) async fn context(&self) -> Result<Context, Failure> {
        let cell = lock(&self.contexts).entry(None).or_default().clone();
        let fetched = cell.get_or_try_init(|| self.client.context());
        Ok(self.unless_cancelled(fetched).await??.clone())
    }

    /// The same for files that the client gives this name to, if it does.
    pub(super) async fn named_context(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Result<Option<Context>, Failure> {
        let Some(Named::Files(key)) = self.options.named.find(name, platform) else {
            return Ok(None);
        };
        let cell = lock(&self.contexts).entry(Some(key.clone())).or_default().clone();
        let fetched = cell.get_or_try_init(|| self.client.named_context(key));
        Ok(Some(self.unless_cancelled(fetched).await??.clone()))
    }

    pub(super) async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.unless_cancelled(self.client.secret(id)).await??)
    }

    /// Waits for something, and no longer than the build goes on.
    pub(super) async fn unless_cancelled<T>(
        &self,
        what: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            it = what => Ok(it),
            () = self.cancel.cancelled() => Err(Failure::cancelled()),
        }
    }

    /// The target, when all stages that it needs are done. After a failure no stage goes on.
    async fn stages(self: &Arc<Self>) -> Result<Arc<Finished>, Failure> {
        let mut tasks = JoinSet::new();
        for index in &self.plan.needed {
            tasks.spawn(Stage::build(self.clone(), *index));
        }
        let mut failure = None;
        while let Some(joined) = tasks.join_next().await {
            let ended = joined.unwrap_or_else(|error| {
                Err(Error::internal(format!("a stage ended early: {error}")).into())
            });
            if let Err(error) = ended {
                self.cancel.cancel();
                // The others end because of it.
                failure.get_or_insert(error);
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => self.finished(self.plan.target).await,
        }
    }

    /// Waits until a stage is done.
    pub(super) async fn finished(&self, stage: usize) -> Result<Arc<Finished>, Failure> {
        let unknown = || Error::internal(format!("stage {stage} is not a part of the build"));
        let mut done = self.stages.get(&stage).ok_or_else(unknown)?.subscribe();
        let found = tokio::select! {
            done = done.wait_for(Option::is_some) => done.ok().and_then(|done| done.clone()),
            () = self.cancel.cancelled() => None,
        };
        found.ok_or_else(Failure::cancelled)
    }

    pub(super) fn stage_done(&self, stage: usize, finished: Arc<Finished>) {
        if let Some(sender) = self.stages.get(&stage) {
            sender.send_replace(Some(finished));
        }
    }

    /// An image by its name, from its registry if it is not here or is to be asked for anew. All
    /// stages see the same one.
    pub(super) async fn image(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Result<Arc<BaseImage>, Failure> {
        let key = (name.to_owned(), platform.to_string());
        let cell = lock(&self.images).entry(key).or_default().clone();
        cell.get_or_try_init(|| self.resolve(name, platform)).await.cloned()
    }

    async fn resolve(&self, name: &str, platform: &Platform) -> Result<Arc<BaseImage>, Failure> {
        let name = match self.options.named.find(name, platform) {
            Some(Named::Image(reference)) => reference,
            Some(Named::Built(built)) => {
                return Ok(Arc::new(BaseImage::built(name, built).await?));
            }
            Some(Named::Files(_)) => {
                return Err(Error::internal(format!("{name} is files, and no image")).into());
            }
            None => name,
        };
        let is_foreign = runs_here(platform).is_err();
        let present = self.store().resolve(name).filter(|image| {
            let own = &image.config.platform;
            let fits = match (is_foreign, own.architecture.as_str()) {
                (true, architecture) => architecture == platform.architecture,
                (false, "") => true,
                (false, architecture) => {
                    let own = ImagePlatform::new(architecture, own.variant.as_deref());
                    ImagePlatform::host().runs(&own)
                }
            };
            // Of what a client names by its id no registry has another one.
            fits && (!self.options.pulls || name.starts_with("sha256:"))
        });
        let image = match present {
            Some(image) => image,
            None => self.pull(name, Some(platform).filter(|_| is_foreign)).await?,
        };
        let document = self.store().configuration(&image)?;
        let stack = self.store().stack_of(&image)?;
        Ok(Arc::new(BaseImage { name: name.to_owned(), image, document, stack }))
    }

    /// `other`: for another machine.
    async fn pull(&self, name: &str, other: Option<&Platform>) -> Result<Arc<Image>, Failure> {
        let reference = Reference::parse(name)?;
        let credentials = self.client.credentials(reference.registry());
        let credentials = self.unless_cancelled(credentials).await??;
        let pull = match other {
            None => self.store().begin_pull(reference.clone(), credentials),
            Some(other) => {
                let other = image_platform(other);
                self.store().begin_pull_for(other, reference.clone(), credentials)
            }
        };
        // Without us it goes on for whoever asks next.
        let id = self.unless_cancelled(pull.done()).await??;
        self.builder.engine.image_done(&id, ImageAct::Pull(&reference));
        let image = self.store().resolve(&id.to_string());
        Ok(image.ok_or_else(|| Error::not_found(format!("No such image: {name}")))?)
    }

    /// A cell that is closed at the end of the build.
    pub(super) async fn open_cell(&self, confinement: Confinement) -> Result<Arc<Cell>> {
        let config = self.options.cells.clone();
        let cell = Arc::new(self.builder.engine.open_cell(confinement, config).await?);
        lock(&self.cells).push(cell.clone());
        Ok(cell)
    }

    async fn close_cells(&self) {
        let cells = std::mem::take(&mut *lock(&self.cells));
        for cell in cells {
            if let Err(error) = cell.close().await {
                tracing::error!(error = error.chain(), "close a cell of a build");
            }
        }
    }

    pub(super) fn step_done(&self, key: Digest, layer: StackedLayer) {
        lock(&self.steps).push(CacheStep { key, layer });
    }

    /// The steps that are done, and their layers by themselves.
    fn done(&self) -> (Vec<CacheStep>, Vec<StackedLayer>) {
        let steps = lock(&self.steps).clone();
        let layers = steps.iter().map(|step| step.layer.clone()).collect();
        (steps, layers)
    }

    pub(super) fn layer_made(&self, layer: Keep) {
        lock(&self.made).layers.push(layer);
    }

    pub(super) fn layer_used(&self, key: Digest) {
        lock(&self.made).used.push(key);
    }

    async fn keep(&self) -> Result<()> {
        let Made { layers, used } = std::mem::take(&mut *lock(&self.made));
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default();
        self.store().kept_used(&used, now)?;
        match layers.is_empty() {
            true => Ok(()),
            false => self.store().keep(layers, now).await,
        }
    }

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

/// What a build came to. It keeps the layers from removal.
pub(crate) struct Built {
    // Before the build, whose end begins the tidying.
    finished: Arc<Finished>,
    build: Arc<Build>,
}

impl Built {
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
        let (document, _) = self.build.described(&self.finished).await?;
        self.build.store().hold_stack(document, &self.finished.stack).await
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

/// The digest among an image's that the name's repository has.
fn digest_at(name: &Reference, digests: &[String]) -> Option<Digest> {
    let own = digests.iter().filter_map(|known| Reference::parse(known).ok());
    own.filter(|known| known.name() == name.name()).find_map(|known| known.digest().cloned())
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_digest_for_each_repository() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let digests = [format!("x.io/other@{one}"), format!("docker.io/library/busybox@{two}")];
        let of = |name: &str| digest_at(&Reference::parse(name).unwrap(), &digests);
        assert_eq!((of("x.io/other:v1"), of("busybox")), (Some(one), Some(two)));
        assert_eq!(of("local/made"), None);
    }
}
