//! What a container uses, with the names that Docker gives it.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Stats {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) read: String,
    /// When `precpu_stats` was read.
    pub(crate) preread: String,
    pub(crate) pids_stats: Pids,
    pub(crate) blkio_stats: Blkio,
    pub(crate) num_procs: u32,
    pub(crate) storage_stats: Nothing,
    pub(crate) cpu_stats: Cpu,
    pub(crate) precpu_stats: Cpu,
    pub(crate) memory_stats: Memory,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) networks: BTreeMap<String, Network>,
}

/// `{}`: of another operating system.
#[derive(Default, Serialize)]
pub(crate) struct Nothing {}

#[derive(Default, Serialize)]
pub(crate) struct Pids {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
}

#[derive(Default, Serialize)]
pub(crate) struct Blkio {
    pub(crate) io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    pub(crate) io_serviced_recursive: Option<Vec<BlkioEntry>>,
    pub(crate) io_queue_recursive: Option<Vec<BlkioEntry>>,
    pub(crate) io_service_time_recursive: Option<Vec<BlkioEntry>>,
    pub(crate) io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    pub(crate) io_merged_recursive: Option<Vec<BlkioEntry>>,
    pub(crate) io_time_recursive: Option<Vec<BlkioEntry>>,
    pub(crate) sectors_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Serialize)]
pub(crate) struct BlkioEntry {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) op: &'static str,
    pub(crate) value: u64,
}

#[derive(Default, Clone, Serialize)]
pub(crate) struct Cpu {
    pub(crate) cpu_usage: CpuUsage,
    /// Nanoseconds of all CPUs together, used or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_cpu_usage: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) online_cpus: Option<u32>,
    pub(crate) throttling_data: Throttling,
}

/// Nanoseconds.
#[derive(Default, Clone, Serialize)]
pub(crate) struct CpuUsage {
    pub(crate) total_usage: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) percpu_usage: Vec<u64>,
    pub(crate) usage_in_kernelmode: u64,
    pub(crate) usage_in_usermode: u64,
}

#[derive(Default, Clone, Serialize)]
pub(crate) struct Throttling {
    pub(crate) periods: u64,
    pub(crate) throttled_periods: u64,
    pub(crate) throttled_time: u64,
}

#[derive(Default, Serialize)]
pub(crate) struct Memory {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<u64>,
    /// Version 1 of control groups only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_usage: Option<u64>,
    /// As `memory.stat` names them, which is not the same on both versions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) stats: BTreeMap<String, u64>,
    /// Version 1 of control groups only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failcnt: Option<u64>,
    /// The machine's memory where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct Network {
    pub(crate) rx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) rx_errors: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_errors: u64,
    pub(crate) tx_dropped: u64,
}
