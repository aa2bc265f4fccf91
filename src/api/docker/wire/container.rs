//! What a container is asked to be, and what is said of it in a list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::network::{EndpointSettings, IpamConfig};
use super::nullable::or_default;

/// Clients written in Go send `null` for what is empty: everything is optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CreateRequest {
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) exposed_ports: Option<BTreeMap<String, Value>>,
    pub(crate) tty: Option<bool>,
    pub(crate) open_stdin: Option<bool>,
    pub(crate) stdin_once: Option<bool>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) cmd: Option<Words>,
    pub(crate) entrypoint: Option<Words>,
    pub(crate) image: Option<String>,
    pub(crate) volumes: Option<BTreeMap<String, Value>>,
    pub(crate) working_dir: Option<String>,
    pub(crate) network_disabled: Option<bool>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) mac_address: Option<String>,
    /// Seconds; -1 is for ever.
    pub(crate) stop_timeout: Option<i64>,
    pub(crate) healthcheck: Option<Healthcheck>,
    /// What runs a healthcheck that is one line.
    pub(crate) shell: Option<Vec<String>>,
    pub(crate) host_config: Option<HostConfig>,
    pub(crate) networking_config: Option<NetworkingConfig>,
}

/// Times are nanoseconds; 0 is what nobody said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Healthcheck {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub(crate) interval: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub(crate) start_period: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub(crate) start_interval: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub(crate) retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkingConfig {
    pub(crate) endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>>,
}

/// Old clients send one word as a text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostConfig {
    pub(crate) binds: Option<Vec<String>>,
    pub(crate) mounts: Option<Vec<MountRequest>>,
    pub(crate) tmpfs: Option<BTreeMap<String, String>>,
    pub(crate) volumes_from: Option<Vec<String>>,
    pub(crate) port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
    pub(crate) publish_all_ports: Option<bool>,
    pub(crate) network_mode: Option<String>,
    pub(crate) links: Option<Vec<String>>,
    pub(crate) restart_policy: Option<RestartPolicy>,
    pub(crate) log_config: Option<LogConfig>,
    pub(crate) auto_remove: Option<bool>,
    pub(crate) init: Option<bool>,
    pub(crate) cap_add: Option<Vec<String>>,
    pub(crate) cap_drop: Option<Vec<String>>,
    pub(crate) privileged: Option<bool>,
    pub(crate) security_opt: Option<Vec<String>>,
    pub(crate) readonly_rootfs: Option<bool>,
    pub(crate) dns: Option<Vec<String>>,
    pub(crate) dns_options: Option<Vec<String>>,
    pub(crate) dns_search: Option<Vec<String>>,
    pub(crate) extra_hosts: Option<Vec<String>>,
    pub(crate) group_add: Option<Vec<String>>,
    pub(crate) ipc_mode: Option<String>,
    pub(crate) pid_mode: Option<String>,
    #[serde(rename = "UTSMode")]
    pub(crate) uts_mode: Option<String>,
    pub(crate) userns_mode: Option<String>,
    pub(crate) cgroupns_mode: Option<String>,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) sysctls: Option<BTreeMap<String, String>>,
    pub(crate) ulimits: Option<Vec<Ulimit>>,
    pub(crate) devices: Option<Vec<Device>>,
    pub(crate) device_requests: Option<Vec<DeviceRequest>>,
    pub(crate) device_cgroup_rules: Option<Vec<String>>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) pids_limit: Option<i64>,
    pub(crate) memory: Option<i64>,
    pub(crate) memory_swap: Option<i64>,
    pub(crate) memory_reservation: Option<i64>,
    pub(crate) nano_cpus: Option<i64>,
    pub(crate) cpu_shares: Option<u64>,
    pub(crate) cpu_period: Option<u64>,
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
    pub(crate) blkio_weight: Option<u16>,
    pub(crate) blkio_weight_device: Option<Vec<WeightDevice>>,
    pub(crate) blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    pub(crate) blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub(crate) blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub(crate) blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    pub(crate) cpu_realtime_period: Option<i64>,
    pub(crate) cpu_realtime_runtime: Option<i64>,
    pub(crate) oom_kill_disable: Option<bool>,
    pub(crate) memory_swappiness: Option<i64>,
    pub(crate) volume_driver: Option<String>,
    pub(crate) masked_paths: Option<Vec<String>>,
    pub(crate) readonly_paths: Option<Vec<String>>,
    pub(crate) runtime: Option<String>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) storage_opt: Option<BTreeMap<String, String>>,
}

/// Devices that a driver brings: as many as `count` (all: -1) of those with the capabilities, or these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DeviceRequest {
    #[serde(deserialize_with = "or_default")]
    pub(crate) driver: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) count: i64,
    #[serde(rename = "DeviceIDs", deserialize_with = "or_default")]
    pub(crate) device_ids: Vec<String>,
    /// Any of these lists of capabilities.
    #[serde(deserialize_with = "or_default")]
    pub(crate) capabilities: Vec<Vec<String>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ThrottleDevice {
    pub(crate) path: String,
    /// Bytes or operations per second.
    pub(crate) rate: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct WeightDevice {
    pub(crate) path: String,
    /// 10 to 1000.
    pub(crate) weight: u16,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MountRequest {
    #[serde(rename = "Type")]
    #[serde(deserialize_with = "or_default")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) source: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) target: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) read_only: bool,
    pub(crate) bind_options: Option<BindOptions>,
    pub(crate) volume_options: Option<VolumeOptions>,
    pub(crate) tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeOptions {
    pub(crate) no_copy: bool,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) driver_config: Option<VolumeDriver>,
    pub(crate) subpath: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeDriver {
    pub(crate) name: String,
    pub(crate) options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own on the wire")]
pub(crate) struct BindOptions {
    pub(crate) propagation: String,
    pub(crate) create_mountpoint: bool,
    pub(crate) non_recursive: bool,
    pub(crate) read_only_non_recursive: bool,
    pub(crate) read_only_force_recursive: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TmpfsOptions {
    pub(crate) size_bytes: u64,
    pub(crate) mode: u32,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PortBinding {
    #[serde(deserialize_with = "or_default")]
    pub(crate) host_ip: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) host_port: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RestartPolicy {
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) maximum_retry_count: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LogConfig {
    #[serde(rename = "Type")]
    #[serde(deserialize_with = "or_default")]
    pub(crate) driver: String,
    #[serde(rename = "Config")]
    #[serde(deserialize_with = "or_default")]
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) soft: i64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) hard: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Device {
    #[serde(deserialize_with = "or_default")]
    pub(crate) path_on_host: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) path_in_container: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) cgroup_permissions: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    pub(crate) id: String,
    pub(crate) warnings: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Waited {
    pub(crate) status_code: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Processes {
    pub(crate) titles: Vec<String>,
    pub(crate) processes: Vec<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) image: String,
    #[serde(rename = "ImageID")]
    pub(crate) image_id: String,
    pub(crate) command: String,
    /// Seconds since the epoch.
    pub(crate) created: i64,
    pub(crate) ports: Vec<Port>,
    /// Bytes, when they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size_root_fs: Option<u64>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) state: &'static str,
    pub(crate) status: String,
    pub(crate) host_config: SummaryHostConfig,
    pub(crate) network_settings: SummaryNetworks,
    pub(crate) mounts: Vec<MountPoint>,
    /// Cais' own, as in the state of a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aside: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SummaryHostConfig {
    pub(crate) network_mode: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SummaryNetworks {
    pub(crate) networks: BTreeMap<String, Endpoint>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Port {
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<String>,
    pub(crate) private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_port: Option<u16>,
    #[serde(rename = "Type")]
    pub(crate) kind: &'static str,
}

/// One network that a container is in.
#[derive(Default, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    pub(crate) ipam_config: Option<IpamConfig>,
    pub(crate) links: Option<Vec<String>>,
    pub(crate) aliases: Option<Vec<String>>,
    pub(crate) mac_address: String,
    pub(crate) driver_opts: Option<BTreeMap<String, String>>,
    pub(crate) gw_priority: i64,
    #[serde(rename = "NetworkID")]
    pub(crate) network_id: String,
    #[serde(rename = "EndpointID")]
    pub(crate) endpoint_id: String,
    pub(crate) gateway: String,
    #[serde(rename = "IPAddress")]
    pub(crate) ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    pub(crate) ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    pub(crate) ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub(crate) global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub(crate) global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    pub(crate) dns_names: Option<Vec<String>>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountPoint {
    #[serde(rename = "Type")]
    pub(crate) kind: &'static str,
    /// Of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) driver: Option<&'static str>,
    pub(crate) destination: String,
    pub(crate) mode: String,
    #[serde(rename = "RW")]
    pub(crate) is_writable: bool,
    pub(crate) propagation: String,
}
