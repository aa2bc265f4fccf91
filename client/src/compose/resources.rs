//! Networks and volumes of a project: there before its containers, gone after them.

use cais_compose::{Node, Project};
use serde_json::{Map, Value as Json, json};

use super::labels;
use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::output;

/// A resource of a project: the kind in paths, the key in files, the label that bears its key.
struct Kind {
    path: &'static str,
    key: &'static str,
    title: &'static str,
    label: &'static str,
}

const NETWORKS: Kind =
    Kind { path: "networks", key: "networks", title: "Network", label: labels::NETWORK };
const VOLUMES: Kind =
    Kind { path: "volumes", key: "volumes", title: "Volume", label: labels::VOLUME };

/// Makes what is not there. What is external must be.
pub(super) fn ensure(cais: &Cais, project: &Project) -> Result<()> {
    for (kind, body) in
        [(NETWORKS, network_body as fn(&Node) -> Map<String, Json>), (VOLUMES, volume_body)]
    {
        for (key, resource) in project.resources(kind.key) {
            let name = text(resource, "name");
            let is_external = resource.get("external").is_some();
            match cais.client.read(Path::new(&[kind.path, name])) {
                Ok(_) => continue,
                Err(failure) if !failure.is_not_found() => return Err(failure),
                Err(_) if is_external => {
                    let what = kind.title.to_lowercase();
                    return Err(Failure::new(format!(
                        "{what} {name} declared as external, but could not be found"
                    )));
                }
                Err(_) => {}
            }
            let hash = match kind.key {
                "networks" => project.network_hash(key),
                _ => project.volume_hash(key),
            };
            let mut labels = strings(resource.get("labels"));
            labels.insert(labels::PROJECT.to_owned(), project.name.clone().into());
            labels.insert(labels::VERSION.to_owned(), labels::LIKE.into());
            labels.insert(kind.label.to_owned(), key.clone().into());
            labels.insert(labels::HASH.to_owned(), hash.unwrap_or_default().into());
            let mut body = body(resource);
            body.insert("Name".to_owned(), name.into());
            body.insert("Labels".to_owned(), labels.into());
            cais.client.post_json(Path::new(&[kind.path, "create"]), &body.into())?;
            output::notice(&format!(" {} {name}  Created", kind.title));
        }
    }
    Ok(())
}

fn network_body(network: &Node) -> Map<String, Json> {
    let flag = |key: &str| network.get(key).and_then(Node::as_bool).unwrap_or(false);
    let mut body = Map::new();
    body.insert("Driver".to_owned(), or(text(network, "driver"), "bridge"));
    body.insert("Options".to_owned(), strings(network.get("driver_opts")).into());
    body.insert("Internal".to_owned(), flag("internal").into());
    body.insert("Attachable".to_owned(), flag("attachable").into());
    for (key, member) in [("enable_ipv4", "EnableIPv4"), ("enable_ipv6", "EnableIPv6")] {
        if let Some(value) = network.get(key).and_then(Node::as_bool) {
            body.insert(member.to_owned(), value.into());
        }
    }
    if let Some(ipam) = network.get("ipam") {
        let pools = ipam.get("config").and_then(Node::as_list).unwrap_or_default();
        let pool = |it: &Node| {
            json!({
                "Subnet": text(it, "subnet"),
                "IPRange": text(it, "ip_range"),
                "Gateway": text(it, "gateway"),
                "AuxiliaryAddresses": strings(it.get("aux_addresses")),
            })
        };
        let pools: Vec<Json> = pools.iter().map(pool).collect();
        let driver = or(text(ipam, "driver"), "default");
        body.insert("IPAM".to_owned(), json!({ "Driver": driver, "Config": pools }));
    }
    body
}

fn volume_body(volume: &Node) -> Map<String, Json> {
    let mut body = Map::new();
    body.insert("Driver".to_owned(), or(text(volume, "driver"), "local"));
    body.insert("DriverOpts".to_owned(), strings(volume.get("driver_opts")).into());
    body
}

/// Removes what bears the project's label: all its networks, and its volumes when they are to go.
pub(super) fn remove(cais: &Cais, project: &str, with_volumes: bool) -> Result<()> {
    let filters = json!({ "label": [format!("{}={project}", labels::PROJECT)] }).to_string();
    for kind in [VOLUMES, NETWORKS].into_iter().filter(|it| with_volumes || it.key != "volumes") {
        let listed = cais.client.read(Path::new(&[kind.path]).with("filters", &filters))?;
        let list = if kind.key == "volumes" { &listed["Volumes"] } else { &listed };
        for resource in list.items() {
            let name = resource["Name"].text();
            cais.client.delete(Path::new(&[kind.path, name]))?;
            output::notice(&format!(" {} {name}  Removed", kind.title));
        }
    }
    Ok(())
}

fn or(text: &str, default: &str) -> Json {
    if text.is_empty() { default.into() } else { text.into() }
}

pub(super) fn text<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Node::as_text).unwrap_or_default()
}

/// A mapping of texts.
pub(super) fn strings(node: Option<&Node>) -> Map<String, Json> {
    let members = node.and_then(Node::as_map).into_iter().flatten();
    members.map(|(key, it)| (key.clone(), it.as_text().unwrap_or_default().into())).collect()
}
