//! That a container is in a network.

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Found, Networks, Record};
use crate::engine::standalone::record::Record as Container;
use crate::error::{Error, Result};
use crate::id::NetworkId;

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
    /// Names beside the container's own.
    pub(crate) aliases: Vec<String>,
    /// Names that others in the network have for this container alone.
    #[serde(default)]
    pub(crate) links: Vec<Link>,
    /// The highest is the way out.
    pub(crate) priority: i64,
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
    pub(crate) aliases: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) priority: i64,
}

impl Membership {
    pub(crate) fn node() -> Self {
        Self {
            network: NetworkRef::Node,
            name: Found::Node.name().to_owned(),
            address: None,
            aliases: Vec::new(),
            links: Vec::new(),
            priority: 0,
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
        let Wanted { address, aliases, mut links, priority } = wanted;
        if network == NetworkRef::Node {
            // There they stand in the hosts file: the container's own configuration has them.
            links.clear();
        }
        Ok(Self { network, name: found.name().to_owned(), address, aliases, links, priority })
    }
}

fn check(found: &Found, wanted: &Wanted) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("invalid endpoint settings:\n{why}")));
    match (found, wanted.address) {
        (Found::Custom(record), Some(address)) => check_address(record, address),
        (Found::Custom(_), None) => Ok(()),
        (_, Some(_)) => {
            refuse("user specified IP address is supported on user defined networks only")
        }
        (_, None) if !wanted.aliases.is_empty() => {
            refuse("network-scoped alias is supported only for containers in user defined networks")
        }
        (_, None) => Ok(()),
    }
}

fn check_address(record: &Record, address: Ipv4Addr) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("invalid endpoint settings:\n{why}")));
    if !record.has_own_subnet {
        return refuse(
            "user specified IP address is supported only when connecting to networks with user \
             configured subnets",
        );
    }
    if !record.subnet.contains(&address) {
        return refuse(&format!(
            "no configured subnet or ip-range contain the IP address {address}"
        ));
    }
    Ok(())
}

impl Membership {
    /// By which others in the network know this container. The first one is its own.
    pub(crate) fn names(&self, container: &Container) -> Vec<String> {
        let mut names = vec![container.name.clone()];
        let short = container.id.as_str().get(..12).unwrap_or_default();
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
        let leads_out = |membership: &&Membership| match &membership.network {
            NetworkRef::Node => true,
            NetworkRef::Custom(id) => self.get(id).is_some_and(|record| !record.is_internal()),
        };
        memberships
            .iter()
            .filter(leads_out)
            .max_by_key(|it| (it.priority, Reverse(&it.name)))
            .map(|it| it.network.clone())
    }
}
