//! What the daemon tells the server: who may ask, and what there is to know in each network.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::message::reversed_address;
use crate::error::{Context, Result};
use crate::id::{NetworkId, PodId};
use crate::store::atomic::{Directory, Durability};

const FILE: &str = "names.json";

/// All of it. Replaced whole, never changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) askers: BTreeMap<PodId, Asker>,
    pub(crate) networks: BTreeMap<NetworkId, Zone>,
    /// Where the ports of the host's ::1 lead.
    #[serde(default)]
    pub(crate) loopback: BTreeMap<u16, SocketAddrV6>,
}

/// A pod whose containers ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asker {
    /// The socket of the monitor that has the sockets.
    pub(crate) monitor: PathBuf,
    /// Those whose names it may know.
    pub(crate) networks: Vec<NetworkId>,
    /// Names, in lower case, that only it has for others.
    pub(crate) links: BTreeMap<String, Vec<IpAddr>>,
    pub(crate) upstream: Upstream,
}

/// Who is asked for names that no network has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Upstream {
    /// Nobody: its networks are internal.
    Nobody,
    /// Those in the host's resolv.conf at that time.
    Host,
    These(Vec<IpAddr>),
}

/// The names of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Zone {
    /// Of the network; it may stand behind each name, after a dot.
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) address: Ipv4Addr,
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// The first one is what its address is called.
    pub(crate) names: Vec<String>,
}

impl Table {
    /// Replaces the table in the state directory.
    pub(crate) fn publish(&self, state: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).context("encode the table of names")?;
        Directory::open(state, Durability::UntilReboot)?.replace(FILE, &bytes)
    }

    /// An empty one if none was published.
    pub(crate) fn read(state: &Path) -> Result<Self> {
        let directory = Directory::open(state, Durability::UntilReboot)?;
        match directory.read(FILE) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("decode the table of names"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context("read the table of names"),
        }
    }
}

/// A table that can be searched.
#[derive(Debug, Default)]
pub(super) struct Index {
    askers: BTreeMap<PodId, Asker>,
    zones: HashMap<NetworkId, IndexedZone>,
}

#[derive(Debug, Default)]
struct IndexedZone {
    name: String,
    addresses: HashMap<String, Vec<IpAddr>>,
    names: HashMap<IpAddr, String>,
}

/// What the networks of an asker know of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Of both families.
    Addresses(Vec<IpAddr>),
    /// Of the address that is asked for.
    Name(String),
    Nothing,
}

impl Index {
    pub(super) fn of(table: &Table) -> Self {
        let zones = table.networks.iter().map(|(id, zone)| (id.clone(), IndexedZone::of(zone)));
        Self { askers: table.askers.clone(), zones: zones.collect() }
    }

    pub(super) fn asker(&self, pod: &PodId) -> Option<&Asker> {
        self.askers.get(pod)
    }

    /// `name` is in lower case and has no dot at its end.
    pub(super) fn look_up(&self, asker: &Asker, name: &str) -> Known {
        let zones = || asker.networks.iter().filter_map(|network| self.zones.get(network));
        if let Some(address) = reversed_address(name) {
            let found = zones().find_map(|zone| Some((zone.names.get(&address)?, &zone.name)));
            return found
                .map_or(Known::Nothing, |(name, zone)| Known::Name(format!("{name}.{zone}")));
        }
        let mut all = Vec::new();
        let linked = asker.links.get(name).into_iter().flatten();
        for address in linked.chain(zones().flat_map(|zone| zone.addresses_of(name))) {
            if !all.contains(address) {
                all.push(*address);
            }
        }
        if all.is_empty() { Known::Nothing } else { Known::Addresses(all) }
    }
}

impl IndexedZone {
    fn of(zone: &Zone) -> Self {
        let mut indexed = Self { name: zone.name.to_ascii_lowercase(), ..Self::default() };
        for member in &zone.members {
            let ipv6 = member.ipv6.map(IpAddr::V6);
            for address in std::iter::once(IpAddr::V4(member.address)).chain(ipv6) {
                for name in &member.names {
                    let addresses = indexed.addresses.entry(name.to_ascii_lowercase());
                    addresses.or_default().push(address);
                }
                if let Some(first) = member.names.first() {
                    indexed.names.insert(address, first.clone());
                }
            }
        }
        indexed
    }

    fn addresses_of(&self, name: &str) -> &[IpAddr] {
        let found = self.addresses.get(name).or_else(|| {
            let before = name.strip_suffix(self.name.as_str())?.strip_suffix('.')?;
            self.addresses.get(before)
        });
        found.map_or(&[], Vec::as_slice)
    }
}
