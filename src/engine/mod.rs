//! Decisions: what pods, containers and images are and may do.
//!
//! Both doors hold an [`Engine`] and call it with engine types. A mutation runs to its end even if
//! the client hangs up (`operation`), holds the lock of its pod, and goes to disk before memory;
//! a reader takes the last published snapshot and waits for nobody.
//!
//! ```text
//! Engine ─┬─ pods, containers   registries of what there is; records under the state directory
//!         ├─ events             what happened to pods, for the kubelet that follows
//!         ├─ actions            what was done to anything, for Docker's clients
//!         ├─ images             what can be run
//!         ├─ network            addresses and published ports
//!         ├─ cgroups            limits and figures
//!         └─ streams            the process that serves exec, attach and port-forward
//! ```
//!
//! Begin reading at `pod::run` and `container::create`.

pub(crate) mod actions;
mod cdi;
pub(crate) mod cells;
mod checkpoint;
pub(crate) mod clock;
pub(crate) mod container;
pub(crate) mod events;
pub(crate) mod files;
mod files_calls;
mod gate;
pub(crate) mod image;
mod image_calls;
mod layout;
pub(crate) mod making;
mod making_calls;
pub(crate) mod memory;
mod names;
mod network;
mod network_calls;
pub(crate) mod networks;
mod nri;
mod operation;
pub(crate) mod plan;
pub(crate) mod pod;
mod prune;
mod prune_calls;
mod recover;
mod registry;
mod rendering;
mod sight;
pub(crate) mod spec;
pub(crate) mod standalone;
mod standalone_calls;
pub(crate) mod stats;
pub(crate) mod streams;
mod undo;
pub(crate) mod volume;
mod volume_calls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::container::Container;
pub(crate) use self::container::exec::{AttachRequest, ExecOutput, ExecRequest};
use self::layout::Layout;
use self::operation::Flights;
use self::pod::Pod;
pub(crate) use self::pod::record::Limits as PodLimits;
use self::registry::Registry;
pub(crate) use self::rendering::Rendering;
pub(crate) use self::sight::Sight;
pub(crate) use self::standalone::parse_signal;
use crate::cgroup::{self, Cgroups, Resources};
use crate::config::{BuildCache, CgroupDriver, Config, Entitlement};
use crate::error::{Context, Error, Result};
use crate::executor::plan::Process;
use crate::id::{ContainerId, PodId};
use crate::image::{Credentials, Image, ImageStore};
use crate::monitor::protocol::Exit;
use crate::monitor::spawn::Program;
use crate::net::Network;
use crate::nri::Nri;
use crate::seccomp;
use crate::store::atomic::{Directory, Durability};
use crate::store::table::Table;
use crate::streaming::client::StreamServer;
use crate::streaming::process::Arguments as StreamArguments;

/// A handle on the one engine of this process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
}

/// What the operations work with.
pub(crate) struct Shared {
    config: Config,
    layout: Layout,
    images: ImageStore,
    network: Network,
    cgroups: Cgroups,
    host: spec::Host,
    /// The kernel can give pods users of their own.
    has_user_namespaces: bool,
    monitors: Program,
    streams: StreamServer,
    filters: seccomp::Cache,
    pods: Registry<Pod>,
    containers: Registry<Container>,
    /// What happened to both.
    events: Arc<events::Log<events::Seen>>,
    /// What was done to anything, in Docker's words.
    actions: Arc<actions::Log>,
    pod_records: Table<pod::record::Record>,
    container_records: Table<container::record::Record>,
    /// What execs start from, beside the containers' records.
    processes: Directory,
    standalones: standalone::Standalones,
    standalone_records: Table<standalone::record::Record>,
    volumes: volume::Volumes,
    volume_records: Table<volume::Record>,
    execs: standalone::exec::Execs,
    networks: networks::Networks,
    network_records: Table<networks::Record>,
    names: names::Names,
    /// Groups of containers that have no record yet.
    making: Table<cgroup::Record>,
    /// What a killed daemon's successor has to thaw and take back.
    checkpoints: Table<checkpoint::under_way::UnderWay>,
    nri: Arc<Nri>,
    gate: gate::Gate,
    pod_flights: Flights<PodKey, PodId>,
    container_flights: Flights<ContainerKey, ContainerId>,
}

/// What makes two RunPodSandbox calls mean the same pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodKey {
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
}

impl PodKey {
    fn of(config: &pod::config::Config) -> Self {
        Self {
            namespace: config.namespace.clone(),
            name: config.name.clone(),
            uid: config.uid.clone(),
            attempt: config.attempt,
        }
    }
}

/// What makes two CreateContainer calls mean the same container. In order, those of a pod stand
/// together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContainerKey {
    pod: PodId,
    name: String,
    attempt: u32,
}

impl Engine {
    /// Opens the state and the images, and takes up what an earlier daemon left: running pods are
    /// rejoined, half-made ones undone.
    pub(crate) async fn start(config: Config) -> Result<Self> {
        let layout = Layout::open(&config.state, &config.root)?;
        let images = image::open_store(&config, &layout).context("open the image store")?;
        let pod_records = Table::open(&layout.pods(), Durability::UntilReboot)?;
        let network = network::open(&config, &pod_records)?;
        let container_records = Table::open(&layout.containers(), Durability::UntilReboot)?;
        let standalone_records = Table::open(&layout.standalones(), Durability::Synced)?;
        let volume_records = Table::open(&layout.volume_records(), Durability::Synced)?;
        let network_records = Table::open(&layout.networks(), Durability::Synced)?;
        let processes = Directory::open(&layout.containers(), Durability::UntilReboot)?;
        let events = events::Log::open(&layout.events(), events::ON_ITS_WAY)
            .context("open the event journal")?;
        let making = Table::open(&layout.making(), Durability::UntilReboot)?;
        let checkpoints = Table::open(&layout.checkpoints_under_way(), Durability::UntilReboot)?;
        let streams = StreamServer::new(StreamArguments {
            state: layout.state().to_owned(),
            address: config.cri.stream_address,
            log_level: config.log_level.clone(),
        });
        let has_user_namespaces = spec::Host::has_user_namespaces() && images.can_map_owners();
        let host = spec::Host::probe()?;
        spec::load_default_profile(&host);
        let shared = Arc::new(Shared {
            has_user_namespaces,
            layout,
            images,
            network,
            cgroups: Cgroups::detect()?,
            monitors: Program::load(None)?,
            host,
            streams,
            filters: seccomp::Cache::default(),
            pods: Registry::new("pod sandbox"),
            containers: Registry::new("container"),
            events: Arc::new(events),
            actions: Arc::default(),
            pod_records,
            container_records,
            processes,
            standalones: standalone::Standalones::default(),
            standalone_records,
            volumes: volume::Volumes::default(),
            volume_records,
            execs: standalone::exec::Execs::default(),
            networks: networks::Networks::default(),
            network_records,
            names: names::Names::default(),
            making,
            checkpoints,
            nri: Arc::new(Nri::new(&config.nri)),
            gate: gate::Gate::new(),
            pod_flights: Flights::new(),
            container_flights: Flights::new(),
            config,
        });
        volume::load(&shared)?;
        standalone::load(&shared)?;
        networks::load(&shared)?;
        networks::open_all(&shared).await?;
        recover::recover(&shared).await.context("take up what an earlier daemon left")?;
        checkpoint::under_way::recover(&shared).await.context("take back checkpoints")?;
        shared.streams.retire_other_version().await?;
        names::publish_or_log(&shared).await;
        names::keep_served(&shared);
        nri::start(&shared).await;
        standalone::recover(&shared).await;
        // The pods of builds are gone with the starts that were not over.
        shared.images.drop_unfinished_builds().context("remove what builds left")?;
        Ok(Self { shared })
    }

    /// The daemon ends. Pods go on without it; without pods nothing of the engine stays behind.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        self.shared.nri.shut_down().await;
        self.shared.network.settle().await;
        // The machine may be about to go down: what is not on the disk would not be there after that.
        if let Err(error) = self.shared.images.write_out().await {
            tracing::error!(error = error.chain(), "what was built may not be there after a boot");
        }
        if self.shared.pods.all().is_empty() {
            self.shared.streams.shut_down().await?;
            self.shared.networks.settle().await;
            self.shared.network.remove().await?;
        }
        Ok(())
    }

    pub(crate) async fn run_pod(&self, config: pod::config::Config) -> Result<PodId> {
        pod::run::run(self.shared.clone(), config).await
    }

    pub(crate) async fn stop_pod(&self, id: &str) -> Result<()> {
        self.shared.check_pods_own(id)?;
        pod::stop::stop(self.shared.clone(), id).await
    }

    pub(crate) async fn update_pod(&self, id: &str, change: PodLimits) -> Result<()> {
        self.shared.check_pods_own(id)?;
        pod::update::update(self.shared.clone(), id, change).await
    }

    pub(crate) async fn remove_pod(&self, id: &str) -> Result<()> {
        self.shared.check_pods_own(id)?;
        pod::remove::remove(self.shared.clone(), id).await
    }

    /// What happens to pods and containers, beginning with what nobody was told yet.
    pub(crate) fn follow_events(&self) -> events::Follower<events::Seen> {
        self.shared.events.follow()
    }

    /// What is done to anything, in Docker's words.
    pub(crate) fn follow_actions(&self, span: actions::Span) -> actions::Follower {
        self.shared.actions.follow(span)
    }

    /// The daemon is about to end: who follows events would otherwise wait for ever.
    pub(crate) fn end_events(&self) {
        self.shared.events.close();
        self.shared.actions.close();
    }

    pub(crate) async fn create_container(
        &self,
        pod: &str,
        config: container::config::Config,
    ) -> Result<ContainerId> {
        self.shared.check_pods_own(pod)?;
        container::create::create(self.shared.clone(), pod, config).await
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        self.shared.check_containers_own(id)?;
        container::start::start(self.shared.clone(), id).await
    }

    pub(crate) async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        self.shared.check_containers_own(id)?;
        container::stop::stop(self.shared.clone(), id, timeout).await
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        self.shared.check_containers_own(id)?;
        container::remove::remove(self.shared.clone(), id).await
    }

    pub(crate) async fn update_container(
        &self,
        id: &str,
        resources: Resources,
        oom_score_adj: Option<i32>,
    ) -> Result<()> {
        self.shared.check_containers_own(id)?;
        container::update::update(self.shared.clone(), id, resources, oom_score_adj).await
    }

    /// Writes one container into a new archive.
    pub(crate) async fn checkpoint_container(
        &self,
        id: &str,
        location: PathBuf,
        timeout: Option<Duration>,
    ) -> Result<()> {
        checkpoint::container::checkpoint(self.shared.clone(), id, location, timeout).await
    }

    /// Writes all that runs in a pod, as it is at one moment, into an empty directory.
    pub(crate) async fn checkpoint_pod(
        &self,
        id: &str,
        output: PathBuf,
        containers: Vec<String>,
    ) -> Result<()> {
        checkpoint::pod::checkpoint(self.shared.clone(), id, output, containers).await
    }

    /// Makes a pod of what `checkpoint_pod` wrote.
    pub(crate) async fn restore_pod(
        &self,
        checkpoint: PathBuf,
        pod: pod::config::Config,
        containers: Vec<container::config::Config>,
    ) -> Result<(PodId, Vec<(String, ContainerId)>)> {
        checkpoint::restore::restore(self.shared.clone(), checkpoint, pod, containers).await
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<()> {
        container::log::reopen(self.shared.clone(), id).await
    }

    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        container::exec::exec_sync(&self.shared, id, command, timeout).await
    }

    pub(crate) async fn exec_url(&self, id: &str, request: ExecRequest) -> Result<String> {
        container::stream::exec_url(&self.shared, id, request).await
    }

    pub(crate) async fn attach_url(&self, id: &str, request: AttachRequest) -> Result<String> {
        container::stream::attach_url(&self.shared, id, request).await
    }

    pub(crate) async fn port_forward_url(&self, pod: &str, ports: Vec<u16>) -> Result<String> {
        container::stream::port_forward_url(&self.shared, pod, ports).await
    }

    /// What all writable layers take together.
    pub(crate) async fn writable_usage(&self) -> stats::DiskUsage {
        stats::total_writable(&self.shared).await
    }

    pub(crate) fn images(&self) -> &ImageStore {
        &self.shared.images
    }

    /// The id of the pulled image.
    pub(crate) async fn pull_image(
        &self,
        reference: &str,
        credentials: Credentials,
    ) -> Result<String> {
        image::pull(&self.shared, reference, credentials).await
    }

    pub(crate) async fn remove_image(&self, reference: &str) -> Result<()> {
        image::remove(&self.shared, reference).await
    }

    /// Takes a name away from an image, and the image with its last one.
    pub(crate) async fn remove_image_name(
        &self,
        image: &Image,
        name: &str,
        force: bool,
    ) -> Result<image::Removal> {
        image::remove_name(&self.shared, image, name, force).await
    }

    /// # Errors
    /// `Unavailable` with the reason, for the NetworkReady condition.
    pub(crate) async fn network_ready(&self) -> Result<()> {
        self.shared.network.ready().await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn host(&self) -> &spec::Host {
        &self.shared.host
    }

    /// True when the controllers, or some of them, are in hierarchies of version 1.
    pub(crate) fn has_cgroup_v1(&self) -> bool {
        !self.shared.cgroups.legacy_names().is_empty()
    }

    /// What clients may allow a Dockerfile.
    pub(crate) fn entitlements(&self) -> &[Entitlement] {
        &self.shared.config.build.entitlements
    }

    /// How much of what builds leave stays.
    pub(crate) fn build_limits(&self) -> &BuildCache {
        &self.shared.config.build.cache
    }

    pub(crate) fn has_user_namespaces(&self) -> bool {
        self.shared.has_user_namespaces
    }

    pub(crate) fn cgroup_driver(&self) -> CgroupDriver {
        self.shared.config.cgroup.driver
    }
}

fn not_cris(id: &str) -> Error {
    Error::wrong_state(format!(
        "{id} belongs to a container of the Docker API, which alone changes it"
    ))
}

impl Shared {
    /// # Errors
    /// `WrongState` for the pod of a standalone container: it is Docker's clients' to change.
    fn check_pods_own(&self, id: &str) -> Result<()> {
        match self.pods.find(id) {
            Ok(pod) if pod.record().config.standalone.is_some() => Err(not_cris(id)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// As [`Shared::check_pods_own`], by the container.
    fn check_containers_own(&self, id: &str) -> Result<()> {
        match self.containers.find(id) {
            Ok(container) if container.record().config.standalone.is_some() => Err(not_cris(id)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether a container's writable layer is to survive this boot.
    fn is_kept(&self, config: &container::config::Config) -> bool {
        let standalone = config.standalone.as_ref();
        let found = standalone.and_then(|id| self.standalones.find(id.as_str()).ok());
        found.is_some_and(|found| !found.record().config.auto_remove)
    }

    /// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, as clients know a kubelet's containers.
    fn pod_container_name(&self, container: &container::record::Record) -> Option<String> {
        let pod = self.pods.find(container.pod.as_str()).ok()?.record();
        let (name, attempt) = (&container.config.name, container.config.attempt);
        let pod = &pod.config;
        Some(format!("k8s_{name}_{}_{}_{}_{attempt}", pod.name, pod.namespace, pod.uid))
    }

    fn containers_of(&self, pod: &PodId) -> Vec<Arc<Container>> {
        let first = ContainerKey { pod: pod.clone(), name: String::new(), attempt: 0 };
        self.containers.run_of(&first, |key| key.pod == *pod)
    }

    /// Where the pod's containers get their cgroups: what the client asks for, or one of our own.
    fn pod_cgroup(&self, id: &PodId, config: &pod::config::Config) -> Result<cgroup::Record> {
        if !config.cgroup_parent.is_empty() {
            return cgroup::Record::of_parent("linux.cgroup_parent", &config.cgroup_parent);
        }
        self.own_pod_cgroup(id)
    }

    /// That of a pod whose client asked for none.
    fn own_pod_cgroup(&self, id: &PodId) -> Result<cgroup::Record> {
        let parent = &self.config.cgroup.parent;
        match self.config.cgroup.driver {
            CgroupDriver::Cgroupfs => {
                cgroup::Record::of_parent("cgroup.parent", &format!("{parent}/{id}"))
            }
            CgroupDriver::Systemd => cgroup::Record::of_slice(parent, id.as_str()),
        }
    }

    /// Makes the pod's own group ahead of its containers' groups. `None`: it comes with the first of them, or is not
    /// ours to make, or could not be made, which the first container is then told.
    fn make_pod_cgroup(&self, id: &PodId, config: &pod::config::Config) -> Option<cgroup::Record> {
        if !config.cgroup_parent.is_empty() || self.config.cgroup.driver != CgroupDriver::Cgroupfs {
            return None;
        }
        let request = cgroup::Request {
            parent: &self.config.cgroup.parent,
            name: id.as_str(),
            resources: &Resources::default(),
            devices: None,
            holder: None,
        };
        let group = self.cgroups.create(&request).ok()?;
        group.be_parent();
        Some(group.record().clone())
    }

    /// Removes the pod's group if it is one of our own; kubelet removes its own.
    fn remove_pod_cgroup(&self, pod: &pod::record::Record) -> Result<()> {
        if !pod.config.cgroup_parent.is_empty() {
            return Ok(());
        }
        self.cgroups.open(&pod.cgroup)?.remove()
    }

    fn monitor_socket(&self, pod: &PodId) -> PathBuf {
        self.layout.pod(pod).join("monitor.sock")
    }

    /// Keeps what an exec in the container starts from.
    fn keep_process(&self, id: &ContainerId, process: &Process) -> Result<()> {
        let bytes = rmp_serde::to_vec_named(process).context("encode the exec template")?;
        self.processes.replace(&Layout::process_name(id), &bytes)
    }

    /// Keeps what plugins made of a container.
    fn keep_description(&self, id: &ContainerId, bytes: &[u8]) -> Result<()> {
        self.processes.replace(&Layout::description_name(id), bytes)
    }

    fn description(&self, id: &ContainerId) -> Option<Vec<u8>> {
        std::fs::read(self.layout.containers().join(Layout::description_name(id))).ok()
    }

    /// Removes the files beside the record of a container.
    fn remove_process(&self, id: &ContainerId) -> Result<()> {
        self.processes.remove(&Layout::description_name(id))?;
        self.processes.remove(&Layout::process_name(id))
    }

    /// How a container ended, as its monitor wrote it down.
    fn exit_record(&self, pod: &PodId, container: &ContainerId) -> Option<Exit> {
        let path = self.layout.pod(pod).join("exits").join(container.as_str());
        let bytes = std::fs::read(path).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}
