//! Networks that Docker's clients make, and the three that are always there.
//!
//! ```text
//!   Networks (records under the root directory, survive the boot)
//!      │ create, and every start of the daemon
//!      ▼
//!   net: bridge, rules, leases ◀── join, leave ── run of a container, connect, disconnect
//! ```
//!
//! A container's record says which networks it is in, also while it does not run; its pod's record
//! says which addresses it has there. One network is a container's way out: its default route and
//! its published ports are there.

mod connect;
mod create;
pub(crate) mod membership;
mod remove;
mod subnets;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub(crate) use self::connect::{connect, disconnect};
pub(crate) use self::create::{Request, RequestedPool, create};
use self::membership::NetworkRef;
pub(crate) use self::remove::remove;
use super::Shared;
use super::pod::phase::Phase;
use super::standalone::record::Record as Container;
use crate::error::{Error, Result};
use crate::id::{NetworkId, PodId, is_hex};
use crate::image::digest::Digest;
use crate::net::Attachment;
use crate::net::leases::Pool;
use crate::net::networks::{Held, Plan};
use crate::net::nft::Reach;
pub(crate) use crate::net::{Family, leases::Address};

/// What the next daemon must know of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: NetworkId,
    pub(crate) name: String,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) bridge: String,
    pub(crate) subnet: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) range: Option<Ipv4Net>,
    /// Addresses that nobody gets, by what the client calls them.
    pub(crate) reserved: BTreeMap<String, Ipv4Addr>,
    /// `None`: it has nothing to do with IPv6.
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Pool>,
    /// The client chose the subnet: then its containers may choose their addresses.
    pub(crate) has_own_subnet: bool,
    pub(crate) reach: Reach,
    pub(crate) is_attachable: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) labels: BTreeMap<String, String>,
    /// In the words of the client.
    pub(crate) options: BTreeMap<String, String>,
    /// For clients it is gone; its bridge may be there still.
    #[serde(default)]
    is_removed: bool,
}

/// What a network has for IPv6, beside the same for IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ipv6Pool {
    pub(crate) subnet: Ipv6Net,
    pub(crate) gateway: Ipv6Addr,
    pub(crate) range: Option<Ipv6Net>,
    pub(crate) reserved: BTreeMap<String, Ipv6Addr>,
    pub(crate) has_own_subnet: bool,
}

impl Record {
    pub(crate) fn is_internal(&self) -> bool {
        self.reach == Reach::Internal
    }

    fn plan(&self) -> Plan {
        Plan {
            id: self.id.clone(),
            bridge: self.bridge.clone(),
            pool: Pool {
                subnet: self.subnet,
                gateway: self.gateway,
                range: self.range,
                reserved: self.reserved.values().copied().collect(),
            },
            ipv6: self.ipv6.as_ref().map(|ipv6| Pool {
                subnet: ipv6.subnet,
                gateway: ipv6.gateway,
                range: ipv6.range,
                reserved: ipv6.reserved.values().copied().collect(),
            }),
            reach: self.reach,
            mtu: self.mtu,
        }
    }
}

/// A network as a client means it.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// `bridge`: that of the node.
    Node,
    /// `host`
    Host,
    /// `none`
    Nothing,
    Custom(Arc<Record>),
}

impl Found {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Node => "bridge",
            Self::Host => "host",
            Self::Nothing => "none",
            Self::Custom(record) => &record.name,
        }
    }
}

#[derive(Default)]
pub(crate) struct Networks {
    all: Mutex<BTreeMap<String, Arc<Record>>>,
    /// Held while one is made or removed.
    change: tokio::sync::Mutex<()>,
    /// Shared by those that are taken apart after their removal was answered.
    leaving: Arc<tokio::sync::RwLock<()>>,
}

impl Networks {
    /// Those that clients made, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|record| record.created_at);
        all
    }

    pub(crate) fn get(&self, id: &NetworkId) -> Option<Arc<Record>> {
        self.lock().get(id.as_str()).cloned()
    }

    /// By name, id, or the beginning of one id. `ids` are those of the networks that are always
    /// there.
    ///
    /// # Errors
    /// `NotFound`, and `InvalidArgument` for the beginning of several, in Docker's words.
    pub(crate) fn find(&self, text: &str, ids: &[(Found, String)]) -> Result<Found> {
        let all = self.lock();
        if let Some((found, _)) = ids.iter().find(|(it, id)| it.name() == text || id == text) {
            return Ok(found.clone());
        }
        let named = || all.values().find(|record| record.name == text);
        if let Some(record) = all.get(text).or_else(named) {
            return Ok(Found::Custom(record.clone()));
        }
        let always = ids.iter().filter(|(_, id)| is_hex(text) && id.starts_with(text));
        let mut matches = always.map(|(found, _)| found.clone()).chain(
            all.iter()
                .filter(|(id, _)| is_hex(text) && id.starts_with(text))
                .map(|(_, record)| Found::Custom(record.clone())),
        );
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("network {text} is ambiguous (2 matches found on ID)")))
            }
            (None, _) => {
                let shown: String = text.chars().take(80).collect();
                Err(Error::not_found(format!("network {shown} not found")))
            }
        }
    }

    /// Waits until bridges and routes of those that were removed are gone.
    pub(super) async fn settle(&self) {
        drop(self.leaving.write().await);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Record>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Networks that are always there keep their ids for ever.
pub(crate) fn fixed_id(shared: &Shared, name: &str) -> String {
    let whole = format!("{} {name}", shared.config.root.display());
    Digest::of(whole.as_bytes()).hex().to_owned()
}

/// A container that runs, and where it is in a network.
pub(crate) struct Member {
    pub(crate) container: Arc<Container>,
    pub(crate) pod: PodId,
    pub(crate) attachment: Attachment,
}

/// Those that have an address of the network now.
pub(crate) fn members(shared: &Shared, network: &NetworkRef) -> Vec<Member> {
    let containers = shared.standalones.all().into_iter().map(|container| container.record());
    let member = |container: Arc<Container>| {
        let pod = container.run()?.pod.clone();
        let record = shared.pods.find(pod.as_str()).ok()?.record();
        let attachment = record.attachment_of(network)?.clone();
        Some(Member { container, pod, attachment })
    };
    containers.filter_map(member).collect()
}

/// Before pods are taken up.
pub(super) fn load(shared: &Shared) -> Result<()> {
    let records = shared.network_records.scan()?;
    let mut all = shared.networks.lock();
    all.extend(records.into_iter().map(|(id, record)| (id, Arc::new(record))));
    Ok(())
}

/// Makes bridges and rules again, or finds them. One that cannot be made is said, and tried again
/// by the next daemon.
pub(super) async fn open_all(shared: &Shared) -> Result<()> {
    let pods = shared.pod_records.scan()?;
    for record in shared.networks.all() {
        if record.is_removed {
            shared.networks.lock().remove(record.id.as_str());
            remove::take_apart(shared, &record).await;
            continue;
        }
        let ready = pods.iter().filter(|(_, pod)| pod.phase == Phase::Ready);
        let survivors = ready.filter_map(|(_, pod)| {
            let attachment = pod.joined.get(&record.id)?;
            let held = Held { ipv4: attachment.ipv4()?, ipv6: attachment.ipv6() };
            Some((pod.id.clone(), held))
        });
        let opened = shared.network.open_network(record.plan(), survivors.collect()).await;
        if let Err(error) = opened {
            tracing::error!(network = %record.name, error = error.chain(), "make a network again");
        }
    }
    Ok(())
}
