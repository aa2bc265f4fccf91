//! Cells: where the commands of a build run, one after the other.
//!
//! ```text
//!   open: a pod of our own ──▶ run: container on the build's mount ─ attach ─ start ─ end ─ remove ──▶ close
//!                                        ▲                                             │
//!                                        └─────────────────── the next ────────────────┘
//! ```
//!
//! A cell is confined like any container and has the same executor, monitor and network; only the
//! pod stays between two commands. Its configuration marks it as a standalone container's, so neither
//! kubelet nor Docker's clients see it; and since no record has it, a killed daemon's successor takes
//! it down.
//!
//! Its users are its own: where the kernel can, a command is root of a user namespace and nobody to the
//! host. The numbers are the same for all cells, so that one mount of the store serves all, and nothing
//! has to be given out and taken back. Cells are kept apart by everything else.

mod confinement;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_bytes::ByteBuf;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::confinement::Users;
pub(crate) use self::confinement::{CellNetwork, Confinement};
use super::container::config::{
    Config, Mount, MountPropagation, MountSource, RlimitRequest, Security, VolumeRequest,
};
use super::container::create::{Mounted, create_mounted};
use super::container::owners::PodOwners;
use super::container::phase::{End, Phase};
use super::container::{Container, remove, start, stop};
use super::pod::config::{Config as PodConfig, NamespaceMode, Namespaces, OwnNetwork};
use super::pod::watch::monitor_lost;
use super::{Engine, Shared, operation, plan, pod, spec, volume};
use crate::cgroup::Resources;
use crate::error::{Context, Result};
use crate::executor::plan::TargetKind;
use crate::id::{ContainerId, PodId, random_hex};
use crate::image::mapped::Mapped;
use crate::streaming::backend::{Attach, Backend, Wanted};
use crate::streaming::monitors::Monitors;
use crate::streaming::stdio::Pipe;

const PIECE: usize = 32 << 10;

/// What all commands of a cell have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct CellConfig {
    /// More lines for `/etc/hosts`.
    pub(crate) hosts: Vec<(IpAddr, String)>,
    /// Bytes of `/dev/shm`; `None`: 64 MiB.
    pub(crate) shm_size: Option<u64>,
    /// Empty: our default.
    pub(crate) cgroup_parent: String,
    /// Of each command.
    pub(crate) resources: Resources,
    pub(crate) rlimits: Vec<RlimitRequest>,
}

/// One command.
pub(crate) struct Run {
    /// Mounted for writing, detached.
    pub(crate) rootfs: OwnedFd,
    pub(crate) mounts: Vec<RunMount>,
    pub(crate) command: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    /// `USER[:GROUP]`, names or numbers; empty: root.
    pub(crate) user: String,
}

/// What is mounted for one command alone.
pub(crate) enum RunMount {
    Tree {
        target: PathBuf,
        /// Detached. Its files have the owners that an image's have.
        tree: OwnedFd,
        /// It shows them as the cell's users already: it is made of mapped layers.
        is_mapped: bool,
        /// What of it is meant; empty: all. Resolved below its root.
        part: String,
        is_directory: bool,
        readonly: bool,
    },
    Tmpfs {
        target: PathBuf,
        /// `size=64m`
        options: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

/// What a command wrote.
pub(crate) type Output = (OutputStream, Bytes);

pub(crate) struct Cell {
    shared: Arc<Shared>,
    pod: PodId,
    config: CellConfig,
    namespaces: Namespaces,
    is_privileged: bool,
    /// `None`: the host's.
    users: Option<Users>,
}

impl Engine {
    /// Opens a cell; the caller closes it, whatever comes.
    pub(crate) async fn open_cell(
        &self,
        confinement: Confinement,
        config: CellConfig,
    ) -> Result<Cell> {
        let shared = self.shared.clone();
        let Confinement { network, is_privileged } = confinement;
        let namespaces = Namespaces {
            network: match network {
                CellNetwork::Host => NamespaceMode::Node,
                CellNetwork::Default | CellNetwork::None => NamespaceMode::Pod,
            },
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
        };
        let own = match network {
            CellNetwork::None => OwnNetwork::Isolated,
            CellNetwork::Default | CellNetwork::Host => OwnNetwork::Attached,
        };
        let users = if is_privileged { None } else { confinement::users(&shared)? };
        let asked = PodConfig {
            privileged: is_privileged,
            ..confinement::pod_config(&config, namespaces.clone(), own, users.clone())?
        };
        let pod = pod::run::run(shared.clone(), asked).await.context("open a cell of a build")?;
        let mut cell = Cell { shared, pod, config, namespaces, is_privileged, users: None };
        let Some(namespace) = users else { return Ok(cell) };
        match cell.mapped().await {
            Ok(mapped) => cell.users = Some(Users { namespace, mapped }),
            Err(error) => {
                if let Err(error) = cell.close().await {
                    tracing::error!(error = error.chain(), "close a cell that nobody can use");
                }
                return Err(error).context(confinement::NO_USERS);
            }
        }
        Ok(cell)
    }
}

impl Cell {
    /// The store as the users of this cell see it; `None`: they are the host's.
    pub(crate) fn users(&self) -> Option<Arc<Mapped>> {
        self.users.as_ref().map(|users| users.mapped.clone())
    }

    async fn mapped(&self) -> Result<Arc<Mapped>> {
        if let Some(known) = self.shared.images.mapped() {
            return Ok(known);
        }
        let pod = self.shared.pods.find(self.pod.as_str())?;
        let owners = PodOwners::open(&pod).await?.context("the pod has the host's users")?;
        self.shared.images.map_for(owners.of_files())
    }

    /// Runs a command to its end, which comes soon when it is cancelled. What it writes goes to
    /// `output` until nobody listens any more.
    pub(crate) async fn run(
        &self,
        run: Run,
        output: &mpsc::Sender<Output>,
        cancel: &CancellationToken,
    ) -> Result<End> {
        let (config, mounted) = self.container(run)?;
        let pod = self.shared.pods.find(self.pod.as_str())?;
        let image = confinement::stand_in();
        let container =
            create_mounted(&self.shared, &pod, Arc::new(config), (&image, mounted)).await?;
        let ended = self.to_its_end(&container, output, cancel).await;
        remove::remove(self.shared.clone(), container.id.as_str()).await?;
        ended
    }

    async fn to_its_end(
        &self,
        container: &Arc<Container>,
        output: &mpsc::Sender<Output>,
        cancel: &CancellationToken,
    ) -> Result<End> {
        let attach = Attach {
            monitor: self.shared.monitor_socket(&self.pod),
            container: container.id.clone(),
            wanted: Wanted { stdin: false, stdout: true, stderr: true, tty: false },
        };
        let process = Monitors.attach(attach).await.context("attach to a command")?;
        start::start(self.shared.clone(), container.id.as_str()).await?;
        let stdio = process.stdio;
        let over = async {
            let (out, error) = tokio::join!(
                pump(stdio.stdout, OutputStream::Stdout, output),
                pump(stdio.stderr, OutputStream::Stderr, output),
            );
            container.exited().await;
            out.and(error)
        };
        let over = std::pin::pin!(over);
        let cancelled = async {
            cancel.cancelled().await;
            // What goes wrong here, the removal will tell.
            let _ = stop::stop_container(&self.shared, container, Duration::ZERO).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = over => read?,
            () = cancelled => {}
        }
        Ok(match &container.record().phase {
            Phase::Exited(end) => end.clone(),
            Phase::Created { .. } | Phase::Running { .. } => monitor_lost(),
        })
    }

    /// Ends what runs in it, and gives back all of it.
    pub(crate) async fn close(&self) -> Result<()> {
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        operation::run(async move { pod::remove::remove(shared, pod.as_str()).await }).await
    }

    fn container(&self, run: Run) -> Result<(Config, Mounted)> {
        let Run { rootfs, mounts, command, env, working_dir, user } = run;
        let (mut requests, mut volumes) = (Vec::new(), Vec::new());
        for mount in mounts {
            let mount = self.mapped_mount(mount)?;
            let (request, volume) = split(mount);
            requests.push(request);
            volumes.extend(volume);
        }
        let variables = env.iter().filter_map(|line| line.split_once('='));
        let config = Config {
            name: random_hex()?,
            attempt: 0,
            image: String::new(),
            user_specified_image: String::new(),
            command,
            args: Vec::new(),
            working_dir,
            env: variables.map(|(name, value)| (name.to_owned(), value.into())).collect(),
            mounts: requests,
            devices: Vec::new(),
            device_rules: Vec::new(),
            cdi_devices: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log_path: None,
            stdin: false,
            stdin_once: false,
            tty: false,
            stop_signal: None,
            resources: self.config.resources.clone(),
            oom_score_adj: 0,
            rlimits: self.config.rlimits.clone(),
            security: Security {
                privileged: self.is_privileged,
                user_namespace: self.users.as_ref().map(|users| users.namespace.clone()),
                ..confinement::security(self.namespaces.clone(), user)
            },
            standalone: Some(ContainerId::generate()?),
        };
        Ok((config, Mounted { rootfs, volumes }))
    }

    /// The mount with the owners that the cell's users are.
    fn mapped_mount(&self, mut mount: RunMount) -> Result<RunMount> {
        if let (Some(users), RunMount::Tree { target, tree, is_mapped, .. }) =
            (&self.users, &mut mount)
            && !*is_mapped
        {
            users
                .mapped
                .map(tree.as_fd())
                .with_context(|| format!("mount {}", target.display()))?;
            *is_mapped = true;
        }
        Ok(mount)
    }
}

/// The directory as a detached mount, with all that is mounted below it.
pub(crate) fn tree_of(directory: &Path) -> Result<OwnedFd> {
    volume::detach(directory)
}

/// User and group that `USER[:GROUP]` names in the database below a root; empty is root. A number
/// alone is that of its group, too.
pub(crate) fn owner_in(root: BorrowedFd<'_>, owner: &str) -> Result<(u32, u32)> {
    if let Ok(number) = owner.parse::<u32>() {
        return Ok((number, number));
    }
    let user = spec::user_in(owner, root)?;
    Ok((user.uid, user.gid))
}

async fn pump(
    stream: Option<OwnedFd>,
    which: OutputStream,
    output: &mpsc::Sender<Output>,
) -> Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let mut pipe = Pipe::new(stream).context("read a command's output")?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = pipe.read(&mut buffer).await.context("read a command's output")?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(());
        };
        // Who does not listen any more does not stop the command.
        let _ = output.send((which, Bytes::copy_from_slice(read))).await;
    }
}

fn split(mount: RunMount) -> (Mount, Option<plan::Volume>) {
    let request = |target: &PathBuf, source, readonly, options| Mount {
        container_path: target.clone(),
        source,
        readonly,
        recursive_readonly: false,
        propagation: MountPropagation::Private,
        selinux_relabel: false,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
        options,
    };
    match mount {
        RunMount::Tmpfs { target, options } => {
            (request(&target, MountSource::Tmpfs, false, options), None)
        }
        RunMount::Tree { target, tree, is_mapped: _, part, is_directory, readonly } => {
            let source = MountSource::Volume(VolumeRequest::default());
            let request = request(&target, source, readonly, Vec::new());
            let part = (!part.is_empty()).then(|| ByteBuf::from(part));
            let kind = if is_directory { TargetKind::Directory } else { TargetKind::File };
            (request, Some(plan::Volume { target, tree, part, kind }))
        }
    }
}
