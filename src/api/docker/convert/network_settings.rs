//! Where a container is in the network: addresses and published ports.

use std::collections::BTreeMap;

use serde_json::Value;

use super::network::INTERFACE;
use crate::api::docker::wire::container::{Endpoint, PortBinding};
use crate::api::docker::wire::details::NetworkSettings;
use crate::api::docker::wire::network::IpamConfig;
use crate::engine::Engine;
use crate::engine::networks::Family;
use crate::engine::networks::membership::{Membership, NetworkRef};
use crate::engine::pod::config::PortMapping;
use crate::engine::standalone::config::Network;
use crate::engine::standalone::record::Record;
use crate::error::Result;

pub(crate) fn of(engine: &Engine, record: &Record) -> Result<NetworkSettings> {
    let mut settings = NetworkSettings {
        ports: exposed(record),
        networks: BTreeMap::new(),
        ..NetworkSettings::default()
    };
    if let Some(run) = record.run() {
        settings.sandbox_id = run.pod.to_string();
        settings.sandbox_key = engine.network_namespace(&run.pod).unwrap_or_default();
        for port in &run.ports {
            let key = format!("{}/{}", port.container_port, port.protocol.as_str());
            settings.ports.entry(key).or_default().get_or_insert_default().push(binding(port));
        }
    }
    match record.config.network {
        Network::Bridge | Network::Custom(_) => {
            let all = record.networks.iter();
            settings.networks =
                all.map(|it| (it.name.clone(), endpoint(engine, record, it))).collect();
        }
        Network::Host => alone(engine, &mut settings, "host"),
        Network::None => alone(engine, &mut settings, "none"),
        Network::Container(_) => {}
    }
    if let Some(endpoint) = settings.networks.get("bridge") {
        settings.endpoint_id.clone_from(&endpoint.endpoint_id);
        settings.gateway.clone_from(&endpoint.gateway);
        settings.ip_address.clone_from(&endpoint.ip_address);
        settings.ip_prefix_len = endpoint.ip_prefix_len;
        settings.mac_address.clone_from(&endpoint.mac_address);
    }
    Ok(settings)
}

/// A network that gives no address.
fn alone(engine: &Engine, settings: &mut NetworkSettings, name: &str) {
    let endpoint = Endpoint { network_id: engine.network_id(name), ..Endpoint::default() };
    settings.networks.insert(name.to_owned(), endpoint);
}

fn endpoint(engine: &Engine, record: &Record, membership: &Membership) -> Endpoint {
    let mut endpoint = Endpoint {
        network_id: match &membership.network {
            NetworkRef::Node => engine.network_id(&membership.name),
            NetworkRef::Custom(id) => id.to_string(),
        },
        gw_priority: membership.priority,
        driver_opts: membership
            .interface
            .as_ref()
            .map(|name| BTreeMap::from([(INTERFACE.to_owned(), name.clone())])),
        ..Endpoint::default()
    };
    if let NetworkRef::Custom(_) = membership.network {
        endpoint.aliases = Some(membership.aliases.clone()).filter(|it| !it.is_empty());
        endpoint.dns_names = Some(membership.names(record));
        let links = membership.links.iter().map(|it| format!("{}:{}", it.container, it.alias));
        endpoint.links = Some(links.collect()).filter(|it: &Vec<String>| !it.is_empty());
        let asked = IpamConfig {
            ipv4_address: membership.address.map(|it| it.to_string()).unwrap_or_default(),
            ipv6_address: membership.ipv6.map(|it| it.to_string()).unwrap_or_default(),
        };
        let has_wish = membership.address.is_some() || membership.ipv6.is_some();
        endpoint.ipam_config = has_wish.then_some(asked);
    }
    // What it will be, until it is.
    endpoint.mac_address = membership.hardware_address.map(|it| it.to_string()).unwrap_or_default();
    let Some(run) = record.run() else { return endpoint };
    if let Some(attachment) = engine.attachment(&run.pod, &membership.network) {
        endpoint.endpoint_id = Engine::endpoint_id(&run.pod, &membership.network);
        endpoint.mac_address = attachment.hardware_address.clone().unwrap_or_default();
        let (ipv4, ipv6) = (attachment.address(Family::Ipv4), attachment.address(Family::Ipv6));
        endpoint.ip_address = ipv4.map(|it| it.addr().to_string()).unwrap_or_default();
        endpoint.ip_prefix_len = ipv4.map(|it| it.prefix_len()).unwrap_or_default();
        endpoint.global_ipv6_address = ipv6.map(|it| it.addr().to_string()).unwrap_or_default();
        endpoint.global_ipv6_prefix_len = ipv6.map(|it| it.prefix_len()).unwrap_or_default();
        let gateway = |family| {
            let gateway = attachment.gateway(family);
            gateway.map(|it| it.to_string()).unwrap_or_default()
        };
        endpoint.gateway = gateway(Family::Ipv4);
        endpoint.ipv6_gateway = gateway(Family::Ipv6);
    }
    endpoint
}

fn binding(port: &PortMapping) -> PortBinding {
    PortBinding {
        host_ip: port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
        host_port: port.host_port.to_string(),
    }
}

/// Known while nothing runs, too; none of them is published then.
fn exposed(record: &Record) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let ports = record.config.request.get("Config").and_then(|config| config.get("ExposedPorts"));
    let ports = ports.and_then(Value::as_object);
    let is_up = record.run().is_some();
    let names = ports.into_iter().flatten().map(|(port, _)| (port.clone(), None));
    names.filter(|_| is_up).collect()
}
