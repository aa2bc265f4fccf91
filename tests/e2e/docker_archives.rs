//! Several images in one archive, as docker's client and ours save and load it, and as others read it.

use std::process::Command;

use serde_json::Value;

use crate::docker::{Client, Docker, by_both_clients};
use crate::docker_containers::node;
use crate::node::Node;

by_both_clients!(several_images_travel_in_one_archive);

const NAMES: [&str; 3] = ["mine:v1", "mine:v2", "other:v1"];

async fn several_images_travel_in_one_archive(client: Client) {
    let (node, docker) = node().await;
    let docker = docker.by(client);
    for (base, name) in [("busybox", NAMES[0]), (NAMES[0], NAMES[1]), ("busybox", NAMES[2])] {
        let script = format!("echo {name} >> /names");
        docker.run(&["run", "--name", "one", base, "sh", "-c", &script]).await;
        docker.run(&["commit", "one", name]).await;
        docker.run(&["rm", "one"]).await;
    }
    docker.run(&["create", "--name", "one", "busybox"]).await;
    let nameless = docker.run(&["commit", "-c", "LABEL a=b", "one"]).await;
    docker.run(&["rm", "one"]).await;

    // A repository stands for all its tags.
    let save = async |file: &str, images: &[&str]| {
        let file = node.home.join(file);
        docker.run(&[&["save", "-o", file.to_str().unwrap()], images].concat()).await;
    };
    save("all.tar", &["mine", "other:v1", &nameless]).await;
    let (amd64, arm64) = ("--platform=linux/amd64", "--platform=linux/arm64");
    let own = if cfg!(target_arch = "x86_64") { [amd64, arm64] } else { [arm64, amd64] };
    save("own.tar", &[own[0], "other:v1"]).await;
    let path = node.home.join("own.tar");
    let path = path.to_str().unwrap();
    for words in [&["save", "-o", path, own[1], "other:v1"][..], &["load", "-i", path, own[1]]] {
        let refused = docker.refused(words).await;
        assert!(refused.contains("linux/"), "{refused}");
    }

    let manifest: Value =
        serde_json::from_str(&sh(&node, "tar -xOf all.tar manifest.json")).unwrap();
    assert_eq!(manifest.as_array().unwrap().len(), 4, "{manifest}");
    for name in NAMES {
        let text = sh(&node, &format!("skopeo inspect --config docker-archive:all.tar:{name}"));
        let config: Value = serde_json::from_str(&text).unwrap();
        let layers = docker.inspect(name).await["RootFS"]["Layers"].as_array().unwrap().len();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers, "{name}");
    }

    let ids = load(&node, &docker, "all.tar").await;
    for (name, names) in NAMES.iter().zip(["mine:v1", "mine:v1\nmine:v2", "other:v1"]) {
        assert_eq!(docker.run(&["run", "--rm", name, "cat", "/names"]).await, names);
    }
    assert_eq!(docker.inspect(&ids[3]).await["Config"]["Labels"]["a"], "b");

    for (form, script) in [
        ("an OCI layout alone", "rm manifest.json"),
        ("docker's alone", "rm -r index.json oci-layout"),
        (
            "that of older ones",
            "rm -r index.json oci-layout; sed -i 's,blobs/sha256/\\([0-9a-f]*\\),\\1/layer.tar,g' manifest.json
             for it in blobs/sha256/*; do mkdir ${it##*/}; mv $it ${it##*/}/layer.tar; done",
        ),
    ] {
        sh(&node, &format!("rm -rf x; mkdir x; tar -C x -xf all.tar; (cd x; {script}); tar -C x -cf form.tar ."));
        assert_eq!(load(&node, &docker, "form.tar").await, ids, "{form}");
    }
}

/// Loads all four in the place of all that is there; their ids, the one without a name last.
async fn load(node: &Node, docker: &Docker, file: &str) -> Vec<String> {
    let there = docker.run(&["images", "-aq", "--no-trunc"]).await;
    let there: Vec<&str> = there.lines().collect();
    docker.run(&[&["rmi", "-f"], &there[..]].concat()).await;
    assert_eq!(docker.run(&["images", "-aq"]).await, "");
    let said = docker.run(&["load", "-i", node.home.join(file).to_str().unwrap()]).await;
    let mut named: Vec<&str> =
        said.lines().filter_map(|it| it.strip_prefix("Loaded image: ")).collect();
    named.sort_unstable();
    assert_eq!(named, NAMES, "{said}");
    let mut ids = Vec::new();
    for name in NAMES {
        ids.push(docker.inspect(name).await["Id"].as_str().unwrap().to_owned());
    }
    ids.extend(
        said.lines().filter_map(|it| it.strip_prefix("Loaded image ID: ")).map(str::to_owned),
    );
    assert_eq!(ids.len(), 4, "{said}");
    ids
}

fn sh(node: &Node, script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).current_dir(&node.home).output().unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}
