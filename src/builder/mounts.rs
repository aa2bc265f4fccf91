//! `RUN --mount`: what a command sees and its layer does not have.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use cais_dockerfile::Source;
use cais_dockerfile::instruction::{Mount, MountType, Run, Sharing};
use rustix::fs::{FileType, OFlags};
use tokio::sync::OwnedMutexGuard;

use super::agents::{self, Agent};
use super::copy::{Contents, Excludes, Owners, digest};
use super::copying::Origin;
use super::key::Key;
use super::progress::Failure;
use super::secrets::{self, Secret};
use super::stage::Stage;
use super::{Builder, blocking};
use crate::engine::cells::{RunMount, tree_of};
use crate::engine::files::{below_root, open_below};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::mapped::Mapped;
use crate::image::{CacheLease, ImageStore, Site, Workplace, copy_tree};

/// Where a command that brings its own program finds it.
pub(super) const SCRIPT: &str = "/dev/pipes/script";
const SCRIPT_NAME: &str = "script";

/// Private caches of one id that are in use at the same time.
const MOST_PRIVATE: usize = 64;

/// The mounts of one command, as they were asked for.
pub(super) struct Mounts {
    all: Vec<Wanted>,
    secrets: Vec<secrets::Wanted>,
    agents: Vec<agents::Wanted>,
}

/// What a client lends to one command.
pub(super) struct Lent {
    secrets: Vec<Secret>,
    agents: Vec<Agent>,
    /// `NAME=value`
    pub(super) variables: Vec<String>,
}

struct Wanted {
    mount: Mount,
    target: PathBuf,
    origin: Origin,
}

/// The same, opened, and what must stay until the command has ended.
#[derive(Default)]
pub(super) struct Opened {
    /// Of the command; `None`: the host's.
    users: Option<Arc<Mapped>>,
    mounts: Vec<RunMount>,
    targets: Vec<PathBuf>,
    sites: Vec<Site>,
    workplaces: Vec<Workplace>,
    agents: Vec<Agent>,
    locks: Vec<OwnedMutexGuard<()>>,
    caches: Vec<CacheLease>,
}

impl Mounts {
    pub(super) async fn read(
        stage: &Stage,
        run: &Run,
        sources: &[Source],
    ) -> Result<Self, Failure> {
        let expander = stage.build.plan.expander();
        let working_dir = stage.settings.working_dir();
        let (mut all, mut secrets, mut agents) = (Vec::new(), Vec::new(), Vec::new());
        for (flag, source) in run.mounts.iter().zip(sources) {
            let mount = flag.resolve(&mut |word| expander.expand(word, &stage.scope.env));
            let mount = mount.map_err(|fault| Error::invalid(fault.message))?;
            if mount.kind == MountType::Ssh {
                agents.push(agents::Wanted::read(&working_dir, &mount, agents.len())?);
                continue;
            }
            if mount.kind == MountType::Secret {
                secrets.push(secrets::Wanted::read(&working_dir, &mount)?);
                continue;
            }
            let target = place(&working_dir, Path::new(&mount.target))?;
            let origin = match (mount.kind, source) {
                // A cache is filled from nothing, unless it says from what.
                (MountType::Cache, Source::Context) | (MountType::Tmpfs, _) => Origin::Nothing,
                (_, source) => stage.origin(source).await?,
            };
            all.push(Wanted { mount, target, origin });
        }
        Ok(Self { all, secrets, agents })
    }

    /// What is in a cache or a secret is no part of it.
    pub(super) async fn key(&self, store: &ImageStore, contents: &Contents) -> Result<Digest> {
        let mut key = Key::new("mounts");
        for Wanted { mount, target, origin } in &self.all {
            key = key
                .with("kind", format!("{:?}", mount.kind))
                .with("target", target.as_os_str().as_encoded_bytes())
                .with("source", &mount.source);
            if mount.kind != MountType::Bind {
                continue;
            }
            key = match origin {
                Origin::Context(context) => {
                    let (context, source) = (context.clone(), mount.source.clone());
                    let (store, contents) = (store.clone(), contents.clone());
                    let content = blocking(move || {
                        let found = context.kept_still(&store)?.find(&source)?;
                        digest(&found, Owners::AreNobodys, &contents, Excludes::default())
                    });
                    key.with("content", content.await?.hex())
                }
                Origin::Stack(_, made_from) => key.with("stage", made_from.hex()),
                Origin::Nothing => key,
            };
        }
        let key = self.secrets.iter().fold(key, |key, secret| secret.key(key));
        let key = self.agents.iter().fold(key, |key, agent| agent.key(key));
        Ok(key.finish())
    }

    /// The values of the secrets, and the agents; those that the client lacks and need not have are left out.
    /// `env` is the command's own.
    pub(super) async fn lent(&mut self, stage: &Stage, env: &[String]) -> Result<Lent, Failure> {
        let (mut secrets, mut agents) = (Vec::new(), Vec::new());
        for wanted in self.secrets.drain(..) {
            secrets.extend(wanted.fetch(stage).await?);
        }
        let values = secrets.iter().filter_map(|secret| secret.variable().transpose());
        let mut variables = values.collect::<Result<Vec<String>>>()?;
        variables.extend(self.agents.first().and_then(|agent| agent.variable(env)));
        for wanted in self.agents.drain(..) {
            agents.extend(wanted.lend(stage).await?);
        }
        Ok(Lent { secrets, agents, variables })
    }

    /// For a command of these users.
    pub(super) async fn open(
        self,
        stage: &Stage,
        lent: Lent,
        users: Option<Arc<Mapped>>,
    ) -> Result<Opened, Failure> {
        let mut opened = Opened { users, ..Opened::default() };
        let builder = &stage.build.builder;
        let waiting = async {
            // Each once and in one order, so that no two commands wait for each other.
            let locked: BTreeSet<String> = self.all.iter().filter_map(Wanted::lock).collect();
            for id in locked {
                opened.locks.push(builder.lock_of(&id).lock_owned().await);
            }
        };
        stage.build.unless_cancelled(waiting).await?;
        for secret in &lent.secrets {
            if let Some(mount) = secret.mount()? {
                opened.targets.push(secret.target().to_owned());
                opened.mounts.push(mount);
            }
        }
        for mut agent in lent.agents {
            opened.targets.push(agent.target().to_owned());
            opened.mounts.extend(agent.take());
            opened.agents.push(agent);
        }
        for wanted in self.all {
            opened.targets.push(wanted.target.clone());
            match wanted.mount.kind {
                MountType::Tmpfs => opened.tmpfs(wanted),
                MountType::Cache => opened.cache(stage, wanted).await?,
                MountType::Bind | MountType::Secret | MountType::Ssh => {
                    opened.bind(stage.build.store(), wanted)?;
                }
            }
        }
        Ok(opened)
    }
}

impl Wanted {
    /// The id of a cache, as builds share it.
    fn id(&self) -> String {
        match self.mount.id.as_str() {
            "" => self.target.to_string_lossy().into_owned(),
            id => id.to_owned(),
        }
    }

    /// A cache, for people.
    fn description(&self) -> String {
        let target = self.target.display();
        match self.mount.id.as_str() {
            "" => format!("cached mount {target}"),
            id => format!("cached mount {target} with id {id:?}"),
        }
    }

    /// The id of a cache that nobody else may lock meanwhile.
    fn lock(&self) -> Option<String> {
        let is_locked =
            self.mount.kind == MountType::Cache && self.mount.sharing == Some(Sharing::Locked);
        is_locked.then(|| self.id())
    }
}

impl Opened {
    pub(super) fn targets(&self) -> impl Iterator<Item = &Path> {
        self.targets.iter().map(PathBuf::as_path)
    }

    pub(super) fn take(&mut self) -> Vec<RunMount> {
        std::mem::take(&mut self.mounts)
    }

    /// A program whose text stands in the Dockerfile.
    pub(super) fn add_script(&mut self, store: &ImageStore, text: &str) -> Result<()> {
        let workplace = store.workplace()?;
        let directory = workplace.make("scripts", 0o755)?;
        let path = directory.join(SCRIPT_NAME);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path);
        let mut file = made.context("keep a script")?;
        file.write_all(text.as_bytes()).context("keep a script")?;
        drop(file);
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, all).context("keep a script")?;
        self.mounts.push(RunMount::Tree {
            target: SCRIPT.into(),
            tree: tree_of(&directory)?,
            is_mapped: false,
            part: SCRIPT_NAME.to_owned(),
            is_directory: false,
            readonly: true,
        });
        self.workplaces.push(workplace);
        Ok(())
    }

    fn tmpfs(&mut self, wanted: Wanted) {
        let mut options = vec!["exec".to_owned(), "mode=1777".to_owned()];
        if wanted.mount.size > 0 {
            options.push(format!("size={}", wanted.mount.size));
        }
        self.mounts.push(RunMount::Tmpfs { target: wanted.target, options });
    }

    /// What is written to it is not kept.
    fn bind(&mut self, store: &ImageStore, wanted: Wanted) -> Result<()> {
        let Wanted { mount, target, origin } = wanted;
        let users = self.users.as_deref();
        let (tree, is_mapped) = match (&origin, mount.readonly) {
            (Origin::Context(context), true) => (tree_of(&still(context, store)?)?, false),
            (Origin::Context(context), false) => {
                let workplace = store.workplace()?;
                let tree = store.mount_changeable(&still(context, store)?, &workplace, users)?;
                self.workplaces.push(workplace);
                (tree, true)
            }
            (Origin::Stack(stack, _), true) => (store.mount_stack(stack, users)?, true),
            (Origin::Stack(stack, _), false) => {
                let site = store.begin_site(stack, None, users)?;
                let tree = site.mount().try_clone_to_owned().context("pass files on")?;
                self.sites.push(site);
                (tree, true)
            }
            (Origin::Nothing, _) => {
                let workplace = store.workplace()?;
                let tree = tree_of(&workplace.make("empty", 0o755)?)?;
                self.workplaces.push(workplace);
                (tree, false)
            }
        };
        let (part, is_directory) = part(&tree, &mount.source)?;
        let readonly = mount.readonly;
        self.mounts.push(RunMount::Tree { target, tree, is_mapped, part, is_directory, readonly });
        Ok(())
    }

    async fn cache(&mut self, stage: &Stage, wanted: Wanted) -> Result<(), Failure> {
        let id = wanted.id();
        let description = wanted.description();
        let Wanted { mount, target, origin } = wanted;
        let name = stage.build.builder.reserve(id, mount.sharing, &mut self.locks)?;
        let name = Digest::of(name.as_bytes());
        let store = stage.build.store();
        let lease = store.lease_cache(&name, &description);
        let directory = lease.directory();
        if !directory.exists() {
            // Nobody sees it before it is whole.
            let workplace = store.workplace()?;
            let filled = workplace.make("cache", 0o755)?;
            fill(store, &filled, &mount, &origin).await?;
            lease.add(&filled)?;
        }
        self.caches.push(lease);
        let tree = tree_of(&directory)?;
        let source = match origin {
            // It was copied from there.
            Origin::Context(_) | Origin::Stack(..) => "",
            Origin::Nothing => &mount.source,
        };
        let (part, is_directory) = part(&tree, source)?;
        let readonly = mount.readonly;
        let is_mapped = false;
        self.mounts.push(RunMount::Tree { target, tree, is_mapped, part, is_directory, readonly });
        Ok(())
    }
}

/// Where a command sees a mount.
///
/// # Errors
/// `InvalidArgument` for the root itself.
pub(super) fn place(working_dir: &str, target: &Path) -> Result<PathBuf> {
    let below = below_root(&Path::new(working_dir).join(target).to_string_lossy());
    match below.as_os_str().is_empty() {
        true => Err(Error::invalid("invalid mount target \"/\"")),
        false => Ok(Path::new("/").join(below)),
    }
}

/// A directory with a context's files, in which nobody changes them.
fn still(context: &super::Context, store: &ImageStore) -> Result<PathBuf> {
    context.kept_still(store)?.directory()
}

/// The path below the tree's root, and whether a directory is there.
fn part(tree: &OwnedFd, source: &str) -> Result<(String, bool)> {
    let below = below_root(source);
    if below.as_os_str().is_empty() {
        return Ok((String::new(), true));
    }
    let found = open_below(tree, &below, OFlags::PATH)
        .with_context(|| format!("failed to calculate checksum of ref: {source:?}"))
        .kind(Kind::NotFound)?;
    let stat = rustix::fs::fstat(&found).context("stat")?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok((below.to_string_lossy().into_owned(), is_directory))
}

/// Gives a new cache its first files, its owner and its mode.
async fn fill(store: &ImageStore, directory: &Path, mount: &Mount, origin: &Origin) -> Result<()> {
    let from = match origin {
        Origin::Context(context) => Some(tree_of(&still(context, store)?)?),
        Origin::Stack(stack, _) => Some(store.mount_stack(stack, None)?),
        Origin::Nothing => None,
    };
    if let Some(from) = from {
        let below = below_root(&mount.source);
        let from = open_below(from.as_fd(), &below, OFlags::RDONLY | OFlags::DIRECTORY)
            .with_context(|| format!("fill a cache from {}", mount.source))
            .kind(Kind::NotFound)?;
        copy_tree(from, directory).await.context("fill a cache")?;
    }
    let (uid, gid) = (mount.uid.unwrap_or_default(), mount.gid.unwrap_or_default());
    std::os::unix::fs::chown(directory, Some(uid), Some(gid)).context("fill a cache")?;
    let mode = std::fs::Permissions::from_mode(mount.mode.unwrap_or(0o755));
    std::fs::set_permissions(directory, mode).context("fill a cache")
}

impl Builder {
    /// The name of the cache that a command may have: that of the id, together with others or as the
    /// only one that locked it; private, one that nobody has.
    fn reserve(
        &self,
        id: String,
        sharing: Option<Sharing>,
        locks: &mut Vec<OwnedMutexGuard<()>>,
    ) -> Result<String> {
        match sharing {
            // Those that lock it have waited by now.
            None | Some(Sharing::Shared | Sharing::Locked) => Ok(id),
            Some(Sharing::Private) => {
                for number in 0..MOST_PRIVATE {
                    // No id of a client's has a NUL in it.
                    let name = format!("{id}\0{number}");
                    if let Ok(lock) = self.lock_of(&name).try_lock_owned() {
                        locks.push(lock);
                        return Ok(name);
                    }
                }
                Err(Error::new(Kind::Busy, format!("too many builds have the cache {id:?}")))
            }
        }
    }

    pub(super) fn lock_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has any more.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(name.to_owned()).or_default().clone()
    }
}
