//! The way to the server of names inside a pod.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use super::netlink::Socket;
use super::{Network, Protocol, nft};
use crate::error::Result;

/// Where the sockets are that the pod's questions for names are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamePorts {
    pub(crate) address: Ipv4Addr,
    pub(crate) udp: u16,
    pub(crate) tcp: u16,
}

impl Network {
    /// Leads port 53 of that address to the sockets. `netfilter` is a socket in the pod's network
    /// namespace.
    pub(crate) async fn lead_names(&self, netfilter: OwnedFd, ports: NamePorts) -> Result<()> {
        self.blocking(move |_| {
            let mut socket = Socket::from_fd(netfilter)?;
            let NamePorts { address, udp, tcp } = ports;
            nft::names::lead(&mut socket, address, [(Protocol::Udp, udp), (Protocol::Tcp, tcp)])
        })
        .await
    }
}
