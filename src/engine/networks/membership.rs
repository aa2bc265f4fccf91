//! That a container is in a network.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{Found, Networks, Record};
use crate::engine::standalone::record::Record as Container;
use crate::error::{Error, Result};
use crate::id::NetworkId;
use crate::net::HardwareAddress;
use crate::net::networks::Wish;

/// A network that gives addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum NetworkRef {
    /// That of all the node's pods, Docker's `bridge`.
    Node,
    Custom(NetworkId),
}

/// What a container wants in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) network: NetworkRef,
    /// Of the network, to be shown when it is gone.
    pub(crate) name: String,
    /// `None`: any.
    pub(crate) address: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Addr>,
    #[serde(default)]
    pub(crate) hardware_address: Option<HardwareAddress>,
    /// Names beside the container's own.
    pub(crate) aliases: Vec<String>,
    /// Names that others in the network have for this container alone.
    #[serde(default)]
    pub(crate) links: Vec<Link>,
    /// The highest is the way out.
    pub(crate) priority: i64,
    /// What its interface there is called in the container; `None`: `eth` and a number.
    #[serde(default)]
    pub(crate) interface: Option<String>,
}

/// Another container, by id or name, and what it is called here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) container: String,
    pub(crate) alias: String,
}

/// What a client asks for in a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) hardware_address: Option<HardwareAddress>,
    pub(crate) aliases: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) priority: i64,
    pub(crate) interface: Option<String>,
}

impl Membership {
    pub(crate) fn node() -> Self {
        Self {
            network: NetworkRef::Node,
            name: Found::Node.name().to_owned(),
            address: None,
            ipv6: None,
            hardware_address: None,
            aliases: Vec::new(),
            links: Vec::new(),
            priority: 0,
            interface: None,
        }
    }

    /// # Errors
    /// In Docker's words, for what the network does not give.
    pub(crate) fn of(found: &Found, wanted: Wanted) -> Result<Self> {
        let network = match found {
            Found::Node => NetworkRef::Node,
            Found::Custom(record) => NetworkRef::Custom(record.id.clone()),
            Found::Host | Found::Nothing => {
                return Err(Error::invalid(format!(
                    "container cannot be connected to the {} network with others",
                    found.name()
                )));
            }
        };
        check(found, &wanted)?;
        let Wanted { address, ipv6, hardware_address, aliases, mut links, priority, interface } =
            wanted;
        if network == NetworkRef::Node {
            // There they stand in the hosts file: the container's own configuration has them.
            links.clear();
        }
        let name = found.name().to_owned();
        Ok(Self {
            network,
            name,
            address,
            ipv6,
            hardware_address,
            aliases,
            links,
            priority,
            interface,
        })
    }

    pub(crate) fn wish(&self) -> Wish {
        Wish { ipv4: self.address, ipv6: self.ipv6, hardware: self.hardware_address }
    }
}

fn check(found: &Found, wanted: &Wanted) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("invalid endpoint settings:\n{why}")));
    if let Some(name) = &wanted.interface {
        check_interface(name)?;
    }
    let ipv4 = wanted.address.map(IpAddr::V4);
    let mut addresses = ipv4.into_iter().chain(wanted.ipv6.map(IpAddr::V6));
    if let Found::Custom(record) = found {
        return addresses.try_for_each(|address| check_address(record, address));
    }
    if addresses.count() > 0 {
        return refuse("user specified IP address is supported on user defined networks only");
    }
    if wanted.interface.is_some() {
        return refuse("an interface is named in user defined networks only");
    }
    if !wanted.aliases.is_empty() {
        return refuse(
            "network-scoped alias is supported only for containers in user defined networks",
        );
    }
    Ok(())
}

/// As the kernel has them (`dev_valid_name`), and not one that stands for another.
fn check_interface(name: &str) -> Result<()> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':' | '%');
    let is_name = (1..=15).contains(&name.len()) && name.chars().all(is_plain);
    if is_name && !matches!(name, "." | ".." | "lo" | "all" | "default") {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid endpoint settings:\ninvalid interface name {name:?}")))
}

fn check_address(record: &Record, address: IpAddr) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("invalid endpoint settings:\n{why}")));
    let (has_own_subnet, contains) = match (address, &record.ipv6) {
        (IpAddr::V4(address), _) => (record.has_own_subnet, record.subnet.contains(&address)),
        (IpAddr::V6(address), Some(it)) => (it.has_own_subnet, it.subnet.contains(&address)),
        (IpAddr::V6(_), None) => (record.has_own_subnet, false),
    };
    if !has_own_subnet {
        return refuse(
            "user specified IP address is supported only when connecting to networks with user \
             configured subnets",
        );
    }
    if !contains {
        return refuse(&format!(
            "no configured subnet or ip-range contain the IP address {address}"
        ));
    }
    Ok(())
}

impl Membership {
    /// By which others in the network know this container. The first one is its own. One that is aside has none that another
    /// one may have, too.
    pub(crate) fn names(&self, container: &Container) -> Vec<String> {
        let mut names = vec![container.name.clone()];
        let short = container.id.as_str().get(..12).unwrap_or_default();
        if container.is_aside {
            names.push(short.to_owned());
            return names;
        }
        let more = self.aliases.iter().map(String::as_str).chain([short]);
        for name in more.chain([container.config.hostname.as_str()]) {
            if !name.is_empty() && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

impl Networks {
    /// Where the default route and the published ports of such a container are.
    pub(crate) fn way_out(&self, memberships: &[Membership]) -> Option<NetworkRef> {
        self.way_out_by(memberships, |_| true)
    }

    /// The same for IPv6, which not every network has.
    pub(crate) fn way_out_ipv6(&self, memberships: &[Membership]) -> Option<NetworkRef> {
        self.way_out_by(memberships, |record| record.is_some_and(|it| it.ipv6.is_some()))
    }

    /// `None` is the node's own network.
    fn way_out_by(
        &self,
        memberships: &[Membership],
        wanted: impl Fn(Option<&Record>) -> bool,
    ) -> Option<NetworkRef> {
        let leads_out = |membership: &&Membership| match &membership.network {
            NetworkRef::Node => wanted(None),
            NetworkRef::Custom(id) => {
                self.get(id).is_some_and(|record| !record.is_internal() && wanted(Some(&record)))
            }
        };
        memberships
            .iter()
            .filter(leads_out)
            .max_by_key(|it| (it.priority, Reverse(&it.name)))
            .map(|it| it.network.clone())
    }
}
