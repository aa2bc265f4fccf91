//! The pods' network.

pub(crate) mod bridge;
pub(crate) mod leases;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod ports;
#[cfg(test)]
mod ports_tests;
#[cfg(test)]
mod testing;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A port of the host that leads to a port of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
