//! What one container of either door uses, in all the detail that Docker's clients are shown.

use std::sync::Arc;

use super::{InterfaceStats, network, off_thread};
use crate::cgroup::{self, Details, Raw};
use crate::engine::container::Container;
use crate::engine::container::phase::Phase;
use crate::engine::pod::Pod;
use crate::engine::pod::config::OwnNetwork;
use crate::engine::{Shared, clock};
use crate::error::{Context, Result};

/// `USER_HZ`, the unit of `/proc/stat`, is 100 for every program.
const NS_PER_TICK: u64 = 10_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// When the figures were read, nanoseconds since the epoch.
    pub(crate) at: i64,
    pub(crate) cgroup: cgroup::Stats,
    pub(crate) details: Details,
    pub(crate) raw: Raw,
    /// None with the host's network.
    pub(crate) network: Vec<InterfaceStats>,
    pub(crate) host: HostCpu,
    /// Bytes of memory that this machine has.
    pub(crate) host_memory: u64,
}

/// The time that all CPUs of this machine have had since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HostCpu {
    pub(crate) ns: u64,
    pub(crate) online: u32,
}

/// `None` unless it runs.
pub(crate) async fn of(shared: &Arc<Shared>, id: &str) -> Result<Option<Usage>> {
    let Ok(container) = shared.containers.find(id) else { return Ok(None) };
    let read = off_thread(shared, vec![container.clone()], |shared, it: &Arc<Container>| {
        Some(read(shared, it))
    });
    let Some(mut usage) = read.await.pop().flatten().transpose()?.flatten() else {
        return Ok(None);
    };
    if let Some(pod) = network_of(shared, container.record().pod.as_str()) {
        usage.network = network::of_pods(shared, &[pod]).await.pop().unwrap_or_default();
    }
    Ok(Some(usage))
}

fn read(shared: &Shared, container: &Container) -> Result<Option<Usage>> {
    let record = container.record();
    if !matches!(record.phase, Phase::Running { .. }) {
        return Ok(None);
    }
    let group = shared.cgroups.open(&record.cgroup)?;
    let (host, at) = (host_cpu()?, clock::now());
    let Some(stats) = shared.cgroups.stats(&record.cgroup)? else { return Ok(None) };
    Ok(Some(Usage {
        at,
        cgroup: stats,
        details: group.details()?,
        raw: group.raw()?,
        network: Vec::new(),
        host,
        host_memory: host_memory(),
    }))
}

/// The pod whose network it is.
fn network_of(shared: &Shared, pod: &str) -> Option<Arc<Pod>> {
    let pod = shared.pods.find(pod).ok()?;
    match pod.record().config.own_network() {
        OwnNetwork::Joined(other) => shared.pods.find(other.as_str()).ok(),
        OwnNetwork::Attached | OwnNetwork::Isolated | OwnNetwork::Networks(_) => Some(pod),
    }
}

fn host_cpu() -> Result<HostCpu> {
    let text = std::fs::read_to_string("/proc/stat").context("read the machine's CPU time")?;
    Ok(parse(&text))
}

/// The first line has all CPUs together, in ticks; what guests had is part of what users had.
fn parse(text: &str) -> HostCpu {
    let mut lines = text.lines().take_while(|line| line.starts_with("cpu"));
    let all = lines.next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks: u64 = all.filter_map(|word| word.parse::<u64>().ok()).sum();
    HostCpu {
        ns: ticks.saturating_mul(NS_PER_TICK),
        online: u32::try_from(lines.count()).unwrap_or(u32::MAX),
    }
}

fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_time_is_that_of_all_its_cpus() {
        let text = "cpu  10 1 20 300 4 0 5 6 7 8\ncpu0 5 0 10 150 2 0 2 3 0 0\n\
                    cpu1 5 1 10 150 2 0 3 3 0 0\nintr 12 0\n";
        assert_eq!(parse(text), HostCpu { ns: 3_460_000_000, online: 2 });
    }
}
