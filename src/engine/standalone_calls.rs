//! What the engine does for the Docker door.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::actions::Act;
use super::container::record::Record as ContainerRecord;
use super::networks::membership::{Membership, NetworkRef};
use super::standalone::config::Config;
use super::standalone::exec::{self, Exec};
use super::standalone::update::Update;
use super::standalone::{self, Removal, Session, Standalone, Started, Waiting};
use super::stats::usage::Usage;
use super::{Engine, stats};
use crate::error::Result;
use crate::id::{ContainerId, PodId};
use crate::net::Attachment;
use crate::streaming::backend::Wanted;

type Container = Arc<Standalone>;

impl Engine {
    pub(crate) fn standalones(&self) -> Vec<Container> {
        self.shared.standalones.all()
    }

    /// # Errors
    /// `NotFound`, and `InvalidArgument` for the beginning of several ids.
    pub(crate) fn standalone(&self, text: &str) -> Result<Container> {
        self.shared.standalones.find(text)
    }

    /// `image` is what the client calls the image whose id is in the configuration.
    pub(crate) async fn create_standalone(
        &self,
        name: &str,
        image: &str,
        config: Config,
        networks: Vec<Membership>,
    ) -> Result<Container> {
        standalone::create(self.shared.clone(), name, image, config, networks).await
    }

    /// `is_aside`: it is about to take another one's place, and not to be reached before.
    pub(crate) async fn start_standalone(
        &self,
        container: &Container,
        is_aside: bool,
    ) -> Result<Started> {
        standalone::start(self.shared.clone(), container.clone(), is_aside).await
    }

    /// Of `old`, which it outlives by `patience` at most.
    pub(crate) async fn take_over_standalone(
        &self,
        container: &Container,
        old: &Container,
        patience: Duration,
    ) -> Result<()> {
        standalone::take_over(self.shared.clone(), container.clone(), old.clone(), patience).await
    }

    /// False if it did not run.
    pub(crate) async fn stop_standalone(
        &self,
        container: &Container,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<bool> {
        standalone::stop(self.shared.clone(), container.clone(), signal, timeout).await
    }

    pub(crate) async fn restart_standalone(
        &self,
        container: &Container,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        standalone::restart(self.shared.clone(), container.clone(), signal, timeout).await
    }

    pub(crate) async fn kill_standalone(&self, container: &Container, signal: i32) -> Result<()> {
        standalone::kill(self.shared.clone(), container.clone(), signal).await
    }

    pub(crate) async fn pause_standalone(&self, container: &Container) -> Result<()> {
        standalone::pause(self.shared.clone(), container.clone()).await
    }

    pub(crate) async fn unpause_standalone(&self, container: &Container) -> Result<()> {
        standalone::unpause(self.shared.clone(), container.clone()).await
    }

    pub(crate) async fn rename_standalone(&self, container: &Container, name: &str) -> Result<()> {
        standalone::rename(self.shared.clone(), container.clone(), name).await
    }

    pub(crate) async fn remove_standalone(
        &self,
        container: &Container,
        removal: Removal,
    ) -> Result<()> {
        standalone::remove(self.shared.clone(), container.clone(), removal).await
    }

    /// # Errors
    /// What the kernel refuses; then nothing is changed.
    pub(crate) async fn update_standalone(
        &self,
        container: &Container,
        update: Update,
    ) -> Result<()> {
        standalone::update::update(self.shared.clone(), container.clone(), update).await
    }

    /// Of any container, whoever made it; `None` unless it runs.
    pub(crate) async fn usage(&self, id: &str) -> Result<Option<Usage>> {
        stats::usage::of(&self.shared, id).await
    }

    /// Whether the kernel gives block I/O a weight; as far as that is known.
    pub(crate) fn can_weigh_io(&self) -> bool {
        self.shared.cgroups.can_weigh_io()
    }

    /// What a container's last probes came to.
    pub(crate) fn health_results(&self, id: &ContainerId) -> standalone::health::Results {
        let found = self.shared.standalones.find(id.as_str());
        found.map(|found| found.health_results()).unwrap_or_default()
    }

    /// Joins the container's streams, now or when it is started.
    pub(crate) async fn attach_standalone(
        &self,
        container: &Container,
        wanted: Wanted,
    ) -> Result<Waiting> {
        let waiting = container.attach(wanted).await?;
        self.shared.tell(&container.record(), Act::Plain("attach"));
        Ok(waiting)
    }

    pub(crate) async fn resize_standalone(
        &self,
        container: &Container,
        width: u16,
        height: u16,
    ) -> Result<()> {
        container.resize(&self.shared, width, height).await?;
        self.shared.tell(&container.record(), Act::Resize { width, height });
        Ok(())
    }

    /// A client did something to a container that changes nothing in it.
    pub(crate) fn acted_on(&self, container: &ContainerId, act: Act<'_>) {
        self.shared.tell_of_running(container, act);
    }

    /// The file that a standalone container's output goes to.
    pub(crate) fn standalone_log(&self, id: &ContainerId) -> PathBuf {
        self.shared.layout.standalone(id).join(standalone::LOG)
    }

    /// In any container that runs, whoever made it.
    pub(crate) fn create_exec(
        &self,
        container: &ContainerId,
        request: exec::Request,
    ) -> Result<Arc<Exec>> {
        exec::create(&self.shared, container, request)
    }

    pub(crate) fn exec(&self, id: &str) -> Result<Arc<Exec>> {
        self.shared.execs.find(id)
    }

    pub(crate) async fn start_exec(
        &self,
        exec: &Arc<Exec>,
        is_detached: bool,
        size: Option<(u16, u16)>,
    ) -> Result<Session> {
        exec::start(&self.shared, exec, is_detached, size).await
    }

    /// Those that run now.
    pub(crate) fn exec_ids(&self, container: &ContainerId) -> Vec<String> {
        self.shared.execs.of(container)
    }

    /// As the host numbers them; none if the container does not run.
    pub(crate) fn processes(&self, container: &ContainerId) -> Result<Vec<i32>> {
        match self.shared.containers.find(container.as_str()) {
            Ok(found) => {
                let group = self.shared.cgroups.open(&found.record().cgroup)?;
                Ok(group.processes()?.into_iter().map(|pid| pid.as_raw_pid()).collect())
            }
            Err(_) => Ok(Vec::new()),
        }
    }

    /// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, as clients know a kubelet's containers.
    pub(crate) fn pod_container_name(&self, container: &ContainerRecord) -> Option<String> {
        self.shared.pod_container_name(container)
    }

    pub(crate) fn pod_directory(&self, pod: &PodId) -> PathBuf {
        self.shared.layout.pod(pod)
    }

    /// What a pod has in a network.
    pub(crate) fn attachment(&self, pod: &PodId, network: &NetworkRef) -> Option<Attachment> {
        self.shared.pods.find(pod.as_str()).ok()?.record().attachment_of(network).cloned()
    }

    /// The path of a pod's network namespace.
    pub(crate) fn network_namespace(&self, pod: &PodId) -> Option<String> {
        let pid = self.shared.pods.find(pod.as_str()).ok()?.record().monitor_pid?;
        Some(format!("/proc/{pid}/ns/net"))
    }
}
