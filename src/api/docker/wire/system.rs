//! `/version` and `/info`. Clients decode some fields strictly: a number stays a number, and what
//! we do not have is there and empty.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Version {
    pub(crate) platform: Platform,
    pub(crate) components: [Component; 1],
    pub(crate) version: &'static str,
    pub(crate) api_version: &'static str,
    #[serde(rename = "MinAPIVersion")]
    pub(crate) min_api_version: &'static str,
    pub(crate) git_commit: &'static str,
    pub(crate) go_version: &'static str,
    pub(crate) os: &'static str,
    pub(crate) arch: &'static str,
    pub(crate) kernel_version: String,
    pub(crate) build_time: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Platform {
    pub(crate) name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) details: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own on the wire")]
pub(crate) struct Info {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) containers: usize,
    pub(crate) containers_running: usize,
    pub(crate) containers_paused: usize,
    pub(crate) containers_stopped: usize,
    pub(crate) images: usize,
    pub(crate) driver: &'static str,
    pub(crate) driver_status: [[&'static str; 2]; 1],
    pub(crate) system_status: Option<()>,
    pub(crate) plugins: Plugins,
    pub(crate) memory_limit: bool,
    pub(crate) swap_limit: bool,
    pub(crate) cpu_cfs_period: bool,
    pub(crate) cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub(crate) cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub(crate) cpu_set: bool,
    pub(crate) pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    pub(crate) ipv4_forwarding: bool,
    pub(crate) oom_kill_disable: bool,
    pub(crate) debug: bool,
    #[serde(rename = "NFd")]
    pub(crate) n_fd: usize,
    pub(crate) n_goroutines: usize,
    pub(crate) n_events_listener: usize,
    pub(crate) system_time: String,
    pub(crate) logging_driver: &'static str,
    pub(crate) cgroup_driver: &'static str,
    pub(crate) cgroup_version: &'static str,
    pub(crate) kernel_version: String,
    pub(crate) operating_system: String,
    #[serde(rename = "OSVersion")]
    pub(crate) os_version: String,
    #[serde(rename = "OSType")]
    pub(crate) os_type: &'static str,
    pub(crate) architecture: String,
    pub(crate) index_server_address: &'static str,
    pub(crate) registry_config: RegistryConfig,
    #[serde(rename = "NCPU")]
    pub(crate) ncpu: usize,
    pub(crate) mem_total: u64,
    pub(crate) docker_root_dir: String,
    pub(crate) http_proxy: String,
    pub(crate) https_proxy: String,
    pub(crate) no_proxy: String,
    pub(crate) name: String,
    pub(crate) labels: [String; 0],
    pub(crate) experimental_build: bool,
    pub(crate) server_version: &'static str,
    pub(crate) runtimes: Runtimes,
    pub(crate) default_runtime: &'static str,
    pub(crate) swarm: Swarm,
    pub(crate) live_restore_enabled: bool,
    pub(crate) isolation: &'static str,
    pub(crate) init_binary: &'static str,
    pub(crate) security_options: Vec<String>,
    #[serde(rename = "CDISpecDirs")]
    pub(crate) cdi_spec_dirs: Vec<PathBuf>,
    pub(crate) warnings: [String; 0],
}

/// What a client may ask for by name.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Plugins {
    volume: [&'static str; 1],
    network: [&'static str; 3],
    authorization: Option<()>,
    log: [&'static str; 2],
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            volume: ["local"],
            network: ["bridge", "host", "null"],
            authorization: None,
            log: ["json-file", "local"],
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RegistryConfig {
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub(crate) insecure_registry_cidrs: [&'static str; 2],
    pub(crate) index_configs: BTreeMap<&'static str, IndexInfo>,
    pub(crate) mirrors: [String; 0],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct IndexInfo {
    name: &'static str,
    mirrors: [String; 0],
    secure: bool,
    official: bool,
}

impl IndexInfo {
    pub(crate) fn docker_hub() -> Self {
        Self { name: "docker.io", mirrors: [], secure: true, official: true }
    }
}

#[derive(Serialize)]
pub(crate) struct Runtimes {
    pub(crate) cais: Runtime,
}

#[derive(Serialize)]
pub(crate) struct Runtime {
    pub(crate) path: &'static str,
}

/// There is none; clients look whether it is `inactive`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Swarm {
    #[serde(rename = "NodeID")]
    node_id: &'static str,
    node_addr: &'static str,
    local_node_state: &'static str,
    control_available: bool,
    error: &'static str,
    remote_managers: Option<()>,
}

impl Default for Swarm {
    fn default() -> Self {
        Self {
            node_id: "",
            node_addr: "",
            local_node_state: "inactive",
            control_available: false,
            error: "",
            remote_managers: None,
        }
    }
}
