//! Where NRI plugins take part: what they are told, what they may ask for, and what is done about it.
//!
//! | event | when | an error of a plugin |
//! |---|---|---|
//! | RunPodSandbox | the pod is whole, nobody sees it | undoes the pod |
//! | CreateContainer | the spec is made, nothing of it yet | undoes the container |
//! | UpdatePodSandbox | before a limit is written | leaves the limits |
//! | StartContainer | before the program is executed | leaves the container created |
//! | UpdateContainer | before a limit is written | leaves the limits |
//! | StopContainer | the container has ended, by itself or not | is logged |
//! | StopPodSandbox | all containers have ended, the network is there | is logged |
//! | Remove…, Post… | it has happened | is logged |
//!
//! An end is told once, however many calls meet it. Without plugins nothing is described and no message
//! made; the futures that do so are boxed, to weigh nothing in those of the calls.

mod adjust;
mod describe;
mod resources;
mod update;

use std::pin::Pin;
use std::sync::Arc;

use cais_proto::nri::v1alpha1::{
    Container as ContainerMessage, ContainerEviction, ContainerUpdate, Event, PodSandbox,
    UpdatePodSandboxRequest,
};

use super::Shared;
use super::container::Container;
use super::container::phase::Phase;
use super::pod::Pod;
use super::pod::phase::Phase as PodPhase;
use super::pod::record::{Limits, Record as PodRecord};
use super::undo::Undo;
use crate::cgroup::Resources;
use crate::error::{Context, Result};
use crate::nri::{Creation, Runtime};

pub(super) use self::update::Changes;

/// The engine, as plugins reach it.
struct Reach(Arc<Shared>);

impl Runtime for Reach {
    fn pods_and_containers(&self) -> (Vec<PodSandbox>, Vec<ContainerMessage>) {
        let shared = &self.0;
        let pods = shared.pods.all();
        let living = pods.iter().filter(|pod| is_living(pod));
        let containers = shared.containers.all();
        let running = containers
            .iter()
            .filter(|container| !matches!(container.record().phase, Phase::Exited(_)));
        (
            living.map(|pod| describe::pod(&pod.record())).collect(),
            running.map(|container| describe::container(shared, container)).collect(),
        )
    }

    fn update(
        &self,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Pin<Box<dyn Future<Output = Vec<ContainerUpdate>> + Send + '_>> {
        Box::pin(async move {
            update::evict(&self.0, evictions);
            update::all(&self.0, updates).await.into_iter().map(|(update, _)| update).collect()
        })
    }
}

/// A pod of whose end no plugin has been told.
fn is_living(pod: &Pod) -> bool {
    pod.record().phase == PodPhase::Ready && !pod.end_told.initialized()
}

/// After what an earlier daemon left has been taken up.
pub(super) async fn start(shared: &Arc<Shared>) {
    // What ended while no daemon was there is no news to plugins, which are not told that it was.
    for container in shared.containers.all() {
        if let Phase::Exited(_) = container.record().phase {
            let _ = container.end_told.set(());
        }
    }
    for pod in shared.pods.all() {
        if pod.record().phase == PodPhase::Stopped {
            let _ = pod.end_told.set(());
        }
    }
    let reach: Arc<dyn Runtime> = Arc::new(Reach(shared.clone()));
    shared.nri.start(&reach).await;
}

/// The pod is whole. The caller holds [`crate::nri::Nri::steady`] until it is published.
pub(super) async fn pod_made(
    shared: &Arc<Shared>,
    record: &PodRecord,
    undo: &mut Undo,
) -> Result<()> {
    if shared.nri.is_idle() {
        return Ok(());
    }
    let pod = describe::pod(record);
    undo.push("tell the plugins that the pod is gone", {
        let (shared, pod) = (shared.clone(), pod.clone());
        async move {
            shared.nri.tell(Event::StopPodSandbox, pod.clone(), None).await;
            shared.nri.tell(Event::RemovePodSandbox, pod, None).await;
            Ok(())
        }
    });
    Box::pin(shared.nri.ask(Event::RunPodSandbox, pod, None)).await
}

/// Before the pod's limits are written.
pub(super) async fn pod_updating(
    shared: &Shared,
    record: &PodRecord,
    limits: &Limits,
) -> Result<()> {
    if shared.nri.is_idle() {
        return Ok(());
    }
    let message = |resources: Option<&Resources>| resources.map(resources::to_message);
    let request = UpdatePodSandboxRequest {
        pod: Some(describe::pod(record)),
        overhead_linux_resources: message(limits.overhead.as_ref()),
        linux_resources: message(limits.resources.as_ref()),
    };
    Box::pin(shared.nri.update_pod(&request)).await
}

pub(super) async fn pod_updated(shared: &Shared, record: &PodRecord) {
    if !shared.nri.is_idle() {
        let told = describe::pod(record);
        Box::pin(shared.nri.tell(Event::PostUpdatePodSandbox, told, None)).await;
    }
}

/// All containers of the pod have ended.
pub(super) async fn pod_stopped(shared: &Shared, pod: &Pod) {
    let tell = async {
        if !shared.nri.is_idle() {
            let _steady = shared.nri.steady().await;
            let told = describe::pod(&pod.record());
            Box::pin(shared.nri.tell(Event::StopPodSandbox, told, None)).await;
        }
    };
    pod.end_told.get_or_init(|| tell).await;
}

pub(super) async fn pod_removed(shared: &Shared, record: &PodRecord) {
    if !shared.nri.is_idle() {
        let told = describe::pod(record);
        Box::pin(shared.nri.tell(Event::RemovePodSandbox, told, None)).await;
    }
}

/// A container whose spec is made. The caller holds [`crate::nri::Nri::steady`] until it is
/// published.
pub(super) struct InTheMaking<'a> {
    pub(super) pod: &'a PodRecord,
    pub(super) id: &'a crate::id::ContainerId,
    pub(super) config: &'a super::container::config::Config,
    pub(super) image: &'a crate::image::Image,
}

/// Lets the plugins adjust the container. What they want of others is returned, to be done when
/// nothing else can fail.
pub(super) async fn container_specified(
    shared: &Arc<Shared>,
    making: InTheMaking<'_>,
    bundle: &mut super::spec::Bundle,
    undo: &mut Undo,
) -> Result<Changes> {
    if shared.nri.is_idle() {
        return Ok(Changes::default());
    }
    Box::pin(specified(shared, making, bundle, undo)).await
}

async fn specified(
    shared: &Arc<Shared>,
    making: InTheMaking<'_>,
    bundle: &mut super::spec::Bundle,
    undo: &mut Undo,
) -> Result<Changes> {
    let InTheMaking { pod, id, config, image } = making;
    let cgroup = crate::cgroup::Record::planned(&pod.cgroup.path, id.as_str(), None)?.path;
    let draft = describe::Draft { id, pod: &pod.id, config, image, bundle, cgroup: &cgroup };
    let (pod, container) = (describe::pod(pod), describe::draft(&draft));
    undo.push("tell the plugins that the container is gone", {
        let (shared, pod, container) = (shared.clone(), pod.clone(), container.clone());
        async move {
            let updates = shared.nri.stop_container(pod.clone(), container.clone()).await;
            update::all_or_warn(&shared, updates).await;
            shared.nri.tell(Event::RemoveContainer, pod, Some(container)).await;
            Ok(())
        }
    });
    let creation = shared.nri.create_container(pod, container).await?;
    let Creation { container, adjust, updates, evictions } = creation;
    adjust::apply(adjust, bundle, &shared.filters).context("what NRI plugins ask for")?;
    undo.push("forget what plugins made of the container", {
        let (shared, id) = (shared.clone(), id.clone());
        async move { shared.remove_process(&id) }
    });
    shared.keep_description(id, &describe::keep(&container))?;
    Ok(Changes { updates, evictions })
}

pub(super) async fn container_created(shared: &Shared, container: &Container) {
    tell(shared, Event::PostCreateContainer, container).await;
}

/// The caller holds [`crate::nri::Nri::steady`] until the container runs.
pub(super) async fn container_starting(shared: &Shared, container: &Container) -> Result<()> {
    match subject(shared, container) {
        Some((pod, told)) => Box::pin(shared.nri.ask(Event::StartContainer, pod, Some(told))).await,
        None => Ok(()),
    }
}

pub(super) async fn container_started(shared: &Shared, container: &Container) {
    tell(shared, Event::PostStartContainer, container).await;
}

/// What the client's update of a container comes to; what plugins want of others is returned.
pub(super) async fn container_updating(
    shared: &Shared,
    container: &Container,
    change: Resources,
) -> Result<(Resources, Changes)> {
    let Some((pod, told)) = subject(shared, container) else {
        return Ok((change, Changes::default()));
    };
    let asked = resources::to_message(&change);
    let update = Box::pin(shared.nri.update_container(pod, told, asked)).await?;
    let mut change = change;
    resources::lay(&update.resources, &mut change).context("what NRI plugins ask for")?;
    Ok((change, Changes { updates: update.updates, evictions: update.evictions }))
}

pub(super) async fn container_updated(shared: &Shared, container: &Container) {
    tell(shared, Event::PostUpdateContainer, container).await;
}

/// The container has ended; nobody waits for the plugins to hear of it.
pub(super) fn container_exited(shared: &Arc<Shared>, container: &Arc<Container>) {
    if shared.nri.is_idle() {
        // Told already is as good: there is nobody to tell.
        let _ = container.end_told.set(());
        return;
    }
    let (shared, container) = (shared.clone(), container.clone());
    tokio::spawn(async move { container_stopped(&shared, &container).await });
}

/// Returns when all plugins have heard of the container's end.
pub(super) async fn container_stopped(shared: &Arc<Shared>, container: &Container) {
    let tell = async {
        // Not before they have heard that it started.
        let _order = container.starting.lock().await;
        if let Some(subject) = subject(shared, container) {
            Box::pin(stopped(shared, subject)).await;
        }
    };
    container.end_told.get_or_init(|| tell).await;
}

async fn stopped(shared: &Arc<Shared>, (pod, container): Subject) {
    let updates = {
        let _steady = shared.nri.steady().await;
        shared.nri.stop_container(pod, container).await
    };
    update::all_or_warn(shared, updates).await;
}

/// What to tell of a container that will be gone then.
pub(super) fn last_words(shared: &Shared, container: &Container) -> Option<Box<Subject>> {
    subject(shared, container).map(Box::new)
}

pub(super) async fn container_removed(shared: &Shared, words: Option<Box<Subject>>) {
    if let Some(words) = words {
        let (pod, container) = *words;
        Box::pin(shared.nri.tell(Event::RemoveContainer, pod, Some(container))).await;
    }
}

async fn tell(shared: &Shared, event: Event, container: &Container) {
    if let Some((pod, told)) = subject(shared, container) {
        Box::pin(shared.nri.tell(event, pod, Some(told))).await;
    }
}

/// A container and its pod, as plugins are told of them.
pub(super) type Subject = (PodSandbox, ContainerMessage);

/// If there is anybody to tell.
fn subject(shared: &Shared, container: &Container) -> Option<Subject> {
    if shared.nri.is_idle() {
        return None;
    }
    let pod = shared.pods.find(container.record().pod.as_str()).ok()?;
    Some((describe::pod(&pod.record()), describe::container(shared, container)))
}
