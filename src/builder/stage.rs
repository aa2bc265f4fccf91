//! A stage: its base, and its instructions one after the other.
//!
//! What an instruction changes of files becomes a layer under a key ([`super::key`]); what it changes
//! of settings is written down and costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_dockerfile::history::{self, Shown};
use cais_dockerfile::instruction::{CommandLine, Healthcheck};
use cais_dockerfile::{Base, Command, Instruction, Platform, Scope, Source, expose, signal};
use serde_json::{Value, json};

use super::Options;
use super::build::Build;
use super::copy::make_directory;
use super::key::Key;
use super::plan::refused;
use super::progress::{Failure, Progress};
use super::settings::Settings;
use crate::engine::cells::{Cell, Confinement, owner_in};
use crate::engine::files::{below_root, open_below};
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::{Keep, Stack, StackedLayer};

/// What is known of a layer that no step made here.
const IMPORTED: &str = "imported from a cache";

/// What a stage came to.
pub(super) struct Finished {
    pub(super) stack: Stack,
    pub(super) settings: Settings,
    pub(super) key: Digest,
    pub(super) scope: Scope,
}

/// A stage that is being built.
pub(super) struct Stage {
    pub(super) build: Arc<Build>,
    /// As FROM has it; may be empty.
    name: String,
    /// What its programs are for.
    pub(super) platform: Platform,
    /// The number of the step that is being done.
    step: usize,
    pub(super) stack: Stack,
    pub(super) settings: Settings,
    pub(super) scope: Scope,
    /// What all files so far were made from.
    pub(super) key: Digest,
    cache: CacheState,
    pub(super) cells: BTreeMap<Confinement, Arc<Cell>>,
}

/// Whether the layers of this stage were there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CacheState {
    /// There was none to look for.
    NotAsked,
    Hit,
    Missed,
}

impl Stage {
    pub(super) async fn build(build: Arc<Build>, index: usize) -> Result<(), Failure> {
        let step = build.plan.first_steps.get(&index).copied().unwrap_or_default();
        let range = build.plan.dockerfile.stages.get(index).map(|stage| stage.range);
        let begun = Self::begin(&build, index, step).await;
        let mut stage = begun.map_err(|failure| failure.at(range.unwrap_or_default()).of(step))?;
        stage.triggers(index).await.map_err(|failure| failure.of(step))?;
        let written = build.plan.dockerfile.stages.get(index);
        let sources = build.plan.graph.sources.get(index).map(Vec::as_slice).unwrap_or_default();
        let instructions = written.iter().flat_map(|stage| &stage.instructions);
        for (instruction, sources) in instructions.zip(sources) {
            if build.cancel.is_cancelled() {
                return Err(Failure::cancelled());
            }
            stage.step += 1;
            stage.tell(Progress::Started).await;
            let done = stage.instruction(instruction, sources).await;
            done.map_err(|failure| failure.at(instruction.range).of(stage.step))?;
            stage.tell(Progress::Done(stage.id()?)).await;
        }
        let Self { stack, settings, key, scope, .. } = stage;
        build.stage_done(index, Arc::new(Finished { stack, settings, key, scope }));
        Ok(())
    }

    async fn begin(build: &Arc<Build>, index: usize, step: usize) -> Result<Self, Failure> {
        build.teller.step(step, Progress::Started).await;
        let base = build.plan.graph.bases.get(index).cloned().unwrap_or(Base::Scratch);
        let written = build.plan.dockerfile.stages.get(index);
        let platform = build.plan.platforms.get(&index).cloned().unwrap_or_else(Platform::host);
        let mut stage = Self {
            build: build.clone(),
            name: written.and_then(|stage| stage.name.clone()).unwrap_or_default(),
            step,
            stack: Stack::default(),
            settings: Settings::scratch(&platform),
            platform,
            scope: Scope::default(),
            key: Key::new("scratch").finish(),
            cache: CacheState::NotAsked,
            cells: BTreeMap::new(),
        };
        let mut shown = None;
        match base {
            Base::Scratch => stage.scope = stage.settings.scope(),
            Base::Stage(other) => {
                let finished = build.finished(other).await?;
                stage.stack = finished.stack.clone();
                stage.settings = finished.settings.clone();
                stage.scope = finished.scope.child();
                stage.key = finished.key.clone();
            }
            Base::Image(name) => {
                if let Some(files) = build.named_context(&name, &stage.platform).await? {
                    stage.scope = stage.settings.scope();
                    stage.files(files, &format!("FROM {name}")).await?;
                    build.teller.step(step, Progress::Done(stage.id()?)).await;
                    return Ok(stage);
                }
                let base = build.image(&name, &stage.platform).await?;
                stage.stack = base.stack.clone();
                stage.settings = Settings::of(&base.document)?;
                stage.scope = stage.settings.scope();
                stage.key = base.key();
                shown = Some(base.image.id.hex().to_owned());
            }
        }
        let shown = match shown {
            Some(id) => id,
            None => stage.id()?,
        };
        build.teller.step(step, Progress::Done(shown)).await;
        Ok(stage)
    }

    /// What the base image asks of those that are built upon it.
    async fn triggers(&mut self, index: usize) -> Result<(), Failure> {
        let triggers = self.settings.take_triggers();
        if triggers.is_empty() {
            return Ok(());
        }
        let build = self.build.clone();
        let range = build.plan.dockerfile.stages.get(index).map(|stage| stage.range);
        let count = triggers.len();
        let plural = if count == 1 { "" } else { "s" };
        self.tell(Progress::Note(format!("# Executing {count} build trigger{plural}\n"))).await;
        for trigger in triggers {
            let instruction = Instruction::from_trigger(&trigger, range.unwrap_or_default());
            let instruction = instruction.map_err(|error| refused(&error))?;
            let sources = build.plan.dockerfile.sources(&instruction);
            let sources = sources.map_err(|fault| Error::invalid(fault.message))?;
            self.instruction(&instruction, &sources).await?;
        }
        Ok(())
    }

    pub(super) async fn tell(&self, progress: Progress) {
        self.build.teller.step(self.step, progress).await;
    }

    /// By which people tell one step from another.
    fn id(&self) -> Result<String> {
        let settings = self.settings.document("", &[])?;
        let step = Key::new("step").with("files", self.key.hex()).with("settings", settings);
        Ok(step.finish().hex().to_owned())
    }

    async fn instruction(
        &mut self,
        written: &Instruction,
        sources: &[Source],
    ) -> Result<(), Failure> {
        let build = self.build.clone();
        let plan = &build.plan;
        let expander = plan.expander();
        let applied = self.scope.apply(written, &expander, &plan.globals, &plan.build_args);
        let instruction = applied.map_err(|error| refused(&error))?;
        let by = self.history(&instruction)?;
        match &instruction.command {
            Command::Run(run) => Box::pin(self.run(run, sources, &by)).await,
            Command::Copy(copy) => Box::pin(self.copy(copy, sources.first(), &by)).await,
            Command::Add(add) => Box::pin(self.add(add, &by)).await,
            Command::Workdir(path) => Box::pin(self.workdir(path)).await,
            Command::Arg(_)
            | Command::Cmd(_)
            | Command::Entrypoint(_)
            | Command::Env(_)
            | Command::Expose(_)
            | Command::Healthcheck(_)
            | Command::Label(_)
            | Command::Maintainer(_)
            | Command::Onbuild(_)
            | Command::Shell(_)
            | Command::Stopsignal(_)
            | Command::User(_)
            | Command::Volume(_) => {
                self.change(&instruction.command)?;
                self.settings.add_history(&self.build.created, &by, false);
                if self.cache == CacheState::Hit {
                    self.tell(Progress::Cached).await;
                }
                Ok(())
            }
        }
    }

    /// What the image says of a step, in BuildKit's words.
    fn history(&self, expanded: &Instruction) -> Result<String> {
        let (shell, workdir) = (self.settings.shell(), self.settings.working_dir());
        let shown = Shown { shell: &shell, workdir: &workdir };
        let expander = self.build.plan.expander();
        let entry = history::entry(expanded, &expander, &self.scope, &shown);
        let entry = entry.map_err(|fault| Error::invalid(fault.message))?;
        // The one that has none there is seen here.
        Ok(entry.map_or_else(|| expanded.code.trim().to_owned(), |entry| entry.text))
    }

    /// The settings that an instruction changes.
    fn change(&mut self, command: &Command) -> Result<()> {
        let settings = &mut self.settings;
        match command {
            Command::Env(pairs) => {
                pairs.iter().for_each(|pair| settings.set_env(&pair.name, &pair.value));
            }
            Command::Label(pairs) => {
                pairs.iter().for_each(|pair| settings.add_label(&pair.name, &pair.value));
            }
            Command::Cmd(line) => {
                let words = words(settings, line);
                settings.set_cmd(&words);
            }
            Command::Entrypoint(line) => {
                let words = words(settings, line);
                settings.set_entrypoint(&words);
            }
            Command::Expose(written) => {
                let expander = self.build.plan.expander();
                let ports = expose::ports(written, &expander, &self.scope.env);
                let ports = ports.map_err(|fault| Error::invalid(fault.message))?;
                ports.iter().for_each(|port| settings.add_port(port));
            }
            Command::Healthcheck(check) => settings.set_healthcheck(healthcheck(check)),
            Command::Maintainer(author) => settings.set_author(author),
            Command::Onbuild(trigger) => settings.add_trigger(trigger),
            Command::Shell(shell) => settings.set_shell(shell),
            Command::Stopsignal(name) => {
                signal::check(name).map_err(Error::invalid)?;
                settings.set_stop_signal(name);
            }
            Command::User(user) => settings.set_user(user),
            Command::Volume(paths) => {
                if paths.iter().any(|path| path.trim().is_empty()) {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                paths.iter().for_each(|path| settings.add_volume(path));
            }
            // It is a matter of the scope; the others are more than settings.
            Command::Arg(_)
            | Command::Add(_)
            | Command::Copy(_)
            | Command::Run(_)
            | Command::Workdir(_) => {}
        }
        Ok(())
    }

    fn is_without_cache(&self) -> bool {
        let Options { is_without_cache, stages_without_cache, .. } = &self.build.options;
        let is_this = |name: &String| name.eq_ignore_ascii_case(&self.name);
        *is_without_cache || stages_without_cache.iter().any(is_this)
    }

    /// The layer that was kept under this key, unless all are to be made anew.
    pub(super) async fn find(&mut self, key: &Digest) -> Option<StackedLayer> {
        if self.is_without_cache() {
            return None;
        }
        let kept_as = self.kept_as(key);
        let layer = match self.build.store().find_kept(&kept_as) {
            Some(layer) => layer,
            None => self.imported(&kept_as).await?,
        };
        if self.cache == CacheState::NotAsked {
            self.cache = CacheState::Hit;
        }
        self.build.layer_used(kept_as.clone());
        self.build.step_done(kept_as, layer.clone());
        self.tell(Progress::Cached).await;
        Some(layer)
    }

    /// The layer that a cache elsewhere has under this key. What cannot be had from there is made.
    async fn imported(&self, kept_as: &Digest) -> Option<StackedLayer> {
        for cache in &self.build.options.caches {
            let Some(layer) = cache.records().find(kept_as) else { continue };
            let importing = self.build.store().import_layer(&**cache, layer, &self.stack);
            match self.build.unless_cancelled(importing).await.ok()? {
                Ok(layer) => {
                    let (key, description) = (kept_as.clone(), IMPORTED.to_owned());
                    self.build.layer_made(Keep { key, layer: layer.clone(), description });
                    return Some(layer);
                }
                Err(error) => {
                    tracing::warn!(?cache, error = error.chain(), "import a layer of a cache");
                }
            }
        }
        None
    }

    /// A layer that was made; the next build will find it.
    pub(super) fn keep(&mut self, key: &Digest, layer: &StackedLayer, description: &str) {
        self.cache = CacheState::Missed;
        let (key, layer) = (self.kept_as(key), layer.clone());
        self.build.step_done(key.clone(), layer.clone());
        self.build.layer_made(Keep { key, layer, description: description.to_owned() });
    }

    /// Layers whose times are bounded are others than those with times as they came.
    fn kept_as(&self, key: &Digest) -> Digest {
        match self.build.latest {
            None => key.clone(),
            Some(latest) => Key::new("latest")
                .with("layer", key.hex())
                .with("time", latest.to_le_bytes())
                .finish(),
        }
    }

    /// Takes a layer, found or made, on top.
    pub(super) fn take(&mut self, key: Digest, layer: StackedLayer, created_by: &str) {
        self.stack = self.stack.with(layer);
        self.key = key;
        self.settings.add_history(&self.build.created, created_by, true);
    }

    /// The directory is made if it is missing, and belongs to the stage's user.
    async fn workdir(&mut self, path: &str) -> Result<(), Failure> {
        let whole = std::path::Path::new(&self.settings.working_dir()).join(path);
        let below = below_root(&whole.to_string_lossy());
        let whole = format!("/{}", below.display());
        self.settings.set_working_dir(&whole);
        let (by, user) = (format!("WORKDIR {whole}"), self.settings.user());
        let key = Key::new("workdir")
            .with("below", self.key.hex())
            .with("path", &whole)
            .with("user", &user)
            .finish();
        if let Some(layer) = self.find(&key).await {
            self.take(key, layer, &by);
            return Ok(());
        }
        let (store, stack) = (self.build.store().clone(), self.stack.clone());
        let latest = self.build.latest;
        let made = super::blocking(move || {
            if !stack.is_empty() {
                let view = store.mount_stack(&stack, None)?;
                let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
                if open_below(&view, &below, flags).is_ok() {
                    return Ok(None);
                }
            }
            let site = store.begin_site(&stack, latest, None)?;
            let owner = owner_in(site.mount(), &user)?;
            make_directory(site.mount(), &below, owner)?;
            site.finish().map(Some)
        });
        match made.await? {
            Some(layer) => {
                self.keep(&key, &layer, &by);
                self.take(key, layer, &by);
            }
            None => self.settings.add_history(&self.build.created, &by, false),
        }
        Ok(())
    }
}

/// The words of a command: the exec form's own, or the shell's with the text.
pub(super) fn words(settings: &Settings, line: &CommandLine) -> Vec<String> {
    match (line.is_shell, line.arguments.is_empty()) {
        (true, false) => {
            let mut words = settings.shell();
            words.push(line.arguments.join(" "));
            words
        }
        _ => line.arguments.clone(),
    }
}

fn healthcheck(check: &Healthcheck) -> Value {
    let mut value = json!({ "Test": check.test });
    for (key, duration) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if !duration.is_zero() {
            value[key] = json!(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    if check.retries != 0 {
        value["Retries"] = json!(check.retries);
    }
    value
}
