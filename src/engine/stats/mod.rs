//! Usage per container and pod: cgroup files, the writable layer, the pod's interfaces.
//!
//! The kernel's files are read at each call, off the threads that serve calls; a writable layer is
//! walked in the background and shown as it was some seconds ago (`writable`).

mod cpu_rate;
pub(crate) mod metrics;
mod network;
mod processes;
pub(crate) mod usage;
mod writable;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{Stream, StreamExt, stream};

pub(crate) use self::cpu_rate::CpuRate;
pub(super) use self::writable::bytes_below;
pub(crate) use self::writable::{DiskUsage, WritableLayer, total as total_writable};
use super::container::phase::Phase;
use super::container::{self, Container};
use super::pod::{self, Pod};
use super::{Shared, clock};
use crate::cgroup;
use crate::error::{Error, Result};
use crate::id::PodId;
use crate::net::stats::InterfaceStats;

#[derive(Debug, Clone)]
pub(crate) struct ContainerStats {
    pub(crate) container: Arc<container::record::Record>,
    /// When the figures were read, nanoseconds since the epoch.
    pub(crate) at: i64,
    /// `None` unless the container has processes.
    pub(crate) cgroup: Option<cgroup::Stats>,
    /// Nanoseconds of CPU per second since the last look, or since the container began.
    pub(crate) cpu_nano_cores: Option<u64>,
    /// As last measured; `None` while the first walk through a large layer goes on.
    pub(crate) writable: Option<DiskUsage>,
}

#[derive(Debug, Clone)]
pub(crate) struct PodStats {
    pub(crate) pod: Arc<pod::record::Record>,
    pub(crate) at: i64,
    /// Of the pod's own cgroup; `None` when there is none.
    pub(crate) cgroup: Option<cgroup::Stats>,
    pub(crate) cpu_nano_cores: Option<u64>,
    /// None with the host's network.
    pub(crate) network: Vec<InterfaceStats>,
    pub(crate) processes: u64,
    pub(crate) containers: Vec<ContainerStats>,
}

/// A thread that takes less than this many groups costs more than it gains.
const FEWEST_PER_THREAD: usize = 16;
/// Objects whose figures are read together for one part of a stream.
const GROUP: usize = 128;

pub(crate) async fn of_container(
    shared: &Arc<Shared>,
    container: Arc<Container>,
) -> Result<ContainerStats> {
    let id = container.id.clone();
    let stats = of_containers(shared, vec![container]).await.pop();
    stats.ok_or_else(|| Error::not_found(format!("container {id} is being removed")))
}

/// One that goes away meanwhile is left out.
pub(crate) async fn of_containers(
    shared: &Arc<Shared>,
    containers: Vec<Arc<Container>>,
) -> Vec<ContainerStats> {
    let walk = writable::start(shared, &containers);
    let of_group = |shared: &Shared, container: &Arc<Container>| read(shared, container);
    let read = off_thread(shared, containers.clone(), of_group).await;
    writable::finish(walk, &containers).await;
    containers
        .into_iter()
        .zip(read)
        .filter_map(|(container, read)| {
            let (at, cgroup, cpu_nano_cores) = read?;
            let writable = container.writable.known();
            let container = container.record();
            Some(ContainerStats { container, at, cgroup, cpu_nano_cores, writable })
        })
        .collect()
}

/// As [`of_containers`], some at a time: which containers are meant is decided at the beginning.
pub(crate) fn containers_in_groups(
    shared: &Arc<Shared>,
    containers: &[Arc<Container>],
) -> impl Stream<Item = Vec<ContainerStats>> + Send + 'static + use<> {
    let groups: Vec<_> = containers.chunks(GROUP).map(<[_]>::to_vec).collect();
    let shared = shared.clone();
    stream::iter(groups).then(move |group| {
        let shared = shared.clone();
        async move { of_containers(&shared, group).await }
    })
}

type Read = Option<(i64, Option<cgroup::Stats>, Option<u64>)>;

fn read(shared: &Shared, container: &Container) -> Read {
    let record = container.record();
    let at = clock::now();
    let began = match record.phase {
        Phase::Created { .. } => record.created_at,
        Phase::Running { started_at, .. } => started_at,
        Phase::Exited(_) => return Some((at, None, None)),
    };
    let stats = shared.cgroups.stats(&record.cgroup).ok()??;
    let nano_cores = container.cpu_rate.look(began, at, stats.cpu.usage_ns);
    Some((at, Some(stats), nano_cores))
}

pub(crate) async fn of_pod(shared: &Arc<Shared>, pod: Arc<Pod>) -> Result<PodStats> {
    let id = pod.id.clone();
    let stats = of_pods(shared, vec![pod]).await.pop();
    stats.ok_or_else(|| Error::not_found(format!("pod sandbox {id} is being removed")))
}

pub(crate) async fn of_pods(shared: &Arc<Shared>, pods: Vec<Arc<Pod>>) -> Vec<PodStats> {
    let mut containers = by_pod(of_containers(shared, containers_of(shared, &pods)).await);
    let groups = off_thread(shared, pods.clone(), |shared, pod: &Arc<Pod>| {
        let record = pod.record();
        let at = clock::now();
        let stats = shared.cgroups.stats(&record.cgroup).ok().flatten();
        let rate = stats.as_ref().map(|it| it.cpu.usage_ns);
        let rate = rate.and_then(|ns| pod.cpu_rate.look(record.created_at, at, ns));
        (at, stats, rate)
    })
    .await;
    let networks = network::of_pods(shared, &pods).await;
    let figures = groups.into_iter().zip(networks);
    pods.into_iter()
        .zip(figures)
        .map(|(pod, ((at, cgroup, cpu_nano_cores), network))| {
            let containers = containers.remove(&pod.id).unwrap_or_default();
            let tasks = containers.iter().filter_map(|it| it.cgroup.as_ref()).map(|it| it.tasks);
            let processes = tasks.sum();
            let pod = pod.record();
            PodStats { pod, at, cgroup, cpu_nano_cores, network, processes, containers }
        })
        .collect()
}

/// As [`of_pods`], some at a time: which pods are meant is decided at the beginning.
pub(crate) fn pods_in_groups(
    shared: &Arc<Shared>,
    pods: &[Arc<Pod>],
) -> impl Stream<Item = Vec<PodStats>> + Send + 'static + use<> {
    let groups: Vec<_> = pods.chunks(GROUP).map(<[_]>::to_vec).collect();
    let shared = shared.clone();
    stream::iter(groups).then(move |group| {
        let shared = shared.clone();
        async move { of_pods(&shared, group).await }
    })
}

fn containers_of(shared: &Shared, pods: &[Arc<Pod>]) -> Vec<Arc<Container>> {
    if let [pod] = pods {
        return shared.containers_of(&pod.id);
    }
    let wanted: std::collections::HashSet<_> = pods.iter().map(|pod| &pod.id).collect();
    let mut containers = shared.containers.all();
    containers.retain(|container| wanted.contains(&container.record().pod));
    containers
}

fn by_pod(all: Vec<ContainerStats>) -> HashMap<PodId, Vec<ContainerStats>> {
    let mut sorted: HashMap<PodId, Vec<ContainerStats>> = HashMap::new();
    for stats in all {
        sorted.entry(stats.container.pod.clone()).or_default().push(stats);
    }
    sorted
}

/// Reads about each of `items`, in their order, on threads that may block.
async fn off_thread<T, F>(
    shared: &Arc<Shared>,
    items: Vec<Arc<T>>,
    read: impl Fn(&Shared, &Arc<T>) -> F + Copy + Send + 'static,
) -> Vec<F>
where
    T: Send + Sync + 'static,
    F: Default + Send + 'static,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(threads).max(FEWEST_PER_THREAD);
    let readers = items.chunks(share).map(|items| {
        let (shared, items) = (shared.clone(), items.to_vec());
        let count = items.len();
        let reader = tokio::task::spawn_blocking(move || {
            items.iter().map(|item| read(&shared, item)).collect::<Vec<F>>()
        });
        // A reader that panicked has nothing to tell about its items.
        async move { reader.await.unwrap_or_else(|_| (0..count).map(|_| F::default()).collect()) }
    });
    join_all(readers).await.into_iter().flatten().collect()
}
