//! Short forms become long ones.

use crate::error::{Error, Result};
use crate::merge::{named, started};
use crate::node::{self, Map, Node, Value};
use crate::{mounts, ports};

/// Whether text that cannot be read is an error, or may be a variable that was left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Strict,
    Lenient,
}

type Form = fn(&mut Node, Reading) -> Result<()>;

const FORMS: &[(&str, Form)] = &[
    ("services.*.build", build),
    ("services.*.build.secrets.*", file),
    ("services.*.build.provenance", text),
    ("services.*.build.sbom", text),
    ("services.*.build.additional_contexts", pairs),
    ("services.*.build.ssh", ssh),
    ("services.*.build.ulimits.*", ulimit),
    ("services.*.depends_on", depends_on),
    ("services.*.env_file", env_files),
    ("services.*.label_file", list),
    ("services.*.extends", extends),
    ("services.*.gpus", gpus),
    ("services.*.networks", names),
    ("services.*.models", names),
    ("services.*.volumes.*", volume),
    ("services.*.dns", list),
    ("services.*.devices.*", device),
    ("services.*.secrets.*", file),
    ("services.*.configs.*", file),
    ("services.*.ports", port_list),
    ("services.*.ulimits.*", ulimit),
    ("services.*.develop.watch.*.ignore", list),
    ("services.*.develop.watch.*.include", list),
    ("volumes.*", external),
    ("networks.*", external),
    ("secrets.*", external),
    ("configs.*", external),
];

/// Rewrites what is below this node.
pub(crate) fn rewrite(node: &mut Node, path: &mut Vec<String>, reading: Reading) -> Result<()> {
    if let Some((_, form)) = FORMS.iter().find(|(pattern, _)| node::matches(path, pattern)) {
        let place = Node::new(Value::Null, &node.at);
        form(node, reading).map_err(|it| it.placed(&place, path))?;
    }
    node::each_child(node, path, |child, path| rewrite(child, path, reading))
}

/// The elements of `dns` that say nothing.
pub(crate) fn drop_empty(model: &mut Node) {
    let services = model.as_map_mut().and_then(|it| it.get_mut("services")?.as_map_mut());
    for service in services.into_iter().flat_map(Map::values_mut) {
        let dns = service.as_map_mut().and_then(|it| it.get_mut("dns")?.as_list_mut());
        if let Some(dns) = dns {
            dns.retain(|it| !it.is_null() && it.as_text() != Some(""));
        }
    }
}

fn single(node: &Node, key: &str, value: Node) -> Node {
    node.with(Value::Map(Map::from([(key.to_owned(), value)])))
}

fn unexpected(node: &Node) -> Error {
    Error::new(format!("unexpected: {}", node.kind()))
}

fn build(node: &mut Node, _: Reading) -> Result<()> {
    match node.value {
        Value::Text(_) => *node = single(node, "context", node.clone()),
        Value::Map(_) => {}
        _ => return Err(unexpected(node)),
    }
    Ok(())
}

fn extends(node: &mut Node, _: Reading) -> Result<()> {
    if node.as_text().is_some() {
        *node = single(node, "service", node.clone());
    }
    Ok(())
}

fn file(node: &mut Node, _: Reading) -> Result<()> {
    match node.value {
        Value::Text(_) => *node = single(node, "source", node.clone()),
        Value::Map(_) => {}
        _ => return Err(unexpected(node)),
    }
    Ok(())
}

fn text(node: &mut Node, _: Reading) -> Result<()> {
    node.value = Value::Text(node.shown());
    Ok(())
}

fn pairs(node: &mut Node, reading: Reading) -> Result<()> {
    let Some(list) = node.as_list() else { return Ok(()) };
    let mut map = Map::new();
    for item in list {
        match item.as_text().and_then(|it| it.split_once('=')) {
            Some((key, value)) => {
                map.insert(key.to_owned(), item.with(Value::Text(value.to_owned())));
            }
            None if reading == Reading::Lenient => return Ok(()),
            None => {
                let message = format!("invalid value {}, expected key=value", item.shown());
                return Err(Error::new(message));
            }
        }
    }
    node.value = Value::Map(map);
    Ok(())
}

fn ssh(node: &mut Node, _: Reading) -> Result<()> {
    let Some(list) = node.as_list() else { return Ok(()) };
    let mut map = Map::new();
    for item in list {
        let key = item.as_text().ok_or_else(|| unexpected(item))?;
        match key.split_once('=') {
            Some((id, path)) => map.insert(id.to_owned(), item.with(Value::Text(path.to_owned()))),
            None if key == "default" => map.insert(key.to_owned(), item.with(Value::Null)),
            None => return Err(Error::new(format!("invalid ssh key {key:?}"))),
        };
    }
    node.value = Value::Map(map);
    Ok(())
}

fn depends_on(node: &mut Node, _: Reading) -> Result<()> {
    *node = named(node.clone(), started);
    let Some(map) = node.as_map_mut() else { return Err(unexpected(node)) };
    for dependency in map.values_mut() {
        let Some(map) = dependency.as_map_mut() else { return Err(unexpected(dependency)) };
        map.entry("condition".to_owned()).or_insert_with(|| Node::text("service_started"));
        map.entry("required".to_owned()).or_insert_with(|| Value::Bool(true).into());
    }
    Ok(())
}

fn env_files(node: &mut Node, _: Reading) -> Result<()> {
    list(node, Reading::Strict)?;
    let Some(files) = node.as_list_mut() else { return Err(unexpected(node)) };
    for file in files {
        if file.as_text().is_some() {
            *file = single(file, "path", file.clone());
        }
        let Some(map) = file.as_map_mut() else { return Err(unexpected(file)) };
        map.entry("required".to_owned()).or_insert_with(|| Value::Bool(true).into());
    }
    Ok(())
}

fn list(node: &mut Node, _: Reading) -> Result<()> {
    if node.as_text().is_some() {
        *node = node.with(Value::List(vec![node.clone()]));
    }
    Ok(())
}

fn names(node: &mut Node, _: Reading) -> Result<()> {
    *node = named(node.clone(), || Value::Null);
    Ok(())
}

fn gpus(node: &mut Node, _: Reading) -> Result<()> {
    if node.as_text().is_some() {
        let all = single(node, "count", Node::text("all"));
        *node = node.with(Value::List(vec![all]));
    }
    Ok(())
}

fn volume(node: &mut Node, reading: Reading) -> Result<()> {
    let Some(text) = node.as_text() else { return Ok(()) };
    match mounts::parse(text) {
        Ok(mount) => node.value = Value::Map(mount.into_map()),
        Err(error) if reading == Reading::Strict => return Err(error),
        Err(_) => {}
    }
    Ok(())
}

fn device(node: &mut Node, reading: Reading) -> Result<()> {
    let Some(text) = node.as_text() else { return Ok(()) };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, target] => (source, target, "rwm"),
        [source, target, permissions] => (source, target, permissions),
        _ if reading == Reading::Lenient => ("", "", "rwm"),
        _ => {
            let message = format!("confusing device mapping, please use long syntax: {text}");
            return Err(Error::new(message));
        }
    };
    let target = if target.is_empty() { source } else { target };
    let members = [("source", source), ("target", target), ("permissions", permissions)];
    let members =
        members.map(|(key, value)| (key.to_owned(), node.with(Value::Text(value.to_owned()))));
    node.value = Value::Map(Map::from(members));
    Ok(())
}

fn port_list(node: &mut Node, reading: Reading) -> Result<()> {
    let Some(list) = node.as_list() else { return Err(unexpected(node)) };
    let mut long = Vec::with_capacity(list.len());
    for port in list {
        match &port.value {
            Value::Map(_) => long.push(port.clone()),
            Value::Int(_) | Value::Text(_) => match ports::parse(&port.shown()) {
                Ok(parsed) => long.extend(parsed.into_iter().map(|it| port.with(Value::Map(it)))),
                Err(_) if reading == Reading::Lenient => return Ok(()),
                Err(error) => return Err(error.placed(port, &[])),
            },
            _ => return Err(unexpected(port)),
        }
    }
    node.value = Value::List(long);
    Ok(())
}

fn ulimit(node: &mut Node, _: Reading) -> Result<()> {
    match node.value {
        Value::Map(_) | Value::Int(_) => Ok(()),
        _ => Err(unexpected(node)),
    }
}

/// `external: {name: NAME}`, as files before version 3.5 had it.
fn external(node: &mut Node, _: Reading) -> Result<()> {
    let Some(map) = node.as_map_mut() else { return Ok(()) };
    let Some(external) = map.get("external").filter(|it| it.as_map().is_some()).cloned() else {
        return Ok(());
    };
    map.insert("external".to_owned(), external.with(Value::Bool(true)));
    if let Some(name) = external.get("name") {
        let known = map.entry("name".to_owned()).or_insert_with(|| name.clone());
        if known != name {
            return Err(Error::new("name and external.name conflict; only use name"));
        }
    }
    Ok(())
}
