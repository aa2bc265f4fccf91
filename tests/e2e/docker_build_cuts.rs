//! What was just built, when the daemon is killed before it is on the disk, and when the machine is.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::docker::Docker;
use crate::docker_build::{Context, build};
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::until;

const DOCKERFILE: &str = "FROM busybox\n\
    RUN head -c 50000000 /dev/urandom > /data && sha256sum /data > /sum\n\
    RUN echo last > /last\n";

async fn is_whole(docker: &Docker) {
    let words = ["run", "--rm", "built", "sh", "-c", "sha256sum -c /sum && cat /last"];
    assert_eq!(docker.run(&words).await, "/data: OK\nlast");
}

fn below(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What the next boot finds of an image, and of its own layers, that the disk did not have yet.
fn forget_in_the_next_boot(node: &Node, id: &str, layers: &[PathBuf]) {
    let record =
        node.home.join(format!("root/images/images/{}.json", id.trim_start_matches("sha256:")));
    for path in layers.iter().map(|layer| layer.join("meta.json")).chain([record]) {
        let mut document = read(&path);
        document["unsynced"] = json!("00000000-0000-4000-8000-000000000000");
        fs::write(&path, document.to_string()).unwrap();
    }
}

#[tokio::test]
async fn what_was_built_survives_a_kill_of_the_daemon_at_once() {
    let (node, docker) = node().await;
    let context = Context::new(&node, "context", &[("Dockerfile", DOCKERFILE)]);
    build(&docker, &context, &["-t", "built"]).await;
    let id = docker.inspect("built").await["Id"].clone();
    node.restart().await;
    assert_eq!(docker.inspect("built").await["Id"], id);
    is_whole(&docker).await;
    let again = build(&docker, &context, &["-t", "again"]).await;
    assert_eq!(again.matches("Using cache").count(), 2, "{again}");
    assert_eq!(docker.inspect("again").await["Id"], id);
    // Nobody waits for it, and it is on the disk before long.
    let records = node.home.join("root/images/images");
    let is_written = async || below(&records).iter().all(|path| read(path)["unsynced"].is_null());
    until("the image to be on the disk", is_written).await;
}

#[tokio::test]
async fn what_was_not_on_the_disk_is_gone_whole_after_a_power_cut_and_is_made_again() {
    let (node, docker) = node().await;
    let layers = node.home.join("root/images/layers");
    let before = below(&layers);
    let context = Context::new(&node, "context", &[("Dockerfile", DOCKERFILE)]);
    build(&docker, &context, &["-t", "built"]).await;
    docker.run(&["create", "--name", "on-it", "built", "true"]).await;
    let id = docker.inspect("built").await["Id"].as_str().unwrap().to_owned();
    node.kill();
    let mut own = below(&layers);
    own.retain(|layer| !before.contains(layer));
    assert_eq!(own.len(), 2);
    forget_in_the_next_boot(&node, &id, &own);

    node.start().await;
    let said = docker.refused(&["image", "inspect", "built"]).await;
    assert!(said.contains("No such image"), "{said}");
    assert!(own.iter().all(|layer| !layer.exists()));
    let aside = below(&node.home.join("root/images/images"));
    assert!(aside.iter().all(|path| path.extension().unwrap() == "json"), "{aside:?}");
    // What stood on it cannot run, and can be removed.
    docker.refused(&["start", "on-it"]).await;
    docker.run(&["rm", "on-it"]).await;
    assert_eq!(docker.run(&["run", "--rm", "busybox", "echo", "works"]).await, "works");
    let again = build(&docker, &context, &["-t", "built"]).await;
    assert_eq!(again.matches("Using cache").count(), 0, "{again}");
    is_whole(&docker).await;
}
