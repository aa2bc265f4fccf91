//! What a model has where its files say nothing, and a few things that no table of keys can check.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::node::{self, Map, Node, Value};

type Act = fn(&mut Map);

const DEFAULTS: &[(&str, Act)] = &[
    ("services.*.build", |build| set(build, "context", Node::text("."))),
    ("services.*.secrets.*", |secret| {
        let source = secret.get("source").map_or_else(|| "<nil>".to_owned(), Node::shown);
        set(secret, "target", Node::text(format!("/run/secrets/{source}")));
    }),
    ("services.*.ports.*", |port| {
        set(port, "protocol", Node::text("tcp"));
        set(port, "mode", Node::text("ingress"));
    }),
    ("services.*.deploy.resources.reservations.devices.*", all_devices),
    ("services.*.gpus.*", all_devices),
];

fn set(map: &mut Map, key: &str, value: Node) {
    map.entry(key.to_owned()).or_insert(value);
}

fn all_devices(device: &mut Map) {
    if !device.contains_key("device_ids") {
        set(device, "count", Node::text("all"));
    }
}

pub(crate) fn apply(node: &mut Node, path: &mut Vec<String>) {
    let found = DEFAULTS.iter().find(|(pattern, _)| node::matches(path, pattern));
    if let (Some((_, act)), Some(map)) = (found, node.as_map_mut()) {
        act(map);
        return;
    }
    let done: std::result::Result<(), ()> = node::each_child(node, path, |child, path| {
        apply(child, path);
        Ok(())
    });
    debug_assert!(done.is_ok());
}

type Check = fn(&Node) -> std::result::Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("volumes.*", external_alone),
    ("configs.*", |it| one_of(it, &["file", "environment", "content"])),
    ("secrets.*", |it| one_of(it, &["file", "environment"])),
    ("services.*.ports.*", address),
    ("services.*.develop.watch.*.path", |it| match it.as_text() {
        Some("") => Err("value can't be blank".to_owned()),
        _ => Ok(()),
    }),
    ("services.*.deploy.resources.reservations.devices.*", count_or_ids),
    ("services.*.gpus.*", count_or_ids),
];

pub(crate) fn check(node: &Node, path: &mut Vec<String>) -> Result<()> {
    if let Some((_, check)) = CHECKS.iter().find(|(pattern, _)| node::matches(path, pattern)) {
        return check(node).map_err(|message| Error::at(node, path, message));
    }
    let members: Vec<(&str, &Node)> = match &node.value {
        Value::Map(map) => map.iter().map(|(key, it)| (key.as_str(), it)).collect(),
        Value::List(list) => list.iter().map(|it| ("[]", it)).collect(),
        _ => return Ok(()),
    };
    for (key, member) in members {
        path.push(key.to_owned());
        check(member, path)?;
        path.pop();
    }
    Ok(())
}

fn external_alone(volume: &Node) -> std::result::Result<(), String> {
    let is_external = volume.get("external").and_then(Node::as_bool) == Some(true);
    let other = volume.as_map().into_iter().flatten().map(|(key, _)| key);
    let mut other =
        other.filter(|key| !matches!(key.as_str(), "name" | "external") && !key.starts_with("x-"));
    match other.next() {
        Some(key) if is_external => {
            Err(format!("conflicting parameters \"external\" and {key:?} specified"))
        }
        _ => Ok(()),
    }
}

fn one_of(object: &Node, keys: &[&str]) -> std::result::Result<(), String> {
    match keys.iter().filter(|key| object.get(key).is_some()).count() {
        0 if object.get("driver").is_none() && object.get("external").is_none() => {
            Err(format!("one of {} must be set", keys.join("|")))
        }
        0 | 1 => Ok(()),
        _ => Err(format!("{} attributes are mutually exclusive", keys.join("|"))),
    }
}

fn address(port: &Node) -> std::result::Result<(), String> {
    match port.get("host_ip").and_then(Node::as_text) {
        Some(text) if text.parse::<IpAddr>().is_err() => Err(format!("invalid ip address: {text}")),
        _ => Ok(()),
    }
}

fn count_or_ids(device: &Node) -> std::result::Result<(), String> {
    match (device.get("count"), device.get("device_ids")) {
        (Some(_), Some(_)) => {
            Err("\"count\" and \"device_ids\" attributes are exclusive".to_owned())
        }
        _ => Ok(()),
    }
}
