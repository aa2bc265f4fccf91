//! What a standalone container is asked to be: Docker's container, a pod of one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::health::Check;
use crate::engine::container;
use crate::engine::networks::membership::Link;
use crate::engine::pod::config::Dns;
pub(crate) use crate::net::ports::{HostPort, PortRequest};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// What its one container is in every run.
    pub(crate) container: container::config::Config,
    /// Empty: the first twelve digits of its id.
    pub(crate) hostname: String,
    /// Empty: none.
    #[serde(default)]
    pub(crate) domainname: String,
    pub(crate) network: Network,
    pub(crate) ports: Vec<PortRequest>,
    /// `None`: the host's own resolv.conf.
    pub(crate) dns: Option<Dns>,
    /// More lines for `/etc/hosts`.
    pub(crate) hosts: Vec<(IpAddr, String)>,
    /// Containers in the node's network, by id, that it knows by these names.
    #[serde(default)]
    pub(crate) links: Vec<Link>,
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`; `None`: 64 MiB.
    pub(crate) shm_size: Option<u64>,
    #[serde(default)]
    pub(crate) sharing: Sharing,
    /// A process of ours is PID 1 and reaps; it is no part of the image.
    pub(crate) init: bool,
    /// Empty: our default.
    pub(crate) cgroup_parent: String,
    pub(crate) restart: RestartPolicy,
    /// It goes when it ends.
    pub(crate) auto_remove: bool,
    #[serde(default)]
    pub(crate) health: Option<Check>,
    /// `None`: its log grows.
    #[serde(default)]
    pub(crate) log_limit: Option<LogLimit>,
    /// Between the stop signal and SIGKILL.
    pub(crate) stop_timeout: Duration,
    /// The request in the words of the door it came by, for that door to show; not read here.
    pub(crate) request: Value,
}

/// When a log goes on in another file, and how much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLimit {
    /// Of one file.
    pub(crate) bytes: u64,
    /// At least 1, the one that is written among them.
    pub(crate) files: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Network {
    /// The pod network of the node.
    Bridge,
    /// One that a client made, as this client calls it.
    Custom(String),
    /// The host's.
    Host,
    /// Its own loopback and nothing else.
    None,
    /// That of another standalone container, by id.
    Container(String),
}

/// Which namespaces it shares with whom, beside that of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Sharing {
    pub(crate) ipc: Ipc,
    /// Its PID namespace is that of this standalone container, by id.
    pub(crate) pid_of: Option<String>,
    /// It has the host's name for its own.
    pub(crate) host_uts: bool,
    /// It sees the host's cgroups.
    pub(crate) host_cgroup: bool,
}

/// Whose the IPC namespace and `/dev/shm` are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) enum Ipc {
    /// Its own alone.
    #[default]
    Private,
    /// Its own, and others may join them.
    Shareable,
    /// Its own, without a `/dev/shm`.
    WithoutShm,
    Host,
    /// Those of another standalone container, by id.
    Container(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) enum RestartPolicy {
    #[default]
    No,
    Always,
    /// As `Always`, but not when it was stopped before the daemon started.
    UnlessStopped,
    OnFailure {
        /// 0: any number of times.
        most: u32,
    },
    /// As `OnFailure`; and one that its healthcheck finds ill is ended, and counts as failed.
    OnUnhealthy {
        /// 0: any number of times.
        most: u32,
    },
}
