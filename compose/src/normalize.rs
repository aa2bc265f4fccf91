//! What a model implies: the network that every service is on, dependencies that other keys speak of, names.

use crate::dotenv::Variables;
use crate::node::{Map, Node, Value};

/// Makes explicit what the model of this project implies.
pub(crate) fn apply(model: &mut Map, project: &str, environment: &Variables) {
    networks(model);
    for service in members(model, "services") {
        if let Some(service) = service.as_map_mut() {
            one(service, environment);
        }
    }
    for kind in ["networks", "volumes", "configs", "secrets"] {
        let Some(resources) = model.get_mut(kind).and_then(Node::as_map_mut) else { continue };
        for (key, resource) in resources {
            if resource.is_null() {
                resource.value = Value::Map(Map::new());
            }
            let Some(resource) = resource.as_map_mut() else { continue };
            if resource.get("name").is_none_or(Node::is_null) {
                let is_external = resource.get("external").is_some_and(|it| {
                    matches!(it.shown().as_str(), "1" | "t" | "T" | "TRUE" | "true" | "True")
                });
                let name = if is_external { key.clone() } else { format!("{project}_{key}") };
                resource.insert("name".to_owned(), Node::text(name));
            }
        }
    }
}

fn members<'m>(model: &'m mut Map, key: &str) -> impl Iterator<Item = &'m mut Node> {
    model.get_mut(key).and_then(Node::as_map_mut).into_iter().flat_map(Map::values_mut)
}

fn networks(model: &mut Map) {
    let default = || Map::from([("default".to_owned(), Value::Null.into())]);
    let mut uses_default = false;
    for service in members(model, "services") {
        let Some(service) = service.as_map_mut() else { continue };
        if service.contains_key("provider") || service.contains_key("network_mode") {
            continue;
        }
        let networks = service.entry("networks".to_owned()).or_insert_with(|| Value::Null.into());
        if networks.as_map().is_none_or(Map::is_empty) {
            networks.value = Value::Map(default());
        }
        uses_default |= networks.get("default").is_some();
    }
    if uses_default {
        let networks =
            model.entry("networks".to_owned()).or_insert_with(|| Value::Map(Map::new()).into());
        if let Some(networks) = networks.as_map_mut() {
            networks.entry("default".to_owned()).or_insert_with(|| Value::Null.into());
        }
    }
}

fn one(service: &mut Map, environment: &Variables) {
    if let Some(policy) = service.get_mut("pull_policy")
        && policy.as_text() == Some("if_not_present")
    {
        policy.value = Value::Text("missing".to_owned());
    }
    if let Some(build) = service.get_mut("build").and_then(Node::as_map_mut) {
        build.entry("context".to_owned()).or_insert_with(|| Node::text("."));
        if !build.contains_key("dockerfile_inline") {
            build.entry("dockerfile".to_owned()).or_insert_with(|| Node::text("Dockerfile"));
        }
        if let Some(arguments) = build.get_mut("args") {
            filled(arguments, environment, Unset::Dropped);
        }
    }
    if let Some(variables) = service.get_mut("environment") {
        filled(variables, environment, Unset::Kept);
    }
    implied(service);
    let volumes = service.get_mut("volumes").and_then(Node::as_list_mut);
    for volume in volumes.into_iter().flatten() {
        if let Some(target) = volume.as_map_mut().and_then(|it| it.get_mut("target"))
            && let Some(path) = target.as_text()
        {
            target.value = Value::Text(crate::mounts::clean(path));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unset {
    Kept,
    Dropped,
}

/// Gives keys without a value the environment's.
fn filled(node: &mut Node, environment: &Variables, unset: Unset) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, value) in map.iter_mut().filter(|(_, value)| value.is_null()) {
                if let Some(known) = environment.get(key) {
                    value.value = Value::Text(known.clone());
                }
            }
            map.retain(|_, value| unset == Unset::Kept || !value.is_null());
        }
        Value::List(list) => {
            for item in list.iter_mut() {
                if let Some(key) = item.as_text()
                    && let Some(known) = environment.get(key)
                {
                    item.value = Value::Text(format!("{key}={known}"));
                }
            }
            list.retain(|it| {
                unset == Unset::Kept || it.as_text().is_none_or(|it| it.contains('='))
            });
        }
        _ => {}
    }
}

/// Dependencies that follow from links, shared namespaces and shared volumes.
fn implied(service: &mut Map) {
    let mut implied: Vec<(String, bool)> = Vec::new();
    let texts = |key: &str| {
        let list = service.get(key).and_then(Node::as_list).unwrap_or_default();
        list.iter().filter_map(|it| it.as_text().map(str::to_owned)).collect::<Vec<_>>()
    };
    for link in texts("links") {
        let parts: Vec<&str> = link.split(':').collect();
        let name = if parts.len() == 2 { parts[0] } else { &link };
        implied.push((name.to_owned(), true));
    }
    for namespace in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let shared = service.get(namespace).and_then(Node::as_text);
        if let Some(name) = shared.and_then(|it| it.strip_prefix("service:")) {
            implied.push((name.to_owned(), true));
        }
    }
    for volumes in texts("volumes_from") {
        if !volumes.starts_with("container:") {
            let name = volumes.split(':').next().unwrap_or_default();
            implied.push((name.to_owned(), false));
        }
    }
    if implied.is_empty() {
        return;
    }
    let depends_on =
        service.entry("depends_on".to_owned()).or_insert_with(|| Value::Map(Map::new()).into());
    let Some(depends_on) = depends_on.as_map_mut() else { return };
    for (name, restart) in implied {
        depends_on.entry(name).or_insert_with(|| {
            let dependency = Map::from([
                ("condition".to_owned(), Node::text("service_started")),
                ("restart".to_owned(), Value::Bool(restart).into()),
                ("required".to_owned(), Value::Bool(true).into()),
            ]);
            Value::Map(dependency).into()
        });
    }
}
