//! One build: its stages as tasks, and what they have in common.
//!
//! No task is broken off in the middle of a step: each looks whether it is still wanted, and a command
//! that runs is ended. So whatever comes, the cells are closed and nothing is left behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cais_dockerfile::Platform;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bases::OneImage;
use super::built::Built;
use super::plan::Plan;
use super::progress::{Event, Failure, Teller};
use super::stage::{Finished, Stage};
use super::tidy::Tidy;
use super::{Builder, Client, Context, Named, Options};
use crate::engine::cells::{Cell, Confinement};
use crate::error::{Context as _, Error, Result};
use crate::image::cache::CacheStep;
use crate::image::digest::Digest;
use crate::image::{ImageStore, Keep, StackedLayer};

/// The argument by which all times of an image are one, seconds since the epoch.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

pub(super) struct Build {
    pub(super) builder: Builder,
    pub(super) client: Arc<dyn Client>,
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
    pub(super) stages: BTreeMap<usize, watch::Sender<Option<Arc<Finished>>>>,
    pub(super) images: Mutex<BTreeMap<(String, String), Arc<OneImage>>>,
    cells: Mutex<Vec<Arc<Cell>>>,
    made: Mutex<Made>,
    /// Those that have a layer, found or made.
    steps: Mutex<Vec<CacheStep>>,
    /// The last of it that goes.
    _tidy: Tidy,
}

/// What goes into the cache.
#[derive(Default)]
struct Made {
    layers: Vec<Keep>,
    used: Vec<Digest>,
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
            (Ok(finished), Ok(())) => Ok(Built::of(self.clone(), finished)),
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
    pub(super) fn done(&self) -> (Vec<CacheStep>, Vec<StackedLayer>) {
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
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
