//! Devices of a service: nodes, those that a driver brings, and limits of block devices.

use cais_compose::Node;
use serde_json::{Map, Value as Json, json};

use super::body::plain;
use super::resources::{strings, text};
use crate::create::values::is_of_cdi;

/// The members of a body's `HostConfig` that are about devices.
pub(super) fn members(service: &Node) -> Map<String, Json> {
    let mut host = Map::new();
    block_limits(service, &mut host);
    let reserved = service.get("deploy").and_then(|it| it.get("resources")?.get("reservations"));
    let reserved = reserved.and_then(|it| it.get("devices")?.as_list()).unwrap_or_default();
    let mut requests: Vec<Json> =
        reserved.iter().map(|it| request(it, &capabilities(it).collect::<Vec<_>>())).collect();
    let list = |key: &str| service.get(key).and_then(Node::as_list).unwrap_or_default();
    let is_cdi =
        |it: &&Node| text(it, "source") == text(it, "target") && is_of_cdi(text(it, "source"));
    let (named, nodes): (Vec<&Node>, Vec<&Node>) = list("devices").iter().partition(is_cdi);
    if !named.is_empty() {
        let names: Vec<&str> = named.into_iter().map(|it| text(it, "source")).collect();
        requests.push(json!({ "Driver": "cdi", "DeviceIDs": names }));
    }
    let gpu = |it: &Node| request(it, &capabilities(it).chain(["gpu"]).collect::<Vec<_>>());
    requests.extend(list("gpus").iter().map(gpu));
    let node = |it: &Node| {
        json!({
            "PathOnHost": text(it, "source"),
            "PathInContainer": text(it, "target"),
            "CgroupPermissions": text(it, "permissions"),
        })
    };
    host.insert("Devices".to_owned(), nodes.into_iter().map(node).collect());
    host.insert("DeviceRequests".to_owned(), requests.into());
    host
}

fn capabilities(request: &Node) -> impl Iterator<Item = &str> {
    let list = request.get("capabilities").and_then(Node::as_list).unwrap_or_default();
    list.iter().filter_map(Node::as_text)
}

fn request(node: &Node, capabilities: &[&str]) -> Json {
    json!({
        "Driver": text(node, "driver"),
        "Count": node.get("count").and_then(Node::as_int).unwrap_or(0),
        "DeviceIDs": node.get("device_ids").map_or(Json::Null, plain),
        "Capabilities": [capabilities],
        "Options": strings(node.get("options")),
    })
}

fn block_limits(service: &Node, host: &mut Map<String, Json>) {
    let Some(config) = service.get("blkio_config") else { return };
    if let Some(weight) = config.get("weight") {
        host.insert("BlkioWeight".to_owned(), plain(weight));
    }
    for (key, member, value, named) in [
        ("weight_device", "BlkioWeightDevice", "weight", "Weight"),
        ("device_read_bps", "BlkioDeviceReadBps", "rate", "Rate"),
        ("device_read_iops", "BlkioDeviceReadIOps", "rate", "Rate"),
        ("device_write_bps", "BlkioDeviceWriteBps", "rate", "Rate"),
        ("device_write_iops", "BlkioDeviceWriteIOps", "rate", "Rate"),
    ] {
        let devices = config.get(key).and_then(Node::as_list).unwrap_or_default();
        let device = |it: &Node| {
            let number = it.get(value).and_then(Node::as_int).unwrap_or(0);
            json!({ "Path": text(it, "path"), named: number })
        };
        if !devices.is_empty() {
            host.insert(member.to_owned(), devices.iter().map(device).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    fn of(service: &str) -> Json {
        let project = project(&format!("services: {{web: {service}}}"));
        members(project.service("web").unwrap()).into()
    }

    #[test]
    fn what_drivers_bring_is_asked_for_as_docker_compose_does() {
        let made = of(
            "{image: a, gpus: all, devices: [vendor.com/gpu=x, '/dev/fuse:/dev/fuse:r'], deploy: {resources: {reservations:
             {devices: [{driver: cdi, device_ids: [v.com/c=y], capabilities: [gpu], options: {a: b}}]}}}}",
        );
        let request = |driver: &str, count: i64, ids: Json, options: Json| {
            json!({
                "Driver": driver, "Count": count, "DeviceIDs": ids, "Capabilities": [["gpu"]], "Options": options,
            })
        };
        let expected = json!([
            request("cdi", 0, json!(["v.com/c=y"]), json!({ "a": "b" })),
            { "Driver": "cdi", "DeviceIDs": ["vendor.com/gpu=x"] },
            request("", -1, Json::Null, json!({})),
        ]);
        assert_eq!(made["DeviceRequests"], expected);
        assert_eq!(made["Devices"].as_array().unwrap().len(), 1);
        assert_eq!(made["Devices"][0]["CgroupPermissions"], "r");
    }

    #[test]
    fn block_devices_have_their_limits() {
        let made = of(
            "{image: a, blkio_config: {weight: 30, weight_device: [{path: /dev/a, weight: 200}],
             device_read_bps: [{path: /dev/a, rate: 12mb}], device_write_iops: [{path: /dev/b, rate: 30}]}}",
        );
        assert_eq!(made["BlkioWeight"], 30);
        assert_eq!(made["BlkioWeightDevice"], json!([{ "Path": "/dev/a", "Weight": 200 }]));
        assert_eq!(made["BlkioDeviceReadBps"], json!([{ "Path": "/dev/a", "Rate": 12 << 20 }]));
        assert_eq!(made["BlkioDeviceWriteIOps"], json!([{ "Path": "/dev/b", "Rate": 30 }]));
        assert_eq!(of("{image: a}")["BlkioWeight"], Json::Null);
    }
}
