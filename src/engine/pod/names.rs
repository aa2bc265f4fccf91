//! How the containers of a pod get to ask for names.
//!
//! A pod that was in a network of a client's once keeps asking there, also when it has left the
//! last one: its containers have long read that address.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::SocketAddrAny;

use super::{Pod, files};
use crate::dns;
use crate::engine::Shared;
use crate::error::{Context, Result};
use crate::monitor::client::Client;
use crate::monitor::protocol::SocketKind;
use crate::net::NamePorts;

/// Has the monitor open the sockets, and leads the pod's questions to them.
pub(super) async fn set_up(shared: &Shared, monitor: &Client) -> Result<()> {
    let udp = monitor.open_socket(SocketKind::NamesUdp).await?;
    let tcp = monitor.open_socket(SocketKind::NamesTcp).await?;
    let netfilter = monitor.open_socket(SocketKind::Netfilter).await?;
    let ports = NamePorts { address: dns::ADDRESS, udp: port(&udp)?, tcp: port(&tcp)? };
    shared.network.lead_names(netfilter, ports).await
}

fn port(socket: &OwnedFd) -> Result<u16> {
    let address: SocketAddrAny =
        rustix::net::getsockname(socket).context("look at a socket for names")?;
    let address = std::net::SocketAddr::try_from(address).context("look at a socket for names")?;
    Ok(address.port())
}

/// For a pod that joins its first such network while it runs. For callers that hold its mutation
/// lock.
pub(super) async fn begin(shared: &Shared, pod: &Arc<Pod>) -> Result<()> {
    let before = pod.record();
    if before.asks_names {
        return Ok(());
    }
    set_up(shared, &*pod.monitor()?).await?;
    pod.networks_changed(shared, |record| record.asks_names = true)?;
    files::ask_names(&shared.layout.pod(&pod.id), &before, &pod.record())
}
