//! Usage. A figure that the kernel does not give is absent, never zero.

use std::path::Path;

use cais_proto::runtime::v1::{
    ContainerAttributes, ContainerMetadata, ContainerStats, CpuUsage, FilesystemIdentifier,
    FilesystemUsage, IoUsage, LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage,
    NetworkUsage, PodSandboxAttributes, PodSandboxMetadata, PodSandboxStats, ProcessUsage, PsiData,
    PsiStats, SwapUsage, UInt64Value,
};

use super::check;
use crate::cgroup::{Pressure, Stall, Stats};
use crate::engine::stats as engine;
use crate::net::stats::InterfaceStats;

/// What the kubelet takes for the pod's own interface.
const DEFAULT_INTERFACE: &str = "eth0";

/// `root` is on the file system of the writable layers.
pub(crate) fn container(stats: &engine::ContainerStats, root: &Path) -> ContainerStats {
    let engine::ContainerStats { container, at, cgroup, cpu_nano_cores, writable } = stats;
    let config = &container.config;
    let cgroup = cgroup.as_ref();
    ContainerStats {
        attributes: Some(ContainerAttributes {
            id: container.id.to_string(),
            metadata: Some(ContainerMetadata {
                name: config.name.clone(),
                attempt: config.attempt,
            }),
            labels: config.labels.clone().into_iter().collect(),
            annotations: config.annotations.clone().into_iter().collect(),
        }),
        cpu: cgroup.map(|cgroup| cpu(cgroup, *at, *cpu_nano_cores)),
        memory: cgroup.map(|cgroup| memory(cgroup, *at)),
        writable_layer: writable.map(|engine::DiskUsage { at, bytes, inodes }| FilesystemUsage {
            timestamp: at,
            fs_id: Some(FilesystemIdentifier { mountpoint: check::text(root) }),
            used_bytes: some(bytes),
            inodes_used: some(inodes),
        }),
        swap: cgroup.and_then(|cgroup| swap(cgroup, *at)),
        io: cgroup.and_then(|cgroup| io(cgroup, *at)),
    }
}

pub(crate) fn pod(stats: &engine::PodStats, root: &Path) -> PodSandboxStats {
    let engine::PodStats { pod, at, cgroup, cpu_nano_cores, network, processes, containers } =
        stats;
    let config = &pod.config;
    let cgroup = cgroup.as_ref();
    PodSandboxStats {
        attributes: Some(PodSandboxAttributes {
            id: pod.id.to_string(),
            metadata: Some(PodSandboxMetadata {
                name: config.name.clone(),
                uid: config.uid.clone(),
                namespace: config.namespace.clone(),
                attempt: config.attempt,
            }),
            labels: config.labels.clone().into_iter().collect(),
            annotations: config.annotations.clone().into_iter().collect(),
        }),
        linux: Some(LinuxPodSandboxStats {
            cpu: cgroup.map(|cgroup| cpu(cgroup, *at, *cpu_nano_cores)),
            memory: cgroup.map(|cgroup| memory(cgroup, *at)),
            network: self::network(network, *at),
            process: Some(ProcessUsage { timestamp: *at, process_count: some(*processes) }),
            containers: containers.iter().map(|it| container(it, root)).collect(),
            io: cgroup.and_then(|cgroup| io(cgroup, *at)),
        }),
        windows: None,
    }
}

fn cpu(cgroup: &Stats, timestamp: i64, nano_cores: Option<u64>) -> CpuUsage {
    CpuUsage {
        timestamp,
        usage_core_nano_seconds: some(cgroup.cpu.usage_ns),
        usage_nano_cores: nano_cores.and_then(some),
        psi: cgroup.cpu.pressure.as_ref().map(pressure),
    }
}

fn memory(cgroup: &Stats, timestamp: i64) -> MemoryUsage {
    let memory = &cgroup.memory;
    MemoryUsage {
        timestamp,
        working_set_bytes: some(memory.working_set),
        available_bytes: memory.available.and_then(some),
        usage_bytes: some(memory.usage),
        rss_bytes: some(memory.rss),
        page_faults: some(memory.faults.all),
        major_page_faults: some(memory.faults.major),
        psi: memory.pressure.as_ref().map(pressure),
    }
}

fn swap(cgroup: &Stats, timestamp: i64) -> Option<SwapUsage> {
    let usage = cgroup.memory.swap_usage?;
    let available = cgroup.memory.swap_limit.map(|limit| limit.saturating_sub(usage));
    Some(SwapUsage {
        timestamp,
        swap_available_bytes: available.and_then(some),
        swap_usage_bytes: some(usage),
    })
}

/// Reads and writes have no place in the interface; what it asks for is the time lost on them.
fn io(cgroup: &Stats, timestamp: i64) -> Option<IoUsage> {
    let psi = cgroup.io_pressure.as_ref().map(pressure)?;
    Some(IoUsage { timestamp, psi: Some(psi) })
}

fn pressure(pressure: &Pressure) -> PsiStats {
    let Pressure { some, full } = pressure;
    let data = |stall: &Stall| {
        let Stall { average_10, average_60, average_300, total_us } = stall;
        PsiData {
            total: total_us.saturating_mul(1000),
            avg10: percent(*average_10),
            avg60: percent(*average_60),
            avg300: percent(*average_300),
        }
    };
    PsiStats { full: Some(data(full)), some: Some(data(some)) }
}

/// From hundredths. An average is at most 100 %.
fn percent(hundredths: u64) -> f64 {
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

/// `None` with the host's network, whose figures are not the pod's.
fn network(interfaces: &[InterfaceStats], timestamp: i64) -> Option<NetworkUsage> {
    if interfaces.is_empty() {
        return None;
    }
    let usage = |interface: &InterfaceStats| {
        let InterfaceStats { name, counters } = interface;
        NetworkInterfaceUsage {
            name: name.clone(),
            rx_bytes: some(counters.rx_bytes),
            rx_errors: some(counters.rx_errors),
            tx_bytes: some(counters.tx_bytes),
            tx_errors: some(counters.tx_errors),
        }
    };
    let (default, others): (Vec<_>, Vec<_>) =
        interfaces.iter().map(usage).partition(|usage| usage.name == DEFAULT_INTERFACE);
    Some(NetworkUsage {
        timestamp,
        default_interface: default.into_iter().next(),
        interfaces: others,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the interface's way to write a number that is there")]
fn some(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netlink::route::Counters;

    fn figures() -> Stats {
        let mut stats = Stats::default();
        stats.cpu.usage_ns = 5;
        stats.memory.working_set = 6;
        stats.memory.available = Some(7);
        stats.memory.swap_usage = Some(8);
        stats.memory.swap_limit = Some(20);
        let mut pressure = Pressure::default();
        pressure.some.average_10 = 1234;
        pressure.full.total_us = 9;
        stats.io_pressure = Some(pressure);
        stats
    }

    fn value(number: Option<UInt64Value>) -> Option<u64> {
        number.map(|UInt64Value { value }| value)
    }

    #[test]
    fn a_figure_that_the_kernel_does_not_give_is_absent() {
        let stats = Stats::default();

        assert_eq!(cpu(&stats, 1, None).usage_nano_cores, None);
        assert_eq!(cpu(&stats, 1, None).psi, None);
        assert_eq!(memory(&stats, 1).available_bytes, None);
        assert_eq!((swap(&stats, 1), io(&stats, 1)), (None, None));
    }

    #[test]
    fn figures_have_the_units_of_the_interface() {
        let stats = figures();

        let cpu = cpu(&stats, 3, Some(4));
        assert_eq!((cpu.timestamp, value(cpu.usage_nano_cores)), (3, Some(4)));
        assert_eq!(value(cpu.usage_core_nano_seconds), Some(5));
        let memory = memory(&stats, 3);
        assert_eq!(
            (value(memory.working_set_bytes), value(memory.available_bytes)),
            (Some(6), Some(7))
        );
        let swap = swap(&stats, 3).unwrap();
        assert_eq!(
            (value(swap.swap_usage_bytes), value(swap.swap_available_bytes)),
            (Some(8), Some(12))
        );
        let psi = io(&stats, 3).unwrap().psi.unwrap();
        assert!((psi.some.unwrap().avg10 - 12.34).abs() < 1e-9);
        assert_eq!(psi.full.unwrap().total, 9000);
    }

    #[test]
    fn the_pods_own_interface_is_told_from_the_others() {
        let interface = |name: &str| InterfaceStats {
            name: name.to_owned(),
            counters: Counters {
                rx_bytes: 1,
                rx_errors: 2,
                tx_bytes: 3,
                tx_errors: 4,
                ..Counters::default()
            },
        };
        let usage = network(&[interface("net1"), interface("eth0")], 5).unwrap();

        let eth0 = usage.default_interface.unwrap();
        assert_eq!((eth0.name.as_str(), value(eth0.rx_errors)), ("eth0", Some(2)));
        assert_eq!(value(eth0.tx_bytes), Some(3));
        assert_eq!(usage.interfaces.len(), 1);
        assert_eq!(network(&[], 5), None);
    }
}
