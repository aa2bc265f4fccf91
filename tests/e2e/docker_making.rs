//! Images that are made or carried by the docker client: commit, import, save and load.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::wait::until;

/// A container that changed something.
async fn changed(docker: &Docker) {
    let script =
        "echo new > /new; rm /etc/group; chown 5:6 /new; mkdir /tmp/d; ln /new /tmp/d/same";
    docker.run(&["run", "--name", "one", "-e", "A=1", "busybox", "sh", "-c", script]).await;
}

fn names(root: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// What of an image stays the same wherever it is carried.
async fn shape(docker: &Docker, name: &str) -> Value {
    let image = docker.inspect(name).await;
    json!([image["Config"], image["Architecture"], image["Os"], image["Created"]])
}

#[tokio::test]
async fn docker_commit_makes_an_image_of_a_container() {
    let (_node, docker) = node().await;
    changed(&docker).await;
    let words = [
        "commit",
        "-m",
        "why",
        "-a",
        "me",
        "-c",
        "CMD [\"cat\", \"/new\"]",
        "-c",
        "ENV B=\"2 3\"",
        "-c",
        "LABEL a=b",
        "-c",
        "WORKDIR /tmp",
        "-c",
        "EXPOSE 80",
        "one",
        "mine:v1",
    ];
    let id = docker.run(&words).await;
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(docker.run(&["run", "--rm", "mine:v1"]).await, "new");
    let script = "stat -c '%u:%g %h' /new; [ ! -e /etc/group ] && echo $A $B && pwd";
    let seen = docker.run(&["run", "--rm", "mine:v1", "sh", "-c", script]).await;
    assert_eq!(seen, "5:6 2\n1 2 3\n/tmp");
    let image = docker.inspect("mine:v1").await;
    assert_eq!(image["Id"], id.as_str());
    assert_eq!((&image["Comment"], &image["Author"]), (&json!("why"), &json!("me")));
    assert_eq!(image["Config"]["Labels"], json!({ "a": "b" }));
    assert_eq!(image["Config"]["ExposedPorts"], json!({ "80/tcp": {} }));
    let base = docker.inspect("busybox").await["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), base + 1);
    let steps = docker.run(&["history", "-q", "mine:v1"]).await;
    assert_eq!(steps.lines().count(), base + 1);

    // Of one that runs, and goes on after it; and without a name.
    docker
        .run(&["run", "-d", "--name", "up", "busybox", "sh", "-c", "echo up > /up; sleep 1000"])
        .await;
    until("the file", async || {
        docker.try_run(&["exec", "up", "test", "-s", "/up"]).await.code == 0
    })
    .await;
    let id = docker.run(&["commit", "up"]).await;
    assert_eq!(docker.run(&["exec", "up", "cat", "/up"]).await, "up");
    assert_eq!(docker.run(&["run", "--rm", &id, "cat", "/up"]).await, "up");
    assert_eq!(docker.inspect("up").await["State"]["Status"], "running");
    for (words, why) in [
        (&["commit", "-c", "RUN x", "one"][..], "RUN is not a valid change command"),
        (&["commit", "nobody"], "No such container: nobody"),
    ] {
        assert!(docker.refused(words).await.contains(why), "{words:?}");
    }
    docker.run(&["rm", "-f", "one", "up"]).await;
}

#[tokio::test]
async fn docker_import_makes_an_image_of_a_tree() {
    let (node, docker) = node().await;
    changed(&docker).await;
    let file = node.home.join("tree.tar");
    let path = file.to_str().unwrap();
    docker.run(&["export", "-o", path, "one"]).await;
    let words = ["import", "-m", "a tree", "-c", "CMD cat /new", path, "cais/tree:v1"];
    let id = docker.run(&words).await;
    assert_eq!(docker.inspect("cais/tree:v1").await["Id"], id.as_str());
    assert_eq!(docker.run(&["run", "--rm", "cais/tree:v1"]).await, "new");
    assert_eq!(docker.inspect(&id).await["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    docker.run(&["rm", "one"]).await;

    let before = names(&node.home.join("root/images/layers"));
    fs::write(&file, "no archive".repeat(200)).unwrap();
    docker.refused(&["import", path]).await;
    // Who hangs up has made nothing.
    let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
    let head = "POST /images/create?fromSrc=- HTTP/1.1\r\nHost: d\r\nContent-Length: 9999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[0; 512]).await.unwrap();
    drop(stream);
    let ingest = node.home.join("root/images/ingest");
    until("nothing to be left", async || names(&ingest).is_empty()).await;
    assert_eq!(names(&node.home.join("root/images/layers")), before);
}

#[tokio::test]
async fn docker_save_and_load_carry_images() {
    let (node, docker) = node().await;
    docker.run(&["pull", "-q", "cais/summed"]).await;
    changed(&docker).await;
    docker.run(&["commit", "one", "mine:v1"]).await;
    docker.run(&["rm", "one"]).await;
    docker.run(&["tag", "mine:v1", "localhost:5000/mine:v2"]).await;
    let file = node.home.join("images.tar");
    let path = file.to_str().unwrap();
    let (mine, summed) = (shape(&docker, "mine:v1").await, shape(&docker, "cais/summed").await);
    let words = ["save", "-o", path, "mine:v1", "localhost:5000/mine:v2", "cais/summed"];
    docker.run(&words).await;
    let listed = std::process::Command::new("tar").args(["-tf", path]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in ["oci-layout", "index.json", "manifest.json", "blobs/sha256/"] {
        assert!(listed.contains(name), "{listed}");
    }
    docker.run(&["rmi", "-f", "mine:v1", "localhost:5000/mine:v2", "cais/summed", "busybox"]).await;
    assert_eq!(docker.run(&["images", "-q"]).await, "");

    let said = docker.run(&["load", "-i", path]).await;
    for name in ["mine:v1", "localhost:5000/mine:v2", "cais/summed:latest"] {
        assert!(said.contains(&format!("Loaded image: {name}")), "{said}");
    }
    assert_eq!(shape(&docker, "mine:v1").await, mine);
    assert_eq!(shape(&docker, "cais/summed").await, summed);
    assert_eq!(
        docker.run(&["run", "--rm", "mine:v1", "stat", "-c", "%u:%g %h", "/new"]).await,
        "5:6 2"
    );
    let script =
        "for d in /summed/*; do cd $d && sha256sum -c sums >/dev/null || exit 1; done; echo whole";
    assert_eq!(docker.run(&["run", "--rm", "cais/summed", "sh", "-c", script]).await, "whole");

    // What was carried once has the same archive, and the same id, from then on.
    let id = docker.inspect("mine:v1").await["Id"].clone();
    let again = node.home.join("again.tar");
    docker.run(&["save", "-o", again.to_str().unwrap(), "mine:v1"]).await;
    docker.run(&["rmi", "-f", "mine:v1", "localhost:5000/mine:v2", "cais/summed"]).await;
    // In the form of an OCI layout alone, and compressed.
    let script =
        "mkdir x && tar -C x -xf again.tar && rm x/manifest.json && tar -C x -czf oci.tgz .";
    let mut made = std::process::Command::new("sh");
    made.args(["-ec", script]).current_dir(&node.home);
    assert!(made.status().unwrap().success());
    let said = docker.run(&["load", "-i", node.home.join("oci.tgz").to_str().unwrap()]).await;
    assert!(said.contains("Loaded image: mine:v1"), "{said}");
    assert_eq!(docker.inspect("mine:v1").await["Id"], id);
}

#[tokio::test]
async fn docker_load_refuses_what_is_no_image_and_leaves_nothing() {
    let (node, docker) = node().await;
    changed(&docker).await;
    docker.run(&["commit", "one", "mine:v1"]).await;
    docker.run(&["rm", "one"]).await;
    let (good, bad) = (node.home.join("good.tar"), node.home.join("bad.tar"));
    docker.run(&["save", "-o", good.to_str().unwrap(), "mine:v1"]).await;
    docker.run(&["rmi", "mine:v1"]).await;
    let before = names(&node.home.join("root/images/layers"));
    for (name, script) in [
        ("no layer", "rm $(ls -S $PWD/blobs/sha256/* | head -n 1)"),
        ("another layer", "for f in blobs/sha256/*; do cp manifest.json $f; done"),
        ("no manifest", "rm manifest.json index.json"),
        ("nonsense", "echo '[' > manifest.json"),
        ("a name that is none", "sed -i 's/mine:v1/UPPER CASE/' manifest.json"),
        ("links in a circle", "rm manifest.json; ln -s b manifest.json; ln -s manifest.json b"),
        ("outside", "sed -i 's,blobs/sha256/,../../../etc/passwd#,' manifest.json"),
    ] {
        let script = format!(
            "rm -rf x; mkdir x; tar -C x -xf good.tar; (cd x; {script}); tar -C x -cf bad.tar ."
        );
        let mut made = std::process::Command::new("sh");
        made.args(["-ec", &script]).current_dir(&node.home);
        assert!(made.status().unwrap().success(), "{name}");
        let done = docker.try_run(&["load", "-i", bad.to_str().unwrap()]).await;
        assert_ne!(done.code, 0, "{name}: {done:?}");
        until("nothing to be left", async || {
            names(&node.home.join("root/images/ingest")).is_empty()
        })
        .await;
        assert_eq!(names(&node.home.join("root/images/layers")), before, "{name}");
    }
    // Programs find the error in the stream, as with Docker.
    let reply = docker.request(Method::POST, "/images/load", Some("nonsense")).await;
    assert_eq!(reply.status, StatusCode::OK);
    let said = reply.json();
    assert_eq!(said["error"], said["errorDetail"]["message"], "{said}");
    assert!(said["error"].as_str().unwrap().contains("archive"), "{said}");
    assert_eq!(docker.get("/images/get?names=nobody").await.status, StatusCode::NOT_FOUND);
    assert!(
        docker
            .refused(&["save", "-o", bad.to_str().unwrap(), "nobody"])
            .await
            .contains("No such image")
    );
}
