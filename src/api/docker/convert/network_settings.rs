//! Where a container is in the network: addresses and published ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::api::docker::wire::container::{Endpoint, PortBinding};
use crate::api::docker::wire::details::NetworkSettings;
use crate::engine::Engine;
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
    let name = match record.config.network {
        Network::Bridge => "bridge",
        Network::Host => "host",
        Network::None => "none",
        Network::Container(_) => return Ok(settings),
    };
    let mut endpoint = Endpoint { network_id: engine.network_id(name), ..Endpoint::default() };
    if let Some(run) = record.run() {
        settings.sandbox_id = run.pod.to_string();
        settings.sandbox_key = engine.network_namespace(&run.pod).unwrap_or_default();
        for port in &run.ports {
            let key = format!("{}/{}", port.container_port, port.protocol.as_str());
            settings.ports.entry(key).or_default().get_or_insert_default().push(binding(port));
        }
        if let Some(attachment) = engine.attachment(&run.pod) {
            endpoint.endpoint_id = run.pod.to_string();
            endpoint.mac_address = attachment.hardware_address.clone().unwrap_or_default();
            let first = attachment.addresses.first();
            endpoint.ip_address = first.map(|it| it.addr().to_string()).unwrap_or_default();
            endpoint.ip_prefix_len = first.map(|it| it.prefix_len()).unwrap_or_default();
            let gateway = attachment.gateways.first();
            endpoint.gateway = gateway.map(IpAddr::to_string).unwrap_or_default();
        }
    }
    if name == "bridge" {
        settings.endpoint_id.clone_from(&endpoint.endpoint_id);
        settings.gateway.clone_from(&endpoint.gateway);
        settings.ip_address.clone_from(&endpoint.ip_address);
        settings.ip_prefix_len = endpoint.ip_prefix_len;
        settings.mac_address.clone_from(&endpoint.mac_address);
    }
    settings.networks.insert(name.to_owned(), endpoint);
    Ok(settings)
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
