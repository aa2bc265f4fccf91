//! What a container may use, in the units of the CRI and of the kernel's v1 files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits to write, and the limits last written. `None` leaves the kernel's default or, in an
/// update, what is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct Resources {
    /// Microseconds.
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds per period over all CPUs; negative is unlimited.
    pub(crate) cpu_quota: Option<i64>,
    /// v1 shares, 2 to 262144; converted to `cpu.weight` on v2.
    pub(crate) cpu_shares: Option<u64>,
    /// CPU list, such as `0-2,7`.
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
    /// Bytes; negative is unlimited.
    pub(crate) memory_limit: Option<i64>,
    /// Bytes of memory and swap together; negative is unlimited.
    pub(crate) memory_swap_limit: Option<i64>,
    /// Bytes that the kernel takes from others first; negative is none.
    pub(crate) memory_reservation: Option<i64>,
    /// Processes and threads; negative is unlimited.
    pub(crate) pids_limit: Option<i64>,
    /// (size such as `2MB`, bytes).
    pub(crate) hugepage_limits: Vec<(String, u64)>,
    /// Raw cgroup v2 files.
    pub(crate) unified: BTreeMap<String, String>,
    /// 10 to 1000.
    pub(crate) blkio_weight: Option<u16>,
    pub(crate) blkio_devices: Vec<BlkioDevice>,
}

/// What a group may have of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlkioDevice {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) what: BlkioLimit,
    /// A weight of 10 to 1000, or bytes or operations per second.
    pub(crate) value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BlkioLimit {
    Weight,
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}
