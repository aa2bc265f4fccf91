//! What is scraped beyond the statistics: every figure a monitoring system knows of a container.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};

use super::processes::{self, Processes};
use super::{ContainerStats, GROUP, PodStats, of_pods, off_thread};
use crate::cgroup::{self, Details};
use crate::engine::Shared;
use crate::engine::container::Container;
use crate::engine::container::phase::Phase;
use crate::engine::pod::Pod;
use crate::error::{Context, Result};
use crate::id::ContainerId;

#[derive(Debug, Clone)]
pub(crate) struct PodMetrics {
    /// Its containers are in `containers` instead.
    pub(crate) stats: PodStats,
    /// Of the pod's own cgroup.
    pub(crate) details: Details,
    /// Those that have processes.
    pub(crate) containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Clone)]
pub(crate) struct ContainerMetrics {
    pub(crate) stats: ContainerStats,
    pub(crate) details: Details,
    pub(crate) processes: Processes,
}

/// The file system of the writable layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileSystem {
    /// What is mounted there, such as `/dev/vda1`.
    pub(crate) device: String,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
}

/// Some pods at a time: which pods are meant is decided at the beginning.
pub(crate) fn pods_in_groups(
    shared: &Arc<Shared>,
    pods: &[Arc<Pod>],
) -> impl Stream<Item = Vec<PodMetrics>> + Send + 'static + use<> {
    let groups: Vec<_> = pods.chunks(GROUP).map(<[_]>::to_vec).collect();
    let shared = shared.clone();
    stream::iter(groups).then(move |group| {
        let shared = shared.clone();
        async move { of_group(&shared, group).await }
    })
}

async fn of_group(shared: &Arc<Shared>, pods: Vec<Arc<Pod>>) -> Vec<PodMetrics> {
    let mut all = of_pods(shared, pods.clone()).await;
    let seen = all.iter().flat_map(|pod| &pod.containers);
    let running = seen.filter(|it| it.cgroup.is_some()).map(|it| it.container.id.as_str());
    let running: Vec<_> = running.filter_map(|id| shared.containers.find(id).ok()).collect();
    let mut details = details_of(shared, running).await;
    let of_pod = |shared: &Shared, pod: &Arc<Pod>| {
        let group = shared.cgroups.open(&pod.record().cgroup);
        group.and_then(|group| group.details()).unwrap_or_default()
    };
    let pod_details = off_thread(shared, pods, of_pod).await;
    all.iter_mut()
        .zip(pod_details)
        .map(|(stats, own)| {
            let containers = std::mem::take(&mut stats.containers);
            let containers = containers.into_iter().filter_map(|stats| {
                let (details, processes) = details.remove(&stats.container.id)?;
                Some(ContainerMetrics { stats, details, processes })
            });
            let containers = containers.collect();
            PodMetrics { stats: stats.clone(), details: own, containers }
        })
        .collect()
}

async fn details_of(
    shared: &Arc<Shared>,
    containers: Vec<Arc<Container>>,
) -> HashMap<ContainerId, (Details, Processes)> {
    let read = off_thread(shared, containers.clone(), |shared, container: &Arc<Container>| {
        let record = container.record();
        let group = shared.cgroups.open(&record.cgroup).ok().filter(cgroup::Cgroup::exists)?;
        let first = match record.phase {
            Phase::Created { pid } | Phase::Running { pid, .. } => Some(pid),
            Phase::Exited(_) => None,
        };
        let members = group.processes().unwrap_or_default();
        Some((group.details().ok()?, processes::of(&members, first)))
    })
    .await;
    let ids = containers.iter().map(|container| container.id.clone());
    ids.zip(read).filter_map(|(id, read)| Some((id, read?))).collect()
}

/// The file system that holds `path`.
pub(crate) fn file_system(path: &Path) -> Result<FileSystem> {
    use std::os::unix::fs::MetadataExt;

    let space = rustix::fs::statvfs(path).with_context(|| format!("stat {}", path.display()))?;
    let number = path.metadata().with_context(|| format!("stat {}", path.display()))?.dev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    Ok(FileSystem {
        device: mounted(&mounts, &number).unwrap_or(&number).to_owned(),
        bytes: space.f_blocks.saturating_mul(space.f_frsize),
        inodes: space.f_files,
        free_inodes: space.f_ffree,
    })
}

/// The source of the mount whose device has this number.
fn mounted<'a>(mounts: &'a str, number: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (left.split(' ').nth(2)? == number).then(|| right.split(' ').nth(1))?
    })
}

/// `/dev/vda` of a block device; its numbers when the kernel has no name for it.
pub(crate) fn block_device(major: u64, minor: u64) -> String {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    let name = link.ok().and_then(|link| link.file_name()?.to_str().map(str::to_owned));
    name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_a_file_system_is_what_is_mounted() {
        let mounts = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                      30 22 0:26 / /run rw - tmpfs tmpfs rw\n";
        assert_eq!(mounted(mounts, "254:1"), Some("/dev/vda1"));
        assert_eq!(mounted(mounts, "8:1"), None);
    }

    #[test]
    fn a_file_system_has_a_size() {
        let temp = tempfile::tempdir().unwrap();
        let found = file_system(temp.path()).unwrap();
        assert!(found.bytes > 1 << 20 && !found.device.is_empty(), "{found:?}");
    }

    #[test]
    fn a_device_without_a_name_is_shown_by_its_numbers() {
        assert_eq!(block_device(4095, 7), "4095:7");
    }
}
