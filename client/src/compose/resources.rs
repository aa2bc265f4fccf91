//! Networks and volumes of a project: there before its containers, gone after them.

use cais_compose::{Node, Project};
use serde_json::{Map, Value as Json, json};

use super::converge::Act;
use super::labels;
use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::json::Value;
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

impl Kind {
    fn hash(&self, project: &Project, key: &str) -> String {
        let hash = match self.key {
            "networks" => project.network_hash(key),
            _ => project.volume_hash(key),
        };
        hash.unwrap_or_default()
    }

    fn body(&self, resource: &Node) -> Map<String, Json> {
        match self.key {
            "networks" => network_body(resource),
            _ => volume_body(resource),
        }
    }

    /// Whether a service has it.
    fn is_used(&self, key: &str, service: &Node) -> bool {
        let Some(used) = service.get(self.key) else { return false };
        let is_it = |mount: &Node| text(mount, "type") == "volume" && text(mount, "source") == key;
        used.get(key).is_some() || used.as_list().unwrap_or_default().iter().any(is_it)
    }

    /// Only services that are left out have it.
    fn is_left_out(&self, project: &Project, key: &str, services: &[&str]) -> bool {
        let mut users = project.services().filter(|(_, it)| self.is_used(key, it)).peekable();
        users.peek().is_some() && !users.any(|(name, _)| services.contains(&name.as_str()))
    }

    /// What is to become of one that is there, and what to say of it.
    ///
    /// # Errors
    /// When it cannot be used as it is.
    fn judge(&self, key: &str, found: &Value, project: &str, hash: &str) -> Result<Verdict> {
        let (name, labels) = (found["Name"].text(), &found["Labels"]);
        let what = self.title.to_lowercase();
        let is_network = self.key == "networks";
        let is_others = labels[labels::PROJECT].text() != project;
        let warning = is_others.then(|| {
            format!(
                "{what} {name} exists, but was not made for project {project}: declare it as external to use it"
            )
        });
        let actual_key = labels[self.label].text();
        if is_network && actual_key != key {
            return Err(Failure::new(format!(
                "network {name} was found but has incorrect label {} set to {actual_key:?} (expected: {key:?})",
                self.label
            )));
        }
        // Old versions of docker compose wrote no hash: there is nothing to compare with.
        let actual = labels[labels::HASH].text();
        if actual.is_empty() || actual == hash || is_others && is_network {
            return Ok(Verdict::Stays(warning));
        }
        if is_network {
            return Ok(Verdict::IsRenewed);
        }
        let changed = format!(
            "volume {name} exists, but not as the compose file has it: it stays as it is, with its data"
        );
        Ok(Verdict::Stays(Some(warning.map_or(changed.clone(), |it| format!("{it}; {changed}")))))
    }
}

/// What becomes of a resource that is there.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// With something to say of it.
    Stays(Option<String>),
    /// Its declaration is another one by now.
    IsRenewed,
}

fn is_external(resource: &Node) -> bool {
    resource.get("external").is_some_and(|it| it.as_bool() != Some(false))
}

/// Makes what these services need and is not there, and anew what is a network and declared otherwise by now. What is external
/// must be.
pub(super) fn ensure(act: &Act<'_>, services: &[&str]) -> Result<()> {
    let Act { cais, project, .. } = act;
    // All are looked at before the first is made: a refusal leaves nothing behind.
    let mut missing = Vec::new();
    let mut changed = Vec::new();
    let mut networks = Value::Null;
    for kind in [&NETWORKS, &VOLUMES] {
        for (key, resource) in project.resources(kind.key) {
            if kind.is_left_out(project, key, services) {
                continue;
            }
            let name = text(resource, "name");
            let found = if kind.key == "networks" && !is_external(resource) {
                // Asked for one by one, they would tell of every container in them, and they are asked for later in any case.
                if networks.is_null() {
                    networks = cais.client.read(Path::new(&["networks"]))?;
                }
                networks.items().iter().find(|it| it["Name"].text() == name).cloned()
            } else {
                match cais.client.read(Path::new(&[kind.path, name])) {
                    Err(failure) if failure.is_not_found() => None,
                    found => Some(found?),
                }
            };
            match found {
                Some(_) if is_external(resource) => {}
                Some(found) if found["Name"].text() == name => {
                    match kind.judge(key, &found, &project.name, &kind.hash(project, key))? {
                        Verdict::Stays(None) => {}
                        Verdict::Stays(Some(it)) => output::notice(&format!("warning: {it}")),
                        Verdict::IsRenewed => {
                            changed.push((found, creation(project, kind, key, resource)));
                        }
                    }
                }
                None if is_external(resource) => {
                    let what = kind.title.to_lowercase();
                    return Err(Failure::new(format!(
                        "{what} {name} declared as external, but could not be found"
                    )));
                }
                // None, or another one, whose id begins like this name.
                _ => missing.push((kind, key, resource)),
            }
        }
    }
    if changed.is_empty() && missing.is_empty() && !networks.is_null() {
        act.learn_networks(&networks);
    }
    act.check_renewal(&changed)?;
    changed.iter().try_for_each(|(former, body)| act.renew(former, body))?;
    for (kind, key, resource) in missing {
        let body = creation(project, kind, key, resource);
        cais.client.post_json(Path::new(&[kind.path, "create"]), &body)?;
        output::notice(&format!(" {} {}  Created", kind.title, text(resource, "name")));
    }
    Ok(())
}

/// The body that makes a resource.
fn creation(project: &Project, kind: &Kind, key: &str, resource: &Node) -> Json {
    let mut labels = strings(resource.get("labels"));
    labels.insert(labels::PROJECT.to_owned(), project.name.clone().into());
    labels.insert(labels::VERSION.to_owned(), labels::LIKE.into());
    labels.insert(kind.label.to_owned(), key.into());
    labels.insert(labels::HASH.to_owned(), kind.hash(project, key).into());
    let mut body = kind.body(resource);
    body.insert("Name".to_owned(), text(resource, "name").into());
    body.insert("Labels".to_owned(), labels.into());
    body.into()
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

/// Removes a project's networks, and its volumes when they are to go: of what bears its label that which its files declare as
/// its own, or all of it where there are no files. What others still use stays.
pub(super) fn remove(
    cais: &Cais,
    name: &str,
    project: Option<&Project>,
    with_volumes: bool,
) -> Result<()> {
    let filters = json!({ "label": [format!("{}={name}", labels::PROJECT)] }).to_string();
    for kind in [&VOLUMES, &NETWORKS].into_iter().filter(|it| with_volumes || it.key != "volumes") {
        let listed = cais.client.read(Path::new(&[kind.path]).with("filters", &filters))?;
        let list = if kind.key == "volumes" { &listed["Volumes"] } else { &listed };
        let names = list.items().iter().map(|it| it["Name"].text());
        for name in names.filter(|it| project.is_none_or(|project| owns(project, kind, it))) {
            let word = match cais.client.delete(Path::new(&[kind.path, name])) {
                Ok(_) => "Removed",
                Err(failure) if failure.is_not_found() => continue,
                Err(failure) if matches!(failure.status, Some(403 | 409)) => {
                    "Resource is still in use"
                }
                Err(failure) => return Err(failure),
            };
            output::notice(&format!(" {} {name}  {word}", kind.title));
        }
    }
    Ok(())
}

/// Whether the project's files declare it, and not as somebody else's.
fn owns(project: &Project, kind: &Kind, name: &str) -> bool {
    let mut declared = project.resources(kind.key).map(|(_, it)| it);
    declared.any(|it| text(it, "name") == name && !is_external(it))
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

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    const FILE: &str = "
name: shop
services:
  db: {image: db, volumes: [data:/data, ./here:/here], networks: [back]}
  app: {image: app, networks: [back, front]}
networks: {back: {}, front: {name: wide}, far: {external: true}}
volumes: {data: {}, kept: {external: true, name: shop_kept}, spare: {external: false}}
";

    #[test]
    fn a_project_owns_what_its_files_declare_as_its_own() {
        let project = project(FILE);
        for name in ["shop_data", "shop_spare"] {
            assert!(owns(&project, &VOLUMES, name), "{name}");
        }
        for name in ["shop_kept", "shop_former", "data", "shop_back"] {
            assert!(!owns(&project, &VOLUMES, name), "{name}");
        }
        assert!(owns(&project, &NETWORKS, "wide") && owns(&project, &NETWORKS, "shop_back"));
        assert!(!owns(&project, &NETWORKS, "far") && !owns(&project, &NETWORKS, "shop_front"));
    }

    #[test]
    fn what_only_services_left_out_have_is_left_out() {
        let project = project(FILE);
        let left_out = |kind: &Kind, services: &[&str]| -> Vec<String> {
            let keys = project.resources(kind.key).map(|(key, _)| key.clone());
            keys.filter(|key| kind.is_left_out(&project, key, services)).collect()
        };
        assert_eq!(left_out(&VOLUMES, &["app"]), ["data"]);
        assert_eq!(left_out(&NETWORKS, &["app"]), [""; 0]);
        assert_eq!(left_out(&NETWORKS, &["db"]), ["front"]);
        assert_eq!(left_out(&VOLUMES, &["app", "db"]), [""; 0]);
    }

    #[test]
    fn a_network_of_ones_own_that_changed_is_made_anew_and_a_volume_told_of() {
        let found = |key: &str, hash: &str, project: &str| {
            let labels = json!({
                labels::HASH: hash, labels::PROJECT: project, labels::NETWORK: key, labels::VOLUME: key,
            });
            let found = json!({ "Name": "shop_it", "Labels": labels });
            Value::parse(found.to_string().as_bytes()).unwrap()
        };
        let warning = |verdict: Verdict| match verdict {
            Verdict::Stays(warning) => warning.unwrap_or_default(),
            Verdict::IsRenewed => panic!("it is made anew"),
        };
        for kind in [&NETWORKS, &VOLUMES] {
            let judge = |found: &Value| kind.judge("it", found, "shop", "new").unwrap();
            assert_eq!(judge(&found("it", "new", "shop")), Verdict::Stays(None));
            assert_eq!(judge(&found("it", "", "shop")), Verdict::Stays(None));
            let others = warning(judge(&found("it", "old", "other")));
            assert!(others.contains("not made for project shop"), "{others}");
        }
        let changed = found("it", "old", "shop");
        assert_eq!(NETWORKS.judge("it", &changed, "shop", "new"), Ok(Verdict::IsRenewed));
        let told = warning(VOLUMES.judge("it", &changed, "shop", "new").unwrap());
        assert!(told.contains("stays as it is"), "{told}");
        let other_key = found("that", "new", "shop");
        let refused = NETWORKS.judge("it", &other_key, "shop", "new").unwrap_err();
        assert!(refused.message.contains("has incorrect label"), "{refused}");
    }
}
