//! Making a network: a name, a subnet, a record, and then its bridge.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Ipv6Pool, Record, subnets};
use crate::engine::{Shared, clock, operation};
use crate::error::{Error, Kind, Result};
use crate::id::NetworkId;
use crate::net::leases::Address;
use crate::net::nft::Reach;

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// What these are at when nobody names them is all that we do.
const FIXED: [(&str, &str); 4] = [
    ("com.docker.network.bridge.enable_icc", "true"),
    ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
    ("com.docker.network.bridge.gateway_mode_ipv4", "nat"),
    ("com.docker.network.bridge.gateway_mode_ipv6", "nat"),
];

/// An interface's name has no more bytes.
const LONGEST_BRIDGE: usize = 15;

/// What a network is asked to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) ipv4: RequestedPool<Ipv4Addr>,
    /// `None`: it has nothing to do with IPv6.
    pub(crate) ipv6: Option<RequestedPool<Ipv6Addr>>,
    pub(crate) is_internal: bool,
    pub(crate) is_attachable: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

/// Addresses of one family, as a client asks for them.
#[derive(Debug, Clone)]
pub(crate) struct RequestedPool<A: Address> {
    /// `None`: one of ours.
    pub(crate) subnet: Option<A::Net>,
    /// `None`: the first address.
    pub(crate) gateway: Option<A>,
    pub(crate) range: Option<A::Net>,
    pub(crate) reserved: BTreeMap<String, A>,
}

impl<A: Address> Default for RequestedPool<A> {
    fn default() -> Self {
        Self { subnet: None, gateway: None, range: None, reserved: BTreeMap::new() }
    }
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
        // The host still routes the subnets of those that were removed a moment ago.
        shared.networks.settle().await;
        let id = NetworkId::generate()?;
        let subnet = subnets::ipv4(&shared, &request.ipv4, &others).await?;
        let gateway = subnets::gateway(&request.ipv4, subnet)?;
        let ipv6 = request.ipv6.map(|asked| {
            let subnet = subnets::ipv6(&id, &asked, &others)?;
            let gateway = subnets::gateway(&asked, subnet)?;
            let RequestedPool { subnet: own, range, reserved, .. } = asked;
            Ok::<_, Error>(Ipv6Pool {
                subnet,
                gateway,
                range,
                reserved,
                has_own_subnet: own.is_some(),
            })
        });
        let short = id.short().get(..12).unwrap_or_default();
        let record = Arc::new(Record {
            bridge: options.bridge.unwrap_or_else(|| format!("br-{short}")),
            id,
            name: request.name,
            created_at: clock::now(),
            subnet,
            gateway,
            range: request.ipv4.range,
            reserved: request.ipv4.reserved,
            ipv6: ipv6.transpose()?,
            has_own_subnet: request.ipv4.subnet.is_some(),
            reach: match (request.is_internal, options.is_masqueraded) {
                (true, _) => Reach::Internal,
                (false, true) => Reach::Masqueraded,
                (false, false) => Reach::Routed,
            },
            is_attachable: request.is_attachable,
            mtu: options.mtu,
            labels: request.labels,
            options: request.options,
            is_removed: false,
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
}
