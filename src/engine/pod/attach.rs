//! A pod's networks: given when it is made, and changed while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{Config, NamespaceMode, OwnNetwork, PortMapping};
use super::record::Record;
use super::run::netns;
use super::{Pod, names};
use crate::engine::Shared;
use crate::engine::networks::membership::{Membership, NetworkRef};
use crate::engine::undo::Undo;
use crate::error::{Context, Result};
use crate::id::{NetworkId, PodId};
use crate::monitor::client::Client;
use crate::monitor::protocol::SocketKind;
use crate::net::networks::Join;
use crate::net::ports::Published;
use crate::net::{Attachment, Family, PodIdentity, PodNetworkRequest, PodSocket};

/// What a pod got, as its record has it.
#[derive(Default)]
pub(super) struct Attached {
    pub(super) attachment: Option<Attachment>,
    pub(super) joined: BTreeMap<NetworkId, Attachment>,
    pub(super) way_out: Option<NetworkRef>,
    pub(super) way_out_ipv6: Option<NetworkRef>,
    pub(super) asks_names: bool,
}

/// Gives a new pod its networks. What is taken back goes through `undo`.
pub(super) async fn attach(
    shared: &Arc<Shared>,
    record: &Record,
    monitor: &Client,
    pid: i32,
    undo: &mut Undo,
) -> Result<Attached> {
    let config = &record.config;
    if config.namespaces.network == NamespaceMode::Node || config.own_network().is_joined() {
        return Ok(Attached::default());
    }
    let socket = PodSocket::new(monitor.open_socket(SocketKind::Route).await?)?;
    if *config.own_network() == OwnNetwork::Isolated {
        shared.network.isolate(socket).await?;
        return Ok(Attached::default());
    }
    let netns = netns(pid);
    undo.push("detach the network", {
        let (shared, id, netns) = (shared.clone(), record.id.clone(), netns.clone());
        async move { shared.network.detach(&id, Some(&netns)).await }
    });
    let mut request = PodNetworkRequest {
        identity: PodIdentity {
            pod: record.id.clone(),
            name: config.name.clone(),
            namespace: config.namespace.clone(),
            uid: config.uid.clone(),
        },
        netns,
        socket,
        ports: config.ports.clone(),
        hardware_address: None,
        dns: config.dns.clone(),
        annotations: config.annotations.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
    };
    if let OwnNetwork::Networks(memberships) = config.own_network() {
        request.ports = Vec::new();
        let mut attached = attach_all(shared, record, memberships, request).await?;
        if !attached.joined.is_empty() {
            names::set_up(shared, monitor).await?;
            attached.asks_names = true;
        }
        return Ok(attached);
    }
    let attachment = shared.network.attach(request).await.context("attach the network")?;
    let way_out = Some(NetworkRef::Node);
    Ok(Attached { attachment: Some(attachment), way_out, ..Attached::default() })
}

/// The node's own network comes first, for its plugins may insist on `eth0`.
async fn attach_all(
    shared: &Arc<Shared>,
    record: &Record,
    memberships: &[Membership],
    mut request: PodNetworkRequest,
) -> Result<Attached> {
    let (netns, socket) = (request.netns.clone(), request.socket.clone());
    shared.network.isolate(socket.clone()).await?;
    let mut made = Attached::default();
    if let Some(node) = memberships.iter().find(|it| it.network == NetworkRef::Node) {
        request.hardware_address = node.hardware_address;
        made.attachment = Some(shared.network.attach(request).await.context("attach the network")?);
    }
    let named: Vec<&str> = memberships.iter().filter_map(|it| it.interface.as_deref()).collect();
    let first = u32::from(made.attachment.is_some());
    let mut numbered = (first..).map(|number| format!("eth{number}"));
    for membership in memberships {
        let NetworkRef::Custom(network) = &membership.network else { continue };
        let next = || numbered.find(|name| !named.contains(&name.as_str())).unwrap_or_default();
        let join = Join {
            network: Some(network.clone()),
            pod: record.id.clone(),
            netns: netns.clone(),
            socket: socket.clone(),
            interface: membership.interface.clone().unwrap_or_else(next),
            wish: membership.wish(),
        };
        let joined = shared.network.join(join).await;
        made.joined.insert(network.clone(), joined.map_err(|error| set_up_failed(&error))?);
    }
    made.way_out = shared.networks.way_out(memberships);
    made.way_out_ipv6 = shared.networks.way_out_ipv6(memberships);
    let all = Record {
        attachment: made.attachment.clone(),
        joined: made.joined.clone(),
        way_out: made.way_out.clone(),
        way_out_ipv6: made.way_out_ipv6.clone(),
        ..record.clone()
    };
    if let Some(published) = published(&all) {
        published.check()?;
    }
    lead_out(shared, &all, socket).await?;
    Ok(made)
}

/// In Docker's words.
fn set_up_failed(error: &crate::error::Error) -> crate::error::Error {
    let message = format!("failed to set up container networking: {}", error.chain());
    crate::error::Error::new(error.kind(), message)
}

/// The default routes and the published ports go where the record says.
async fn lead_out(shared: &Shared, record: &Record, socket: PodSocket) -> Result<()> {
    let of = |network: &Option<NetworkRef>| record.attachment_of(network.as_ref()?);
    let (way_out, way_out_ipv6) = (of(&record.way_out), of(&record.way_out_ipv6));
    for (attachment, family) in [(way_out, Family::Ipv4), (way_out_ipv6, Family::Ipv6)] {
        let Some((attachment, gateway)) = attachment.and_then(|it| Some((it, it.gateway(family)?)))
        else {
            continue;
        };
        let interface = attachment.interface.clone();
        shared.network.route(socket.clone(), interface, gateway).await?;
    }
    if way_out.is_none() {
        return shared.network.unpublish(record.id.clone()).await;
    }
    match published(record) {
        Some(published) => shared.network.publish(published).await,
        None => Ok(()),
    }
}

/// `None` for a pod that has no ports to publish, or nowhere to lead them.
fn published(record: &Record) -> Option<Published> {
    let of = |network: &Option<NetworkRef>| record.attachment_of(network.as_ref()?);
    let address = of(&record.way_out)?.ipv4()?;
    let mappings = record.config.ports.clone();
    if mappings.is_empty() {
        return None;
    }
    let ipv6 = of(&record.way_out_ipv6).and_then(Attachment::ipv6);
    Some(Published { pod: record.id.clone(), address, ipv6, mappings })
}

/// Puts a running pod into one more network. For callers that hold its mutation lock.
pub(in crate::engine) async fn join(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    membership: &Membership,
) -> Result<()> {
    let (record, socket) = (pod.record(), socket(pod).await?);
    let netns = netns(record.monitor_pid.context("the pod's monitor is gone")?);
    let taken: Vec<&str> = record.attachments().map(|it| it.interface.as_str()).collect();
    let mut names = (0..).map(|number: u32| format!("eth{number}"));
    let next = || names.find(|name| !taken.contains(&name.as_str())).unwrap_or_default();
    let interface = membership.interface.clone().unwrap_or_else(next);
    let id = record.id.clone();
    let network = match &membership.network {
        NetworkRef::Node => None,
        NetworkRef::Custom(network) => Some(network.clone()),
    };
    let wish = membership.wish();
    let join = Join { network: network.clone(), pod: id, netns, socket, interface, wish };
    let joined = shared.network.join(join).await?;
    match network {
        None => pod.networks_changed(shared, |record| record.attachment = Some(joined)),
        Some(network) => {
            pod.networks_changed(shared, |record| {
                record.joined.insert(network, joined);
            })?;
            names::begin(shared, pod).await
        }
    }
}

/// Takes a running pod out of a network. For callers that hold its mutation lock.
pub(in crate::engine) async fn leave(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    network: &NetworkRef,
) -> Result<()> {
    let id = pod.id.clone();
    match network {
        NetworkRef::Node => {
            shared.network.leave_node(id).await?;
            pod.networks_changed(shared, |record| record.attachment = None)
        }
        NetworkRef::Custom(network) => {
            shared.network.leave(network.clone(), id).await?;
            pod.networks_changed(shared, |record| {
                record.joined.remove(network);
            })
        }
    }
}

/// Moves a running pod's default routes and published ports to where they are among these networks.
/// For callers that hold its mutation lock.
pub(in crate::engine) async fn reroute(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    networks: &[Membership],
) -> Result<()> {
    let way_out = shared.networks.way_out(networks);
    let way_out_ipv6 = shared.networks.way_out_ipv6(networks);
    let record = pod.record();
    if (&record.way_out, &record.way_out_ipv6) == (&way_out, &way_out_ipv6) {
        return Ok(());
    }
    pod.networks_changed(shared, |record| {
        (record.way_out, record.way_out_ipv6) = (way_out, way_out_ipv6);
    })?;
    lead_out(shared, &pod.record(), socket(pod).await?).await
}

/// `to` publishes these ports, and `from` none any more, at the same moment. Its record says so until [`handed_over`]. For
/// callers that hold the mutation locks of both.
///
/// # Errors
/// As when a pod publishes; then both have what they had.
pub(in crate::engine) async fn hand_over(
    shared: &Shared,
    from: &Pod,
    to: &Pod,
    ports: Vec<PortMapping>,
) -> Result<()> {
    // One of the two has taken from the other, or the next daemon would not know which.
    handed_over(shared, from)?;
    let before = to.record();
    to.networks_changed(shared, |record| {
        set_ports(record, ports);
        record.taken_from = Some(from.id.clone());
    })?;
    let mut handed = move_ports(shared, &from.id, &to.record()).await;
    if handed.is_ok() {
        handed = from.networks_changed(shared, |record| set_ports(record, Vec::new()));
        if handed.is_err()
            && let Err(error) = move_ports(shared, &to.id, &from.record()).await
        {
            tracing::error!(pod = %from.id, error = error.chain(), "hand ports back");
        }
    }
    if handed.is_err() {
        to.networks_changed(shared, |record| {
            (record.config, record.taken_from) = (before.config.clone(), None);
        })?;
    }
    handed
}

/// All records have what [`hand_over`] did to this pod.
pub(in crate::engine) fn handed_over(shared: &Shared, to: &Pod) -> Result<()> {
    match to.record().taken_from {
        Some(_) => to.networks_changed(shared, |record| record.taken_from = None),
        None => Ok(()),
    }
}

pub(in crate::engine) fn set_ports(record: &mut Record, ports: Vec<PortMapping>) {
    record.config = Arc::new(Config { ports, ..(*record.config).clone() });
}

async fn move_ports(shared: &Shared, from: &PodId, to: &Record) -> Result<()> {
    match published(to) {
        Some(published) => {
            published.check()?;
            shared.network.hand_over(published, from.clone()).await
        }
        None => shared.network.unpublish(from.clone()).await,
    }
}

async fn socket(pod: &Pod) -> Result<PodSocket> {
    PodSocket::new(pod.monitor()?.open_socket(SocketKind::Route).await?)
}
