//! What the daemon leaves out when it is empty, and Docker's client has a type and thus a value for.

use crate::json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Truth,
    List,
    Map,
    Pointer,
}

use Kind::{List, Map, Number, Pointer, Text, Truth};

const FIELDS: &[(&str, Kind)] = &[
    ("Annotations", Map),
    ("AttachStderr", Truth),
    ("AttachStdin", Truth),
    ("AttachStdout", Truth),
    ("AutoRemove", Truth),
    ("Binds", List),
    ("BlkioDeviceReadBps", List),
    ("BlkioDeviceReadIOps", List),
    ("BlkioDeviceWriteBps", List),
    ("BlkioDeviceWriteIOps", List),
    ("BlkioWeight", Number),
    ("BlkioWeightDevice", List),
    ("CapAdd", List),
    ("CapDrop", List),
    ("Cgroup", Text),
    ("CgroupParent", Text),
    ("CgroupnsMode", Text),
    ("Cmd", List),
    ("Config", Map),
    ("ContainerIDFile", Text),
    ("CpuPeriod", Number),
    ("CpuQuota", Number),
    ("CpuRealtimePeriod", Number),
    ("CpuRealtimeRuntime", Number),
    ("CpuShares", Number),
    ("CpusetCpus", Text),
    ("CpusetMems", Text),
    ("DeviceCgroupRules", List),
    ("DeviceRequests", List),
    ("Devices", List),
    ("Dns", List),
    ("DnsOptions", List),
    ("DnsSearch", List),
    ("Domainname", Text),
    ("DriverOpts", Map),
    ("Entrypoint", List),
    ("Env", List),
    ("ExposedPorts", Map),
    ("ExtraHosts", List),
    ("GlobalIPv6Address", Text),
    ("GlobalIPv6PrefixLen", Number),
    ("GroupAdd", List),
    ("Health", Pointer),
    ("Healthcheck", Pointer),
    ("IPAMConfig", Pointer),
    ("IPv6Gateway", Text),
    ("Init", Pointer),
    ("IpcMode", Text),
    ("Isolation", Text),
    ("Labels", Map),
    ("Links", List),
    ("MaskedPaths", List),
    ("Memory", Number),
    ("MemoryReservation", Number),
    ("MemorySwap", Number),
    ("MemorySwappiness", Pointer),
    ("Mounts", List),
    ("NanoCpus", Number),
    ("Networks", Map),
    ("OnBuild", List),
    ("OomKillDisable", Pointer),
    ("OomScoreAdj", Number),
    ("OpenStdin", Truth),
    ("Options", Map),
    ("PidMode", Text),
    ("PidsLimit", Pointer),
    ("PortBindings", Map),
    ("Ports", Map),
    ("Privileged", Truth),
    ("PublishAllPorts", Truth),
    ("ReadonlyPaths", List),
    ("ReadonlyRootfs", Truth),
    ("Runtime", Text),
    ("SecurityOpt", List),
    ("Shell", List),
    ("ShmSize", Number),
    ("SizeRootFs", Pointer),
    ("SizeRw", Pointer),
    ("StdinOnce", Truth),
    ("StopSignal", Text),
    ("StopTimeout", Pointer),
    ("StorageOpt", Map),
    ("Sysctls", Map),
    ("Tmpfs", Map),
    ("Tty", Truth),
    ("UTSMode", Text),
    ("Ulimits", List),
    ("UsageData", Pointer),
    ("User", Text),
    ("UsernsMode", Text),
    ("VolumeDriver", Text),
    ("Volumes", Map),
    ("VolumesFrom", List),
    ("WorkingDir", Text),
];

fn kind(field: &str) -> Option<Kind> {
    FIELDS.binary_search_by(|it| it.0.cmp(field)).ok().map(|at| FIELDS[at].1)
}

/// The value of such a field; nothing for one that Docker has not either.
pub(super) fn value(field: &str) -> Option<Value> {
    Some(match kind(field)? {
        Text => "".into(),
        Number => 0.into(),
        Truth => false.into(),
        List | Map | Pointer => Value::Null,
    })
}

/// How Go prints the absence of what this field has.
pub(super) fn shown(field: &str) -> &'static str {
    match kind(field) {
        Some(Map) => "map[]",
        Some(Pointer) => "<nil>",
        Some(List) => "[]",
        Some(Text) => "",
        Some(Number | Truth) | None => "<no value>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(FIELDS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
