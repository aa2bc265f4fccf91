//! That a container is in a network.

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Found, Networks, Record};
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
    /// The highest is the way out.
    pub(crate) priority: i64,
}

/// What a client asks for in a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) aliases: Vec<String>,
    pub(crate) priority: i64,
}

impl Membership {
    pub(crate) fn node() -> Self {
        Self {
            network: NetworkRef::Node,
            name: Found::Node.name().to_owned(),
            address: None,
            aliases: Vec::new(),
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
        let Wanted { address, aliases, priority } = wanted;
        Ok(Self { network, name: found.name().to_owned(), address, aliases, priority })
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
