//! What a pod asks of its network, and what it gets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::dns_files::Dns;
use super::netlink::Socket;
use super::netlink::route::HardwareAddress;
use crate::error::Result;
use crate::id::PodId;

/// A netlink socket in a pod's network namespace, opened by the pod's monitor. Cheap to clone;
/// one conversation at a time.
#[derive(Debug, Clone)]
pub(crate) struct PodSocket(Arc<Mutex<Socket>>);

impl PodSocket {
    pub(crate) fn new(netlink: OwnedFd) -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Socket::from_fd(netlink)?))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Socket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pod that is to get a network.
#[derive(Debug, Clone)]
pub(crate) struct PodNetworkRequest {
    pub(crate) identity: PodIdentity,
    /// `/proc/<monitor>/ns/net`; the monitor must be alive.
    pub(crate) netns: PathBuf,
    pub(crate) socket: PodSocket,
    pub(crate) ports: Vec<PortMapping>,
    /// `None`: any.
    pub(crate) hardware_address: Option<HardwareAddress>,
    pub(crate) dns: Option<Dns>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) cgroup_parent: String,
}

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// The address that stands for every one.
    pub(crate) fn any(self) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
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

impl Attachment {
    /// The primary IPv4 address, which published ports of the built-in network lead to.
    pub(crate) fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpNet::V4(net) => Some(net.addr()),
            IpNet::V6(_) => None,
        })
    }

    pub(crate) fn ipv6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net.addr()),
        })
    }

    pub(crate) fn address(&self, family: Family) -> Option<IpNet> {
        self.addresses.iter().find(|address| Family::of(address.addr()) == family).copied()
    }

    /// The way out of one family.
    pub(crate) fn gateway(&self, family: Family) -> Option<IpAddr> {
        let is_it = |it: &&IpAddr| Family::of(**it) == family;
        self.gateways.iter().find(is_it).copied()
    }
}
