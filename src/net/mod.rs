//! The pods' network.

pub(crate) mod bridge;
pub(crate) mod cni;
pub(crate) mod leases;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod ports;
#[cfg(test)]
mod ports_tests;
#[cfg(test)]
mod testing;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::id::PodId;

/// Who a pod is, for leases, records and plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodIdentity {
    pub(crate) pod: PodId,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
}

/// Who made a pod's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Provider {
    Builtin,
    Cni,
}

/// The network a pod got. Kept in the pod's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) provider: Provider,
    /// Name inside the pod.
    pub(crate) interface: String,
    pub(crate) host_interface: Option<String>,
    /// The first one is the pod's primary address.
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) hardware_address: Option<String>,
    pub(crate) mtu: Option<u32>,
    /// What CNI plugins say about name resolution; the pod's own configuration wins.
    #[serde(default)]
    pub(crate) name_servers: Vec<String>,
    #[serde(default)]
    pub(crate) name_searches: Vec<String>,
    #[serde(default)]
    pub(crate) name_options: Vec<String>,
}

/// A port of the host that leads to a port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortMapping {
    pub(crate) protocol: Protocol,
    pub(crate) host_port: u16,
    pub(crate) container_port: u16,
    /// `None` and the unspecified addresses mean every address of the host.
    pub(crate) host_ip: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As the IP header has it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}
