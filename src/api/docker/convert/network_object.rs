//! Networks as Docker's clients read and write them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::create::unsupported;
use super::time;
use crate::api::docker::wire::network::{ConfigFrom, CreateRequest, Ipam, Member, Network, Pool};
use crate::engine::Engine;
use crate::engine::networks::membership::NetworkRef;
use crate::engine::networks::{
    Address, Family, Found, Ipv6Pool, Member as EngineMember, Record, Request, RequestedPool,
};
use crate::error::{Error, Result};

/// What we cannot do is refused by name.
pub(crate) fn request(body: CreateRequest) -> Result<Request> {
    check_supported(&body)?;
    let is_ipv6 = body.enable_ipv6 == Some(true);
    let pools = body.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    // One that names no subnet is about IPv4.
    let (second, first): (Vec<Pool>, Vec<Pool>) =
        pools.into_iter().partition(|pool| pool.subnet.contains(':'));
    if first.len() > 1 || second.len() > 1 {
        return unsupported("a second subnet of one family in a network");
    }
    if let (Some(pool), false) = (second.first(), is_ipv6) {
        let subnet = &pool.subnet;
        return Err(Error::invalid(format!(
            "invalid network config:\ninvalid subnet {subnet}: IPv6 has not been enabled for this \
             network"
        )));
    }
    let ipv6 = is_ipv6.then(|| requested(second.into_iter().next()));
    Ok(Request {
        name: body.name.unwrap_or_default(),
        ipv4: requested(first.into_iter().next())?,
        ipv6: ipv6.transpose()?,
        is_internal: body.internal == Some(true),
        is_attachable: body.attachable == Some(true),
        labels: body.labels.unwrap_or_default(),
        options: body.options.unwrap_or_default(),
    })
}

fn requested<A: Address>(pool: Option<Pool>) -> Result<RequestedPool<A>>
where
    A::Net: FromStr,
{
    let pool = pool.unwrap_or_default();
    let mut reserved = BTreeMap::new();
    for (name, address) in pool.auxiliary_addresses.unwrap_or_default() {
        reserved.insert(name, parse("auxiliary address", &address)?);
    }
    Ok(RequestedPool {
        subnet: some(&pool.subnet).map(|text| parse("subnet", text)).transpose()?,
        gateway: some(&pool.gateway).map(|text| parse("gateway", text)).transpose()?,
        range: some(&pool.ip_range).map(|text| parse("ip-range", text)).transpose()?,
        reserved,
    })
}

fn check_supported(body: &CreateRequest) -> Result<()> {
    match body.driver.as_deref().unwrap_or_default() {
        "" | "default" | "bridge" => {}
        other => {
            return Err(Error::not_found(format!(
                "could not find plugin {other} in v1 plugin registry: plugin {other:?} not found"
            )));
        }
    }
    if body.enable_ipv4 == Some(false) {
        return unsupported("a network without IPv4");
    }
    let copies = body.config_from.as_ref().is_some_and(|it| !it.network.is_empty());
    if body.ingress == Some(true) || body.config_only == Some(true) || copies {
        return unsupported("a network for swarms");
    }
    let driver = body.ipam.as_ref().and_then(|ipam| ipam.driver.as_deref()).unwrap_or_default();
    if !matches!(driver, "" | "default") {
        return unsupported("an IPAM driver");
    }
    Ok(())
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn parse<T: FromStr>(what: &str, text: &str) -> Result<T> {
    let refuse = |_| Error::invalid(format!("invalid network config:\ninvalid {what} {text}"));
    text.parse().map_err(refuse)
}

/// Without its containers.
pub(crate) fn shown(engine: &Engine, found: &Found) -> Network {
    let mut network = Network {
        name: found.name().to_owned(),
        id: id(engine, found),
        created: time::NEVER.to_owned(),
        scope: "local",
        driver: "bridge",
        enable_ipv4: true,
        enable_ipv6: false,
        ipam: Ipam { driver: Some("default".to_owned()), options: None, config: Some(Vec::new()) },
        internal: false,
        attachable: false,
        ingress: false,
        config_from: ConfigFrom::default(),
        config_only: false,
        containers: BTreeMap::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    match found {
        Found::Host => network.driver = "host",
        Found::Nothing => network.driver = "null",
        Found::Node => {
            let mut option = |name: &str, value: String| {
                network.options.insert(format!("com.docker.network.bridge.{name}"), value);
            };
            option("default_bridge", "true".to_owned());
            if let Some((subnet, gateway, bridge)) = engine.node_network() {
                option("name", bridge);
                let (subnet, gateway) = (subnet.to_string(), gateway.to_string());
                network.ipam.config = Some(vec![Pool { subnet, gateway, ..Pool::default() }]);
            }
        }
        Found::Custom(record) => {
            network.created = time::text(record.created_at);
            network.ipam.options = Some(BTreeMap::new());
            let Record { subnet, gateway, range, reserved, ipv6, .. } = &**record;
            let mut pools = vec![pool(subnet, gateway, range.as_ref(), reserved)];
            if let Some(Ipv6Pool { subnet, gateway, range, reserved, .. }) = ipv6 {
                pools.push(pool(subnet, gateway, range.as_ref(), reserved));
            }
            network.enable_ipv6 = ipv6.is_some();
            network.ipam.config = Some(pools);
            network.internal = record.is_internal();
            network.attachable = record.is_attachable;
            network.options.clone_from(&record.options);
            network.labels.clone_from(&record.labels);
        }
    }
    network
}

fn pool<Address: Display>(
    subnet: &impl Display,
    gateway: &Address,
    range: Option<&impl Display>,
    reserved: &BTreeMap<String, Address>,
) -> Pool {
    let reserved = reserved.iter().map(|(name, it)| (name.clone(), it.to_string()));
    let reserved: BTreeMap<String, String> = reserved.collect();
    Pool {
        subnet: subnet.to_string(),
        ip_range: range.map(ToString::to_string).unwrap_or_default(),
        gateway: gateway.to_string(),
        auxiliary_addresses: Some(reserved).filter(|it| !it.is_empty()),
    }
}

pub(crate) fn with_containers(engine: &Engine, found: &Found) -> Network {
    let mut network = shown(engine, found);
    if let Some(of) = reference(found) {
        let members = engine.network_members(&of).into_iter();
        network.containers = members.map(|it| member(&of, &it)).collect();
    }
    network
}

fn member(network: &NetworkRef, member: &EngineMember) -> (String, Member) {
    let EngineMember { container, pod, attachment } = member;
    let of = |family| {
        let address = attachment.address(family);
        address.map(|address| address.to_string()).unwrap_or_default()
    };
    let shown = Member {
        name: container.name.clone(),
        endpoint_id: Engine::endpoint_id(pod, network),
        mac_address: attachment.hardware_address.clone().unwrap_or_default(),
        ipv4_address: of(Family::Ipv4),
        ipv6_address: of(Family::Ipv6),
    };
    (container.id.to_string(), shown)
}

/// Of a network that gives addresses.
pub(crate) fn reference(found: &Found) -> Option<NetworkRef> {
    match found {
        Found::Node => Some(NetworkRef::Node),
        Found::Custom(record) => Some(NetworkRef::Custom(record.id.clone())),
        Found::Host | Found::Nothing => None,
    }
}

fn id(engine: &Engine, found: &Found) -> String {
    match found {
        Found::Custom(record) => record.id.to_string(),
        Found::Node | Found::Host | Found::Nothing => engine.network_id(found.name()),
    }
}
