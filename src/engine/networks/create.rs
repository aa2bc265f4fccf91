//! Making a network: a name, a subnet, a record, and then its bridge.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::Record;
use crate::engine::{Shared, clock, operation};
use crate::error::{Error, Kind, Result};
use crate::id::NetworkId;
use crate::net::nft::Reach;

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// What these are at when nobody names them is all that we do.
const FIXED: [(&str, &str); 2] = [
    ("com.docker.network.bridge.enable_icc", "true"),
    ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
];

/// An interface's name has no more bytes.
const LONGEST_BRIDGE: usize = 15;

/// What a network is asked to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) name: String,
    /// `None`: one of ours.
    pub(crate) subnet: Option<Ipv4Net>,
    /// `None`: the first address.
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) range: Option<Ipv4Net>,
    pub(crate) reserved: BTreeMap<String, Ipv4Addr>,
    pub(crate) is_internal: bool,
    pub(crate) is_attachable: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

/// # Errors
/// In Docker's words: `Forbidden` for a subnet that another one meets, `AlreadyExists` for a name
/// that is taken.
pub(crate) async fn create(shared: Arc<Shared>, request: Request) -> Result<Arc<Record>> {
    check_name(&request.name)?;
    let options = Options::of(&request.options)?;
    operation::run(async move {
        let _change = shared.networks.change.lock().await;
        let others = shared.networks.all();
        if others.iter().any(|other| other.name == request.name) {
            let message = format!("network with name {} already exists", request.name);
            return Err(Error::new(Kind::AlreadyExists, message));
        }
        let subnet = subnet(&shared, &request, &others).await?;
        let gateway = gateway(&request, subnet)?;
        let id = NetworkId::generate()?;
        let short = id.short().get(..12).unwrap_or_default();
        let record = Arc::new(Record {
            bridge: options.bridge.unwrap_or_else(|| format!("br-{short}")),
            id,
            name: request.name,
            created_at: clock::now(),
            subnet,
            gateway,
            range: request.range,
            reserved: request.reserved,
            has_own_subnet: request.subnet.is_some(),
            reach: match (request.is_internal, options.is_masqueraded) {
                (true, _) => Reach::Internal,
                (false, true) => Reach::Masqueraded,
                (false, false) => Reach::Routed,
            },
            is_attachable: request.is_attachable,
            mtu: options.mtu,
            labels: request.labels,
            options: request.options,
        });
        if others.iter().any(|other| other.bridge == record.bridge) {
            let bridge = &record.bridge;
            return Err(Error::new(
                Kind::Forbidden,
                format!("networks have same bridge name: {bridge}"),
            ));
        }
        shared.network_records.put(record.id.as_str(), &record)?;
        // The record first: what a killed daemon made of it is found by the next one.
        if let Err(error) = shared.network.open_network(record.plan(), Vec::new()).await {
            shared.network_records.remove(record.id.as_str())?;
            return Err(error);
        }
        shared.networks.lock().insert(record.id.to_string(), record.clone());
        shared.tell_of_network("create", &record);
        Ok(record)
    })
    .await
}

fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        let message = format!("operation is not permitted on predefined {name} network");
        return Err(Error::new(Kind::Forbidden, message));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if name.len() > 255 || !begins || !name.chars().all(plain) {
        return Err(Error::invalid(format!(
            "invalid network name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed"
        )));
    }
    Ok(())
}

/// What the options that we know ask for.
struct Options {
    bridge: Option<String>,
    mtu: Option<u32>,
    is_masqueraded: bool,
}

impl Options {
    fn of(options: &BTreeMap<String, String>) -> Result<Self> {
        for (key, only) in FIXED {
            if options.get(key).is_some_and(|value| value != only) {
                let message = format!("{key} other than {only} is not supported yet");
                return Err(Error::new(Kind::Unsupported, message));
            }
        }
        let bridge = options.get(BRIDGE_NAME).filter(|name| !name.is_empty()).cloned();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if let Some(name) = &bridge
            && (name.len() > LONGEST_BRIDGE || !name.chars().all(plain) || name.starts_with('.'))
        {
            return Err(Error::invalid(format!("invalid bridge name {name:?}")));
        }
        let mtu = options.get(MTU).filter(|mtu| mtu.as_str() != "0");
        let mtu = mtu.map(|text| {
            let mtu = text.parse().ok().filter(|mtu| (68..=65_535).contains(mtu));
            mtu.ok_or_else(|| Error::invalid(format!("invalid MTU {text:?}")))
        });
        let masquerade = options.get(MASQUERADE).map(String::as_str);
        Ok(Self {
            bridge,
            mtu: mtu.transpose()?,
            is_masqueraded: !matches!(masquerade, Some("false" | "0")),
        })
    }
}

async fn subnet(shared: &Shared, request: &Request, others: &[Arc<Record>]) -> Result<Ipv4Net> {
    let mut taken: Vec<Ipv4Net> = others.iter().map(|other| other.subnet).collect();
    // The node's own, made or not.
    taken.push(shared.network.node_pool().map_or(shared.config.network.subnet, |pool| pool.0));
    if let Some(subnet) = request.subnet {
        if subnet.trunc() != subnet {
            let right = subnet.trunc();
            return Err(Error::invalid(format!(
                "invalid network config:\ninvalid subnet {subnet}: it should be {right}"
            )));
        }
        if !(8..=30).contains(&subnet.prefix_len()) {
            return Err(Error::invalid(format!(
                "invalid network config:\nsubnet {subnet} must be between /8 and /30"
            )));
        }
        if taken.iter().any(|other| meet(other, &subnet)) {
            return Err(overlap());
        }
        // The host's own interfaces, but not what it reaches through a router.
        return Ok(subnet);
    }
    taken.extend(shared.network.routed().await?.into_iter().filter(|net| net.prefix_len() > 0));
    candidates().find(|subnet| !taken.iter().any(|other| meet(other, subnet))).ok_or_else(|| {
        Error::new(Kind::Exhausted, "all predefined address pools have been fully subnetted")
    })
}

fn overlap() -> Error {
    Error::new(
        Kind::Forbidden,
        "invalid pool request: Pool overlaps with other one on this address space",
    )
}

fn meet(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// Docker's default pools, without the one of its `bridge`.
fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let wide = (18..32).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let narrow = (0..16).map(|third| (Ipv4Addr::new(192, 168, third * 16, 0), 20));
    wide.chain(narrow).filter_map(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
}

/// Also looks at the other addresses that were chosen.
fn gateway(request: &Request, subnet: Ipv4Net) -> Result<Ipv4Addr> {
    let has_choice = request.gateway.is_some() || request.range.is_some();
    if request.subnet.is_none() && (has_choice || !request.reserved.is_empty()) {
        return Err(Error::invalid(
            "invalid network config:\nan address or range needs the subnet that it is in",
        ));
    }
    if let Some(range) = request.range
        && !subnet.contains(&range)
    {
        return Err(Error::invalid(format!(
            "invalid network config:\ninvalid ip-range {range}: subnet {subnet} does not contain it"
        )));
    }
    let gateway = request.gateway.or_else(|| subnet.hosts().next()).unwrap_or(subnet.network());
    for address in request.reserved.values().chain([&gateway]) {
        if !subnet.contains(address) {
            return Err(Error::invalid(format!(
                "invalid network config:\naddress {address} is not in subnet {subnet}"
            )));
        }
    }
    Ok(gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_dockers_grammar_and_four_are_taken() {
        for good in ["a", "proj_default", "a.b-c"] {
            check_name(good).unwrap();
        }
        for bad in ["", " ", "-a", "a b", "../x", "a/b", "ä"] {
            assert_eq!(check_name(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
        }
        for taken in ["bridge", "host", "none", "default"] {
            assert_eq!(check_name(taken).unwrap_err().kind(), Kind::Forbidden, "{taken}");
        }
    }

    #[test]
    fn the_pools_are_thirty_and_do_not_meet() {
        let all: Vec<Ipv4Net> = candidates().collect();
        assert_eq!(all.len(), 30);
        for (place, one) in all.iter().enumerate() {
            assert!(all.iter().skip(place + 1).all(|other| !meet(one, other)), "{one}");
        }
    }

    #[test]
    fn chosen_addresses_must_be_in_the_subnet() {
        let subnet: Ipv4Net = "10.1.0.0/24".parse().unwrap();
        let own = Request { subnet: Some(subnet), ..Request::default() };
        assert_eq!(gateway(&own, subnet).unwrap(), Ipv4Addr::new(10, 1, 0, 1));
        let last = Request { gateway: "10.1.0.254".parse().ok(), ..own.clone() };
        assert_eq!(gateway(&last, subnet).unwrap(), Ipv4Addr::new(10, 1, 0, 254));
        for wrong in [
            Request { gateway: "10.2.0.1".parse().ok(), ..own.clone() },
            Request { range: "10.2.0.0/25".parse().ok(), ..own.clone() },
            Request { gateway: "10.1.0.1".parse().ok(), ..Request::default() },
        ] {
            assert_eq!(gateway(&wrong, subnet).unwrap_err().kind(), Kind::InvalidArgument);
        }
    }
}
