//! What a pod is asked to be: the one meaning behind CRI's PodSandboxConfig and Docker's container.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Resources;
use crate::engine::networks::membership::Membership;
use crate::executor::plan::UserNamespace;
use crate::id::{ContainerId, PodId};
pub(crate) use crate::net::dns_files::Dns;
pub(crate) use crate::net::{PortMapping, Protocol};

/// As Docker has it for every container with a network of its own: it may listen on any port and ping as any user.
pub(crate) const NETWORK_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), (PING_GROUPS, "0 2147483647")];
pub(crate) const PING_GROUPS: &str = "net.ipv4.ping_group_range";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) attempt: u32,
    /// Empty: the host's name, with [`NamespaceMode::Node`] for the network.
    pub(crate) hostname: String,
    /// Base of the containers' relative log paths; absolute.
    pub(crate) log_directory: Option<PathBuf>,
    /// `None`: the host's own resolv.conf.
    pub(crate) dns: Option<Dns>,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// As the client writes it: a cgroupfs path, or one that ends in `.slice`. Empty: our default.
    pub(crate) cgroup_parent: String,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) overhead: Option<Resources>,
    pub(crate) resources: Option<Resources>,
    pub(crate) namespaces: Namespaces,
    pub(crate) user_namespace: Option<UserNamespace>,
    pub(crate) privileged: bool,
    pub(crate) readonly_rootfs: bool,
    pub(crate) run_as_user: Option<u32>,
    pub(crate) run_as_group: Option<u32>,
    pub(crate) supplemental_groups: Vec<u32>,
    pub(crate) seccomp: SeccompProfile,
    pub(crate) apparmor: Option<AppArmorProfile>,
    pub(crate) selinux: Option<SelinuxLabel>,
    /// RuntimeClass handler; empty is the default one.
    pub(crate) runtime_handler: String,
    /// Set for a run of a standalone container, which no kubelet is to see.
    #[serde(default)]
    pub(crate) standalone: Option<Standalone>,
}

/// What only the pod of a standalone container may be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standalone {
    pub(crate) network: OwnNetwork,
    /// Empty: none.
    #[serde(default)]
    pub(crate) domainname: String,
    /// More lines for `/etc/hosts`.
    pub(crate) hosts: Vec<(IpAddr, String)>,
    /// Bytes of `/dev/shm`.
    pub(crate) shm_size: Option<u64>,
    #[serde(default)]
    pub(crate) sharing: Sharing,
}

/// Which namespaces it shares with whom, beside that of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sharing {
    pub(crate) ipc: OwnIpc,
    /// The pod's PID namespace is that of this container, which is in another pod.
    pub(crate) pid_of: Option<ContainerId>,
    /// The host's name is its own.
    pub(crate) host_uts: bool,
    /// It sees the host's cgroups.
    pub(crate) host_cgroup: bool,
}

/// What becomes of an IPC namespace that is not the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OwnIpc {
    #[default]
    New,
    /// A new one, and no `/dev/shm`.
    WithoutShm,
    /// Namespace and `/dev/shm` are those of this pod.
    Joined(PodId),
}

/// What becomes of a network namespace that is not the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OwnNetwork {
    /// To the network of all pods.
    Attached,
    /// To nothing: its loopback is all there is.
    Isolated,
    /// To these, in this order.
    Networks(Vec<Membership>),
    /// It is that of this pod.
    Joined(PodId),
}

impl OwnNetwork {
    pub(crate) fn is_joined(&self) -> bool {
        matches!(self, Self::Joined(_))
    }
}

impl Config {
    /// What becomes of its network namespace, when that is not the host's.
    pub(crate) fn own_network(&self) -> &OwnNetwork {
        self.standalone.as_ref().map_or(&OwnNetwork::Attached, |own| &own.network)
    }

    /// `None` for a pod that shares with the host what its [`Namespaces`] say, and nothing more.
    pub(crate) fn sharing(&self) -> Option<&Sharing> {
        self.standalone.as_ref().map(|own| &own.sharing)
    }

    /// Empty: none.
    pub(crate) fn domainname(&self) -> &str {
        self.standalone.as_ref().map(|own| own.domainname.as_str()).unwrap_or_default()
    }

    /// Whether an IPC namespace of its own comes with a `/dev/shm`.
    pub(crate) fn has_shm(&self) -> bool {
        self.sharing().is_none_or(|sharing| sharing.ipc != OwnIpc::WithoutShm)
    }

    /// What the host calls user and group 0 of the pod.
    pub(crate) fn root_on_host(&self) -> (u32, u32) {
        let users = self.user_namespace.as_ref();
        users.and_then(|users| users.on_host(0, 0)).unwrap_or((0, 0))
    }
}

/// Which namespaces of each kind the pod's containers are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    /// `Pod` or `Node`.
    pub(crate) network: NamespaceMode,
    pub(crate) pid: NamespaceMode,
    /// `Pod` or `Node`.
    pub(crate) ipc: NamespaceMode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NamespaceMode {
    Pod,
    Container,
    Node,
    /// The PID namespace of this container (id as the client wrote it).
    Target(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SeccompProfile {
    /// Our own default profile.
    RuntimeDefault,
    Unconfined,
    /// A profile file on the host, absolute.
    Localhost(PathBuf),
    /// The profile itself, in the form of the files.
    Given(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppArmorProfile {
    RuntimeDefault,
    Unconfined,
    /// A profile loaded in the kernel, by name.
    Localhost(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct SelinuxLabel {
    pub(crate) user: String,
    pub(crate) role: String,
    pub(crate) kind: String,
    pub(crate) level: String,
}
