//! The names of containers, as the server that answers them is told.
//!
//! The table is made of the records each time, and handed over when it differs from the last one: whoever
//! changes a network, a name, or what runs calls [`publish`] and goes on when the change is
//! answered. The server outlives the daemon; while there are askers, one that ends is replaced.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::Shared;
use super::networks::membership::{Membership, NetworkRef};
use super::pod::phase::Phase;
use super::pod::record::Record as Pod;
use super::standalone::record::Record as Container;
use crate::dns::table::{Asker, Member, Table, Upstream, Zone};
use crate::error::Result;
use crate::id::{NetworkId, PodId};
use crate::net::{Attachment, Family, PortMapping, Protocol};

/// Between two tries to start a server.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Names {
    /// `None`: not known, an earlier daemon may have published one.
    published: Mutex<Option<Table>>,
    is_needed: watch::Sender<bool>,
}

/// Names are answered as they are now when this returns.
pub(super) async fn publish(shared: &Shared) -> Result<()> {
    let mut published = shared.names.published.lock().await;
    let table = table(shared);
    if published.as_ref() == Some(&table) {
        return Ok(());
    }
    *published = None;
    table.publish(shared.layout.state())?;
    let is_needed = !table.askers.is_empty();
    shared.names.is_needed.send_replace(is_needed);
    match is_needed {
        true => shared.streams.read_names().await?,
        false => shared.streams.read_names_if_running().await?,
    }
    *published = Some(table);
    Ok(())
}

/// Whether a pod has to do with names at all. One that has not waits for nobody who has.
pub(super) fn concern(shared: &Shared, pod: &PodId) -> bool {
    shared.pods.find(pod.as_str()).is_ok_and(|pod| pod.record().asks_names)
}

/// The same where nobody can be told of a failure: the next call tries again.
pub(super) async fn publish_or_log(shared: &Shared) {
    if let Err(error) = publish(shared).await {
        tracing::error!(error = error.chain(), "publish the names of containers");
    }
}

/// Replaces a server that ends while it is needed, for as long as the daemon runs.
pub(super) fn keep_served(shared: &Arc<Shared>) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut is_needed = shared.names.is_needed.subscribe();
        while is_needed.wait_for(|it| *it).await.is_ok() {
            let ended = shared.streams.ended().await;
            if !*is_needed.borrow() {
                continue;
            }
            tracing::warn!("the server of names is gone; starting another one");
            // A new one reads the table that stands.
            if let Err(error) = ended.and(shared.streams.read_names().await) {
                tracing::error!(error = error.chain(), "start a server of names");
                let _ = tokio::time::timeout(PAUSE, std::future::pending::<()>()).await;
            }
        }
    });
}

fn table(shared: &Shared) -> Table {
    let mut table = Table::default();
    let pods = shared.pods.all().into_iter().map(|pod| pod.record());
    let asks = |record: &Arc<Pod>| record.phase == Phase::Ready && record.asks_names;
    let pods: Vec<Arc<Pod>> = pods.filter(asks).collect();
    for record in &pods {
        let Ok(container) = shared.standalones.find(&record.config.uid) else { continue };
        let container = container.record();
        let mut links: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        table.loopback.extend(loopback(record));
        for (membership, network, attachment) in places(record, &container) {
            let (Some(address), ipv6) = (attachment.ipv4(), attachment.ipv6()) else { continue };
            let zone = table
                .networks
                .entry(network.clone())
                .or_insert_with(|| Zone { name: membership.name.clone(), members: Vec::new() });
            zone.members.push(Member { address, ipv6, names: membership.names(&container) });
            for link in &membership.links {
                let other = linked(shared, &pods, &link.container, network);
                links.entry(link.alias.to_ascii_lowercase()).or_default().extend(other);
            }
        }
        let asker = Asker {
            monitor: shared.monitor_socket(&record.id),
            networks: record.joined.keys().cloned().collect(),
            links,
            upstream: upstream(record),
        };
        table.askers.insert(record.id.clone(), asker);
    }
    for zone in table.networks.values_mut() {
        zone.members.sort_by_key(|member| member.address);
    }
    table
}

/// Ports that the pod publishes on the host's ::1, where the packet filter does not lead.
fn loopback(record: &Pod) -> impl Iterator<Item = (u16, SocketAddrV6)> {
    let way_out = record.way_out_ipv6.as_ref();
    let address = way_out.and_then(|it| record.attachment_of(it)?.ipv6());
    let is_there = |port: &&PortMapping| {
        let is_on_it = port.host_ip.is_none_or(|host| {
            host == Family::Ipv6.any() || host == IpAddr::V6(Ipv6Addr::LOCALHOST)
        });
        is_on_it && port.protocol == Protocol::Tcp
    };
    let ports = record.config.ports.iter().filter(is_there);
    address.into_iter().flat_map(move |address| {
        let target = move |port: u16| SocketAddrV6::new(address, port, 0, 0);
        ports.clone().map(move |port| (port.host_port, target(port.container_port)))
    })
}

fn upstream(record: &Pod) -> Upstream {
    let servers = record.config.dns.as_ref().map(|dns| dns.servers.as_slice()).unwrap_or_default();
    match &record.way_out {
        // All of its networks are internal.
        None => Upstream::Nobody,
        Some(_) if servers.is_empty() => Upstream::Host,
        Some(_) => {
            let addresses = servers.iter().filter_map(|server| server.parse::<IpAddr>().ok());
            Upstream::These(addresses.collect())
        }
    }
}

/// Where the pod of a container is in the networks that clients made.
fn places<'a>(
    record: &'a Pod,
    container: &'a Container,
) -> impl Iterator<Item = (&'a Membership, &'a NetworkId, &'a Attachment)> {
    container.networks.iter().filter_map(|membership| match &membership.network {
        NetworkRef::Node => None,
        NetworkRef::Custom(id) => Some((membership, id, record.joined.get(id)?)),
    })
}

/// Where a container, by id or name, is in a network; nowhere while it does not run.
fn linked(shared: &Shared, pods: &[Arc<Pod>], container: &str, network: &NetworkId) -> Vec<IpAddr> {
    let attachment = || {
        let id = shared.standalones.find(container).ok()?.record().id.clone();
        let record = pods.iter().find(|record| record.config.uid == id.as_str())?;
        record.joined.get(network)
    };
    let addresses = attachment().into_iter().flat_map(|attachment| &attachment.addresses);
    addresses.map(|address| address.addr()).collect()
}
