//! A container's usage as Docker's clients read it.

use super::time;
use crate::api::docker::wire::stats::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Memory, Network, Nothing, Pids, Stats, Throttling,
};
use crate::cgroup::Io;
use crate::engine::stats::usage::Usage;

/// `before` is an earlier look at the same run. Of what does not run nothing but its name is known.
pub(crate) fn stats(
    (id, name): (&str, &str),
    now: Option<&Usage>,
    before: Option<&Usage>,
) -> Stats {
    let read = |usage: Option<&Usage>| {
        usage.map_or_else(|| time::NEVER.to_owned(), |usage| time::text(usage.at))
    };
    Stats {
        name: format!("/{name}"),
        id: id.to_owned(),
        read: read(now),
        preread: read(before),
        pids_stats: now.map(pids).unwrap_or_default(),
        blkio_stats: now.map(|usage| blkio(&usage.details.io)).unwrap_or_default(),
        num_procs: 0,
        storage_stats: Nothing {},
        cpu_stats: now.map(cpu).unwrap_or_default(),
        precpu_stats: before.map(cpu).unwrap_or_default(),
        memory_stats: now.map(memory).unwrap_or_default(),
        networks: now
            .into_iter()
            .flat_map(|usage| &usage.network)
            .map(|interface| {
                let counters = &interface.counters;
                let network = Network {
                    rx_bytes: counters.rx_bytes,
                    rx_packets: counters.rx_packets,
                    rx_errors: counters.rx_errors,
                    rx_dropped: counters.rx_dropped,
                    tx_bytes: counters.tx_bytes,
                    tx_packets: counters.tx_packets,
                    tx_errors: counters.tx_errors,
                    tx_dropped: counters.tx_dropped,
                };
                (interface.name.clone(), network)
            })
            .collect(),
    }
}

fn pids(usage: &Usage) -> Pids {
    Pids { current: Some(usage.cgroup.tasks), limit: usage.details.limits.tasks }
}

fn cpu(usage: &Usage) -> Cpu {
    let (cpu, throttling) = (&usage.cgroup.cpu, &usage.details.throttling);
    Cpu {
        cpu_usage: CpuUsage {
            total_usage: cpu.usage_ns,
            percpu_usage: usage.raw.cpu_ns.clone(),
            usage_in_kernelmode: cpu.system_ns,
            usage_in_usermode: cpu.user_ns,
        },
        system_cpu_usage: Some(usage.host.ns),
        online_cpus: Some(usage.host.online),
        throttling_data: Throttling {
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
            throttled_time: throttling.throttled_ns,
        },
    }
}

fn memory(usage: &Usage) -> Memory {
    let (memory, details) = (&usage.cgroup.memory, &usage.details.memory);
    let is_v1 = usage.raw.is_memory_v1;
    Memory {
        usage: Some(memory.usage),
        max_usage: is_v1.then_some(details.max_usage),
        stats: usage.raw.memory.clone(),
        failcnt: is_v1.then_some(details.failures),
        limit: Some(memory.limit.unwrap_or(u64::MAX).min(usage.host_memory)),
    }
}

fn blkio(devices: &[Io]) -> Blkio {
    let entries = |values: fn(&Io) -> [u64; 2]| {
        let of_device = |io: &Io| {
            let (major, minor) = (io.major, io.minor);
            let entry = |(op, value)| BlkioEntry { major, minor, op, value };
            ["read", "write"].into_iter().zip(values(io)).map(entry).collect::<Vec<_>>()
        };
        Some(devices.iter().flat_map(of_device).collect())
    };
    Blkio {
        io_service_bytes_recursive: entries(|io| [io.read_bytes, io.write_bytes]),
        io_serviced_recursive: entries(|io| [io.reads, io.writes]),
        ..Blkio::default()
    }
}
