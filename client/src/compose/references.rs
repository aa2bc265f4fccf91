//! Services that a service speaks of, as their containers: namespaces and volumes that it shares, and links.

use std::borrow::Cow;

use cais_compose::{Node, Project, Value};

use super::containers;
use super::resources::text;
use crate::Cais;
use crate::client::IMAGINED;
use crate::error::{Failure, Result};

/// The keys that may name a service.
const SHARED: &[&str] = &["network_mode", "ipc", "pid"];

/// The service with containers in the place of services. Its hash is that of what it is then: when the other service's
/// container is made anew, its own is too.
pub(super) fn resolved<'n>(
    cais: &Cais,
    project: &Project,
    service: &'n Node,
) -> Result<Cow<'n, Node>> {
    let shared = |key: &&str| text(service, key).strip_prefix("service:");
    if SHARED.iter().find_map(shared).is_none() && service.get("volumes_from").is_none() {
        return Ok(Cow::Borrowed(service));
    }
    let all = containers::of_project(cais, &project.name)?;
    let id = |name: &str| {
        let found = all.iter().find(|it| it.service == name).map(|it| it.id.clone());
        found.or_else(|| cais.client.is_dry().then(|| IMAGINED.to_owned()))
    };
    with_containers(service, id).map(Cow::Owned)
}

fn with_containers(service: &Node, id: impl Fn(&str) -> Option<String>) -> Result<Node> {
    let mut resolved = service.clone();
    let Value::Map(keys) = &mut resolved.value else { return Ok(resolved) };
    for key in SHARED {
        let Some(name) = text(service, key).strip_prefix("service:") else { continue };
        let id = id(name).ok_or_else(|| {
            Failure::new(format!("cannot share namespace with service {name}: container missing"))
        })?;
        if let Some(node) = keys.get_mut(*key) {
            node.value = Value::Text(format!("container:{id}"));
        }
    }
    if let Some(Value::List(list)) = keys.get_mut("volumes_from").map(|it| &mut it.value) {
        for node in list {
            let spec = node.as_text().unwrap_or_default();
            let resolved = match spec.strip_prefix("container:") {
                Some(container) => container.to_owned(),
                None => {
                    let (name, mode) = spec.split_once(':').unwrap_or((spec, ""));
                    let id = id(name).ok_or_else(|| {
                        let what = "container missing";
                        Failure::new(format!("cannot share volume with service {name}: {what}"))
                    })?;
                    if mode.is_empty() { id } else { format!("{id}:{mode}") }
                }
            };
            node.value = Value::Text(resolved);
        }
    }
    Ok(resolved)
}

/// Gives a container that is to be made the names of those that its service links to.
pub(super) fn link(
    cais: &Cais,
    project: &Project,
    service: &Node,
    body: &mut serde_json::Value,
) -> Result<()> {
    let texts = |key: &str| {
        let list = service.get(key).and_then(Node::as_list).unwrap_or_default();
        list.iter().filter_map(Node::as_text).collect::<Vec<_>>()
    };
    let (own, external) = (texts("links"), texts("external_links"));
    let network = body["HostConfig"]["NetworkMode"].as_str().unwrap_or_default().to_owned();
    let endpoint = &mut body["NetworkingConfig"]["EndpointsConfig"][&network];
    if own.is_empty() && external.is_empty() || !endpoint.is_object() {
        return Ok(());
    }
    let all = containers::of_project(cais, &project.name)?;
    let numbered: Vec<(&str, &str, i64)> =
        all.iter().map(|it| (it.service.as_str(), it.name.as_str(), it.number)).collect();
    let external = external.iter().map(|it| match it.split_once(':') {
        Some(_) => (*it).to_owned(),
        None => format!("{it}:{it}"),
    });
    let links: Vec<String> = links(&own, &numbered).into_iter().chain(external).collect();
    endpoint["Links"] = links.into();
    Ok(())
}

/// `CONTAINER:NAME` for each container `(SERVICE, NAME, NUMBER)` of a linked service, under the link's name and its own two.
fn links(links: &[&str], all: &[(&str, &str, i64)]) -> Vec<String> {
    let mut named = Vec::new();
    for link in links {
        let (service, alias) = link.split_once(':').unwrap_or((link, link));
        for (_, name, number) in all.iter().filter(|it| it.0 == service) {
            named.push(format!("{name}:{alias}"));
            named.push(format!("{name}:{service}-{number}"));
            named.push(format!("{name}:{name}"));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    #[test]
    fn containers_stand_in_the_place_of_services() {
        let project = project(
            "services: {db: {image: a}, app: {image: a, network_mode: 'service:db', pid: host, ipc: 'service:db'}}",
        );
        let service = project.service("app").unwrap();
        let resolved = with_containers(service, |name| (name == "db").then(|| "7".to_owned()));
        let resolved = resolved.unwrap();
        let of = |key: &str| text(&resolved, key).to_owned();
        assert_eq!(
            [of("network_mode"), of("ipc"), of("pid")],
            ["container:7", "container:7", "host"]
        );
        assert_ne!(cais_compose::service_hash(&resolved), cais_compose::service_hash(service));
        let refused = with_containers(service, |_| None).unwrap_err();
        assert!(refused.message.contains("service db: container missing"), "{refused}");
    }

    #[test]
    fn volumes_are_taken_from_containers() {
        let project = project(
            "services: {db: {image: a}, app: {image: a, volumes_from: [db, 'db:ro', 'container:other']}}",
        );
        let service = project.service("app").unwrap();
        let resolved = with_containers(service, |_| Some("7".to_owned())).unwrap();
        let list = resolved.get("volumes_from").unwrap().as_list().unwrap();
        let list: Vec<&str> = list.iter().filter_map(Node::as_text).collect();
        assert_eq!(list, ["7", "7:ro", "other"]);
    }

    #[test]
    fn links_have_the_names_that_docker_compose_gives_them() {
        let all = [("db", "shop-db-1", 1), ("app", "shop-app-1", 1)];
        assert_eq!(
            links(&["db:store", "app"], &all),
            [
                "shop-db-1:store",
                "shop-db-1:db-1",
                "shop-db-1:shop-db-1",
                "shop-app-1:app",
                "shop-app-1:app-1",
                "shop-app-1:shop-app-1"
            ]
        );
    }
}
