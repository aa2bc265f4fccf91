//! The builder: Dockerfiles into images, in this process and without a step that exports anything.
//!
//! ```text
//!   a door ──▶ Context (files) + Options ──▶ prepare: Dockerfile, plan ──▶ Build ──▶ Events ──▶ the door
//!                                                                           │
//!       one task for each stage that the target needs; each waits for those it needs
//!                                                                           │
//!       instruction ─▶ key ─▶ kept layer?  ─▶ on the stack                  ▼
//!                        └──▶ Site (overlay) ─▶ copy | run in a cell ─▶ layer, hashed meanwhile
//! ```
//!
//! It knows no door: what a door has of its own comes as [`Options`] and leaves as [`Event`]s. Layers,
//! and what is kept of them to be found again, are the image store's; commands run in the engine's
//! cells, confined as every container is. A build ends when nobody listens to its events any more; it
//! then leaves what it has made so far in the cache, and nothing else.
//!
//! Begin reading at `stage`.

mod agents;
mod bases;
mod build;
mod built;
mod cached;
mod client;
mod context;
mod copy;
mod copying;
mod download;
mod filter;
mod git;
mod key;
mod mounts;
mod named;
mod packages;
mod plan;
mod portable;
mod progress;
mod remote;
mod running;
mod scanned;
mod secrets;
mod settings;
mod stage;
mod stubs;
mod synced;
mod tidy;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use cais_dockerfile::instruction::boolean;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::bases::Base;
use self::build::Build;
pub(crate) use self::built::{Built, Extent};
pub(crate) use self::cached::{Cached, Prune, Room};
pub(crate) use self::client::{Client, Sent};
pub(crate) use self::context::{Context, ContextUpload, Directory};
use self::copy::Contents;
pub(crate) use self::download::without_secrets;
pub(crate) use self::filter::Filter;
pub(crate) use self::named::{Named, Names, context_name};
pub(crate) use self::packages::{Inventory, Package, PackageKind};
use self::plan::Plan;
pub(crate) use self::plan::image_platform;
use self::progress::Teller;
pub(crate) use self::progress::{Event, Failure, Progress, Step};
pub(crate) use self::remote::{Address, DOCKERFILE, FetchedContext};
pub(crate) use self::scanned::Scanned;
pub(crate) use self::synced::{Entry, Synced, goes_along};
use self::tidy::Rounds;
use crate::engine::Engine;
use crate::engine::cells::{CellConfig, CellNetwork};
use crate::error::{Context as _, Result};
use crate::image::cache::Source;
use crate::image::reference::Reference;

const KEEPS_GIT: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// A handle on the builder; cheap to clone.
#[derive(Clone)]
pub(crate) struct Builder {
    engine: Engine,
    /// Cache mounts that one command at a time may have, by id.
    locks: CacheLocks,
    rounds: Rounds,
    contents: Contents,
}

type CacheLocks = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// What is asked of a build.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of clients")]
pub(crate) struct Options {
    /// Below the context's root.
    pub(crate) dockerfile: String,
    /// A stage; empty: the last.
    pub(crate) target: String,
    /// One without a value is not set.
    pub(crate) build_args: BTreeMap<String, Option<String>>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) tags: Vec<Reference>,
    /// Layers are made, whatever is kept.
    pub(crate) is_without_cache: bool,
    /// The same for these stages.
    pub(crate) stages_without_cache: Vec<String>,
    /// What FROM and `--from` mean by names of the client's (`--build-context`).
    pub(crate) named: Names,
    /// Images are asked for at their registries, whatever is here.
    pub(crate) pulls: bool,
    /// Of RUN, where it says nothing itself.
    pub(crate) network: CellNetwork,
    /// A command may be privileged (`RUN --security=insecure`): the client allows it, and the daemon the client.
    pub(crate) allows_insecure: bool,
    pub(crate) cells: CellConfig,
    /// `os/architecture`; empty: the host's.
    pub(crate) platform: String,
    /// Where layers are looked for that are not here.
    pub(crate) caches: Vec<Arc<dyn Source>>,
    /// The image's configuration tells which steps made its layers.
    pub(crate) has_inline_cache: bool,
}

impl Options {
    /// Whether `.git` is a part of a context from git: an argument that BuildKit has for it.
    pub(crate) fn keeps_git(&self) -> bool {
        let given = self.build_args.get(KEEPS_GIT).and_then(Option::as_deref);
        given.and_then(boolean) == Some(true)
    }

    /// The arguments that have a value: one without is one that the client does not have.
    pub(crate) fn given_args(&self) -> BTreeMap<String, String> {
        let all = self.build_args.iter();
        all.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
    }
}

impl Builder {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            locks: CacheLocks::default(),
            rounds: Rounds::default(),
            contents: Contents::default(),
        }
    }

    /// Room for the files that a client sends; it is given back when nothing comes of it.
    pub(crate) fn begin_context(&self) -> Result<ContextUpload> {
        ContextUpload::begin(self.engine.images())
    }

    /// A client's directory where it is. The `.dockerignore` that was sent says what of it counts.
    ///
    /// # Errors
    /// `WrongState` if it is not the directory that the client means.
    pub(crate) async fn context_in_place(
        &self,
        sent: &Context,
        directory: Directory,
    ) -> Result<Context> {
        let sent = sent.clone();
        blocking(move || {
            let ignore = sent.ignore_text()?;
            Context::in_place(&directory, ignore.as_deref())
        })
        .await
    }

    /// Reads the Dockerfile that was sent with the context.
    ///
    /// # Errors
    /// `InvalidArgument` for one that is missing or wrong, in BuildKit's words.
    pub(crate) async fn prepare_sent(
        &self,
        context: Context,
        client: Arc<dyn Client>,
        options: Options,
    ) -> Result<Prepared> {
        let name = options.dockerfile.clone();
        let text = blocking(move || plan::dockerfile_of(&context, &name)).await?;
        let prepared = self.prepare(&text, client, options);
        prepared.map_err(|failure| failure.error)
    }

    /// Reads a Dockerfile.
    ///
    /// # Errors
    /// `InvalidArgument` for one that is wrong, in BuildKit's words.
    pub(crate) fn prepare(
        &self,
        text: &str,
        client: Arc<dyn Client>,
        options: Options,
    ) -> Result<Prepared, Failure> {
        let plan = Plan::of(text, &options)?;
        Ok(Prepared { builder: self.clone(), client, options, plan })
    }

    /// Room for the files of a client that keeps its own in step with ours.
    pub(crate) fn begin_sync(&self) -> Result<Synced> {
        Synced::begin(self.engine.images())
    }
}

/// Runs file system work on a thread that may block, to its end.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a part of a build")?
}

/// A build that may begin.
pub(crate) struct Prepared {
    builder: Builder,
    client: Arc<dyn Client>,
    options: Options,
    plan: Plan,
}

impl Prepared {
    /// Begins the build. It is cancelled when the receiver of its events is dropped.
    pub(crate) fn start(self, events: mpsc::Sender<Event>) {
        tokio::spawn(self.build(events).run());
    }

    /// The same, up to what an image is made of.
    pub(crate) fn start_stages(
        self,
        events: mpsc::Sender<Event>,
    ) -> oneshot::Receiver<Result<Built, Failure>> {
        let (sender, built) = oneshot::channel();
        let build = self.build(events);
        tokio::spawn(async move {
            // Who does not wait for it any more has no use for it.
            let _ = sender.send(build.built().await);
        });
        built
    }

    fn build(self, events: mpsc::Sender<Event>) -> Arc<Build> {
        let Self { builder, client, options, plan } = self;
        Arc::new(Build::new(builder, client, options, plan, Teller(events)))
    }
}
