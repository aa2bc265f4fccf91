//! Devices of CDI through Docker's door, limits of block devices, and what no driver brings.

use std::fs;
use std::path::Path;

use crate::compose::{Project, THEIRS, write};
use crate::docker::{Client, Docker, by_both_clients};
use crate::docker_containers::node;
use crate::node::Node;

by_both_clients! {
    devices_of_cdi_are_given_by_their_names,
    block_devices_have_limits,
}

async fn node_for(client: Client) -> (Node, Docker) {
    let (node, docker) = node().await;
    (node, docker.by(client))
}

/// Two devices that leave a variable each, and one a node.
fn describe(node: &Node) {
    let directory = node.home.join("cdi");
    fs::create_dir_all(&directory).unwrap();
    let text = r#"{"cdiVersion": "0.6.0", "kind": "vendor.example/gpu", "devices": [
        {"name": "a", "containerEdits": {"env": ["A=has"],
            "deviceNodes": [{"path": "/dev/vendor", "hostPath": "/dev/fuse", "permissions": "rw"}]}},
        {"name": "b", "containerEdits": {"env": ["B=has"]}}]}"#;
    fs::write(directory.join("vendor.json"), text).unwrap();
}

async fn devices_of_cdi_are_given_by_their_names(client: Client) {
    let (node, docker) = node_for(client).await;
    describe(&node);
    let script = "echo $A $B; test -c /dev/vendor && echo node";
    let run = ["run", "--rm", "--device", "vendor.example/gpu=a", "--device"];
    let words = ["vendor.example/gpu=b", "busybox", "sh", "-c", script];
    assert_eq!(docker.run(&[&run[..], &words].concat()).await, "has has\nnode");

    // It is described anew at each start.
    let words = ["--device", "vendor.example/gpu=b", "busybox", "sh", "-c", "echo $B"];
    docker.run(&[&["create", "--name", "later"], &words[..]].concat()).await;
    fs::write(node.home.join("cdi/vendor.json"), "{}").unwrap();
    let refused = docker.refused(&["start", "later"]).await;
    assert!(refused.contains("vendor.example/gpu=b"), "{refused}");
    describe(&node);
    assert_eq!(docker.run(&["start", "-a", "later"]).await, "has");
    docker.run(&["rm", "later"]).await;

    for (flag, lists) in [("all", "[[gpu]]"), ("capabilities=compute", "[[compute gpu]]")] {
        let done = docker.try_run(&["run", "--rm", "--gpus", flag, "busybox", "true"]).await;
        let expected = format!("could not select device driver \"\" with capabilities: {lists}");
        assert!(done.code == 125 && done.stderr.contains(&expected), "{done:?}");
    }
    assert_eq!(docker.run(&["ps", "-aq"]).await, "", "what is refused is not made");
}

/// A block device of this machine, and its numbers; a partition has no limit of its own.
fn block_device() -> (String, String) {
    let mut names: Vec<String> = fs::read_dir("/sys/block")
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new("/dev").join(name).exists())
        .collect();
    // One that nobody uses, if there is one.
    names.sort_by_key(|name| !name.starts_with("loop"));
    let name = names.first().expect("no machine is without a block device");
    let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap();
    (format!("/dev/{name}"), numbers.trim().to_owned())
}

/// The limits as the container's own group has them, whichever version it is.
const LIMITS: &str = "cd /sys/fs/cgroup; cat io.max 2>/dev/null || \
    for it in read_bps write_bps read_iops write_iops; do echo $it $(cat blkio/blkio.throttle.${it}_device); done";

/// What that shows of `MAJOR:MINOR` with 1 MiB read, 2 MiB written, 30 and 40 operations.
fn expected(numbers: &str) -> [String; 2] {
    [
        format!("{numbers} rbps=1048576 wbps=2097152 riops=30 wiops=40"),
        format!(
            "read_bps {numbers} 1048576\nwrite_bps {numbers} 2097152\nread_iops {numbers} 30\nwrite_iops {numbers} 40"
        ),
    ]
}

async fn block_devices_have_limits(client: Client) {
    let (_node, docker) = node_for(client).await;
    let (path, numbers) = block_device();
    let flags = [
        format!("--device-read-bps={path}:1mb"),
        format!("--device-write-bps={path}:2mb"),
        format!("--device-read-iops={path}:30"),
        format!("--device-write-iops={path}:40"),
    ];
    let mut words = vec!["run", "--rm"];
    words.extend(flags.iter().map(String::as_str));
    words.extend(["busybox", "sh", "-c", LIMITS]);
    let shown = docker.run(&words).await;
    assert!(expected(&numbers).contains(&shown), "{shown}");

    // Not every scheduler has weights: it is told that there is none, or there is one.
    let weight = format!("--blkio-weight-device={path}:200");
    let done = docker.try_run(&["create", &weight, "busybox"]).await;
    let is_without = done.stderr.contains("does not support Block I/O weight_device");
    assert_eq!(done.code, 0, "{done:?}");
    let inspected = docker.inspect(done.stdout.trim()).await;
    assert_eq!(inspected["HostConfig"]["BlkioWeightDevice"][0]["Weight"], 200);
    assert!(is_without || done.stderr.is_empty(), "{done:?}");
    docker.run(&["rm", done.stdout.trim()]).await;

    for (flag, why) in [
        ("--device-read-bps=/dev/no-such:1mb", "stat /dev/no-such: no such file or directory"),
        ("--device-read-bps=/dev/null:1mb", "those of block devices"),
        ("--storage-opt=size=1G", "--storage-opt is supported only for overlay over xfs"),
    ] {
        let refused = docker.refused(&["create", flag, "busybox"]).await;
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn compose_asks_for_the_same_devices_by_both_clients() {
    let (node, docker) = node().await;
    describe(&node);
    let (path, numbers) = block_device();
    let text = format!(
        r#"
services:
  web:
    image: busybox
    command: sh -c 'echo $$A $$B; exec sleep 1000'
    stop_signal: SIGKILL
    devices: [vendor.example/gpu=a, "/dev/fuse:/dev/other:rw"]
    deploy:
      resources:
        reservations:
          devices: [{{driver: cdi, device_ids: [vendor.example/gpu=b], capabilities: [gpu]}}]
    blkio_config:
      device_read_bps: [{{path: {path}, rate: 1mb}}]
      device_write_bps: [{{path: {path}, rate: 2mb}}]
      device_read_iops: [{{path: {path}, rate: 30}}]
      device_write_iops: [{{path: {path}, rate: 40}}]
"#
    );
    let project = Project::new(&docker, &text);
    let mut asked = Vec::new();
    for client in ["cais", THEIRS] {
        project.run(client, "", &["up", "-d", "--force-recreate"]).await;
        let exec = ["exec", "-T", "web", "sh", "-c", LIMITS];
        let shown = project.run(client, "", &exec).await;
        assert!(expected(&numbers).contains(&shown), "{client}: {shown}");
        let logs = project.run(client, "", &["logs", "--no-log-prefix"]).await;
        assert_eq!(logs.trim(), "has has", "{client}");
        let nodes = ["exec", "-T", "web", "ls", "/dev/vendor", "/dev/other"];
        assert_eq!(project.run(client, "", &nodes).await, "/dev/other\n/dev/vendor", "{client}");
        let id = project.id("shop-web-1").await;
        let host = docker.inspect(&id).await["HostConfig"].take();
        let members = ["Devices", "DeviceRequests", "BlkioDeviceReadBps", "BlkioDeviceWriteIOps"];
        asked.push(members.map(|it| without_nothing(&host[it])));
    }
    assert_eq!(asked[0], asked[1]);

    let whole = fs::read_to_string(project.path("compose.yaml")).unwrap();
    for (key, why) in [
        ("gpus: all", "could not select device driver \"\" with capabilities: [[gpu]]"),
        ("storage_opt: {size: 1G}", "--storage-opt is supported only for overlay over xfs"),
    ] {
        write(&project.path("compose.yaml"), &whole.replace("stop_signal: SIGKILL", key));
        for client in ["cais", THEIRS] {
            let done = project.done(client, "", &["up", "-d"]).await;
            assert!(done.code != 0 && done.stderr.contains(why), "{client}: {done:?}");
        }
    }
    write(&project.path("compose.yaml"), &whole);
    project.run("cais", "", &["down"]).await;
    project.is_gone().await;
}

/// One client leaves out what another says is empty.
fn without_nothing(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Array(items) => items.iter().map(without_nothing).collect(),
        Value::Object(members) => {
            let is_said = |it: &Value| {
                !matches!(it, Value::Null)
                    && *it != Value::from(0)
                    && *it != Value::from("")
                    && it.as_object().is_none_or(|it| !it.is_empty())
            };
            let said = members.iter().filter(|(_, it)| is_said(it));
            Value::Object(said.map(|(key, it)| (key.clone(), without_nothing(it))).collect())
        }
        other => other.clone(),
    }
}
