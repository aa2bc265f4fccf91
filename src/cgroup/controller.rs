//! The controllers we use, under both of their names.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Pids,
    Devices,
    Freezer,
    Io,
    Hugetlb,
}

impl Controller {
    /// The name of the v1 mount option.
    pub(super) fn v1_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Io => "blkio",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// The name in `cgroup.controllers`; `None` for what v2 does without a controller.
    pub(super) fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::Cpuset => Some("cpuset"),
            Self::Memory => Some("memory"),
            Self::Pids => Some("pids"),
            Self::Io => Some("io"),
            Self::Hugetlb => Some("hugetlb"),
            Self::Cpuacct | Self::Devices | Self::Freezer => None,
        }
    }
}
