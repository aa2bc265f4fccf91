//! Usage per container and pod: cgroup files, the writable layer, the pod's interfaces.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::container::phase::Phase;
use super::container::{self, Container};
use super::pod::{self, Pod};
use super::{Shared, clock};
use crate::cgroup;
use crate::error::{Context, Result};
use crate::monitor::protocol::SocketKind;
use crate::net::PodSocket;
use crate::net::stats::InterfaceStats;

#[derive(Debug, Clone)]
pub(crate) struct ContainerStats {
    pub(crate) container: Arc<container::record::Record>,
    /// When the figures were read, nanoseconds since the epoch.
    pub(crate) at: i64,
    /// `None` unless the container has processes.
    pub(crate) cgroup: Option<cgroup::Stats>,
    /// Nanoseconds of CPU per second since the last look; `None` at the first.
    pub(crate) cpu_nano_cores: Option<u64>,
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
    pub(crate) processes: Option<u64>,
    pub(crate) containers: Vec<ContainerStats>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DiskUsage {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// CPU time at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuSample {
    at: i64,
    usage_nanos: u64,
    /// The rate before, shown again when two looks are too close to tell one.
    rate: Option<u64>,
}

/// Two looks closer than this tell nothing: the kernel accounts CPU time by ticks.
const SHORTEST_WINDOW_NANOS: i64 = 100_000_000;

pub(crate) async fn of_container(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
) -> Result<ContainerStats> {
    let snapshot = container.record();
    let at = clock::now();
    let cgroup = match snapshot.phase {
        Phase::Created { .. } | Phase::Running { .. } => {
            Some(shared.cgroups.open(&container.record().cgroup)?.stats()?)
        }
        Phase::Exited(_) => None,
    };
    let cpu_nano_cores = cgroup
        .as_ref()
        .and_then(|stats| cpu_rate(shared, container.id.as_str(), at, stats.cpu.usage_ns));
    let upper = shared.layout.container_root(&container.id).join("upper");
    let writable = tokio::task::spawn_blocking(move || disk_usage(&upper))
        .await
        .context("measure the writable layer")?;
    Ok(ContainerStats { container: snapshot, at, cgroup, cpu_nano_cores, writable: writable.ok() })
}

/// Those that `keep` names. One that goes away meanwhile is left out.
pub(crate) async fn of_containers(
    shared: &Arc<Shared>,
    keep: impl Fn(&Container) -> bool,
) -> Vec<ContainerStats> {
    let mut all = Vec::new();
    for container in shared.containers.all() {
        if keep(&container)
            && let Ok(stats) = of_container(shared, &container).await
        {
            all.push(stats);
        }
    }
    all
}

pub(crate) async fn of_pod(shared: &Arc<Shared>, pod: &Arc<Pod>) -> Result<PodStats> {
    let at = clock::now();
    let containers = of_containers(shared, |container| container.record().pod == pod.id).await;
    let record = pod.record();
    let group = shared.cgroups.open(&record.cgroup)?;
    let cgroup = if group.exists() { Some(group.stats()?) } else { None };
    let cpu_nano_cores =
        cgroup.as_ref().and_then(|stats| cpu_rate(shared, pod.id.as_str(), at, stats.cpu.usage_ns));
    let network = match (pod.monitor(), record.attachment.is_some()) {
        (Ok(monitor), true) => {
            let socket = pod::run::open_socket(&monitor, SocketKind::Route).await?;
            crate::net::stats::interfaces(&PodSocket::new(socket)?)?
        }
        (Ok(_), false) | (Err(_), _) => Vec::new(),
    };
    let processes = containers.iter().filter_map(|it| it.cgroup.as_ref()).map(|it| it.pids.current);
    let processes = Some(processes.sum());
    let pod = pod.record();
    Ok(PodStats { pod, at, cgroup, cpu_nano_cores, network, processes, containers })
}

pub(crate) async fn of_pods(shared: &Arc<Shared>, keep: impl Fn(&Pod) -> bool) -> Vec<PodStats> {
    let mut all = Vec::new();
    for pod in shared.pods.all() {
        if keep(&pod)
            && let Ok(stats) = of_pod(shared, &pod).await
        {
            all.push(stats);
        }
    }
    all
}

fn cpu_rate(shared: &Shared, id: &str, at: i64, usage_nanos: u64) -> Option<u64> {
    let mut samples = shared.cpu_samples.lock().unwrap_or_else(PoisonError::into_inner);
    let before = samples.get(id).copied();
    let Some(before) = before else {
        samples.insert(id.to_owned(), CpuSample { at, usage_nanos, rate: None });
        return None;
    };
    let window = at.saturating_sub(before.at);
    if window < SHORTEST_WINDOW_NANOS {
        return before.rate;
    }
    let used = u128::from(usage_nanos.saturating_sub(before.usage_nanos));
    let rate = used * 1_000_000_000 / u128::from(window.unsigned_abs());
    let rate = u64::try_from(rate).ok();
    samples.insert(id.to_owned(), CpuSample { at, usage_nanos, rate });
    rate
}

impl Shared {
    /// An object that is gone needs no sample.
    pub(super) fn forget_cpu_sample(&self, id: &str) {
        self.cpu_samples.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// Bytes and inodes below `directory`, itself included. Links are not followed; a file that goes
/// away meanwhile is not counted.
pub(crate) fn disk_usage(directory: &Path) -> std::io::Result<DiskUsage> {
    use std::os::unix::fs::MetadataExt;

    let of = |metadata: &std::fs::Metadata| metadata.blocks() * 512;
    let mut usage = DiskUsage { bytes: of(&directory.symlink_metadata()?), inodes: 1 };
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = directory.read_dir() else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            usage.bytes += of(&metadata);
            usage.inodes += 1;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_counts_what_is_there_and_follows_no_link() {
        let temp = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(temp.path().join("file")).unwrap();
        std::io::Write::write_all(&mut &file, &[1; 10_000]).unwrap();
        std::os::unix::fs::symlink("/usr", temp.path().join("link")).unwrap();

        let usage = disk_usage(temp.path()).unwrap();

        assert_eq!(usage.inodes, 3);
        assert!((8_192..100_000).contains(&usage.bytes), "{usage:?}");
    }
}
