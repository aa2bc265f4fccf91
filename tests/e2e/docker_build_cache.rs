//! What builds leave: how much room it takes, what is pruned of it, and the limits that it keeps to by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::docker::{Docker, output};
use crate::docker_build::Context;
use crate::docker_buildx::{build, with_buildx};
use crate::node::Node;
use crate::wait::until;

const MEGABYTE: u64 = 1_000_000;

/// Some megabytes in a layer of their own, and nothing else.
fn large(node: &Node, name: &str, megabytes: u64) -> Context {
    let bytes = megabytes * MEGABYTE;
    let text = format!("FROM busybox\nRUN head -c {bytes} /dev/zero | tr '\\0' x > /{name}\n");
    Context::new(node, name, &[("Dockerfile", &text)])
}

async fn rows(docker: &Docker) -> Vec<Value> {
    let used = docker.get("/system/df?type=build-cache").await.json();
    used["BuildCache"].as_array().unwrap().clone()
}

/// Bytes that the cache alone takes.
fn own(rows: &[Value]) -> u64 {
    let own = rows.iter().filter(|row| row["Shared"] == false);
    own.map(|row| row["Size"].as_u64().unwrap()).sum()
}

fn has(rows: &[Value], text: &str) -> bool {
    rows.iter().any(|row| row["Description"].as_str().unwrap().contains(text))
}

/// As the program counts it.
fn du(paths: &[PathBuf]) -> u64 {
    let counted = Command::new("du").args(["-s", "-c", "-B1"]).args(paths).output().unwrap();
    let said = String::from_utf8(counted.stdout).unwrap();
    said.lines().last().unwrap().split('\t').next().unwrap().parse().unwrap()
}

fn below(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn docker_system_df_and_buildx_du_tell_of_builds_what_du_tells() {
    let (node, docker) = with_buildx().await;
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=cache,target=/c,id=big \
          head -c 3000000 /dev/zero | tr '\\0' x > /c/data && ln /c/data /c/again && mkdir /c/sub\n\
        RUN head -c 2000000 /dev/zero | tr '\\0' y > /made && ln /made /other && mkdir -p /a/b\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile)]);
    build(&docker, &context, &["-t", "made"]).await;
    let shared = rows(&docker).await;
    assert!(has(&shared, "cached mount /c with id \"big\""), "{shared:?}");
    let images = node.home.join("root/images");
    // Its layers are the image's.
    assert_eq!(own(&shared), du(&below(&images.join("caches"))));
    docker.run(&["rmi", "made"]).await;
    let used = docker.get("/system/df").await.json();
    let cached = used["BuildCache"].as_array().unwrap();
    let kept: Vec<PathBuf> = below(&images.join("kept"))
        .iter()
        .map(|path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap())
        .map(|kept| images.join("layers").join(kept["layer"].as_str().unwrap()).join("fs"))
        .collect();
    assert_eq!(own(cached), du(&[below(&images.join("caches")), kept].concat()));
    assert!(own(cached) > 5 * MEGABYTE, "{cached:?}");
    // Nothing is counted twice.
    let layers: Vec<PathBuf> =
        below(&images.join("layers")).iter().map(|path| path.join("fs")).collect();
    let all = own(cached) + used["LayersSize"].as_u64().unwrap();
    assert_eq!(all, du(&[below(&images.join("caches")), layers].concat()));
    // The client of BuildKit is told the same.
    let listed = docker.run(&["buildx", "du", "--format", "{{.ID}} {{.Type}}"]).await;
    for row in cached {
        let (id, kind) = (row["ID"].as_str().unwrap(), row["Type"].as_str().unwrap());
        assert!(listed.contains(&format!("{id} {kind}")), "{listed}");
    }
    let total = docker.run(&["buildx", "du"]).await;
    let shown = docker.run(&["system", "df", "--format", "{{.Type}}={{.Size}}"]).await;
    let shown = shown.lines().find_map(|line| line.strip_prefix("Build Cache=")).unwrap();
    assert!(total.lines().any(|it| it.starts_with("Total:") && it.contains(shown)), "{total}");
    docker.run(&["builder", "prune", "-af"]).await;
    assert_eq!(rows(&docker).await.len(), 0);
    assert_eq!(below(&images.join("caches")).len(), 0);
}

#[tokio::test]
async fn docker_builder_prune_takes_what_is_asked_for_and_the_least_recently_used_first() {
    let (node, docker) = with_buildx().await;
    let all = ["one", "two", "three"].map(|name| large(&node, name, 2));
    for context in &all {
        build(&docker, context, &["-t", "made"]).await;
    }
    let text = "FROM busybox\nRUN --mount=type=cache,target=/cargo echo > /cargo/crate\n";
    let mount = Context::new(&node, "mount", &[("Dockerfile", text)]);
    build(&docker, &mount, &["-t", "made"]).await;
    // The first one is of use once more.
    build(&docker, &all[0], &["-t", "made"]).await;
    docker.run(&["rmi", "made"]).await;
    docker.run(&["image", "prune", "-f"]).await;
    let before = rows(&docker).await;
    assert!(own(&before) > 6 * MEGABYTE, "{before:?}");

    docker.run(&["builder", "prune", "-f", "--filter", "until=1h"]).await;
    docker.run(&["buildx", "prune", "-f", "--filter", "until=1h"]).await;
    docker.run(&["buildx", "prune", "-f", "--max-used-space", "1gb"]).await;
    assert_eq!(rows(&docker).await.len(), before.len());
    docker.run(&["buildx", "prune", "-f", "--filter", "type=exec.cachemount"]).await;
    let left = rows(&docker).await;
    assert_eq!(left.len(), before.len() - 1, "{left:?}");
    assert!(has(&before, "cached mount") && !has(&left, "cached mount"), "{left:?}");

    let room = (5 * MEGABYTE).to_string();
    docker.run(&["buildx", "prune", "-f", "--max-used-space", &room]).await;
    let left = rows(&docker).await;
    let there = ["/one", "/two", "/three"].map(|name| has(&left, name));
    assert_eq!(there, [true, false, true], "{left:?}");
    let room = 3 * MEGABYTE;
    let pruned = docker.post(&format!("/build/prune?keep-storage={room}"), None).await.json();
    assert!(pruned["SpaceReclaimed"].as_u64().unwrap() > MEGABYTE, "{pruned}");
    let left = rows(&docker).await;
    let there = ["/one", "/two", "/three"].map(|name| has(&left, name));
    assert_eq!(there, [true, false, false], "{left:?}");
    assert!(build(&docker, &all[0], &[]).await.contains("CACHED"));
    docker.run(&["image", "prune", "-f"]).await;
    docker.run(&["builder", "prune", "-af"]).await;
}

#[tokio::test]
async fn docker_builder_prune_leaves_what_a_build_has() {
    let (node, docker) = with_buildx().await;
    let text = "FROM busybox\nRUN echo first > /first\n\
        RUN --mount=type=cache,target=/c touch /c/in; until [ -e /c/go ]; do sleep 0.1; done\n";
    let context = Context::new(&node, "context", &[("Dockerfile", text)]);
    // The first step is kept from an earlier build.
    let first = "FROM busybox\nRUN echo first > /first\n";
    build(&docker, &Context::new(&node, "first", &[("Dockerfile", first)]), &["-t", "first"]).await;
    docker.run(&["rmi", "first"]).await;
    let words = ["build", "--progress", "plain", "-t", "made", context.path()];
    let running = docker.spawn(&words);
    let caches = node.home.join("root/images/caches");
    let has_begun = async || below(&caches).iter().any(|cache| cache.join("in").exists());
    until("the command to run", has_begun).await;
    let used: Vec<_> = rows(&docker).await.iter().map(|row| row["InUse"] == true).collect();
    assert_eq!(used, [true, true]);
    docker.run(&["builder", "prune", "-af"]).await;
    assert_eq!(rows(&docker).await.len(), 2);
    fs::write(below(&caches).remove(0).join("go"), "").unwrap();
    let done = output(running, "docker build").await;
    assert!(done.code == 0 && done.stderr.contains("CACHED"), "{done:?}");
    assert_eq!(docker.run(&["run", "--rm", "made", "cat", "/first"]).await, "first");
    docker.run(&["builder", "prune", "-af"]).await;
    assert_eq!(rows(&docker).await.len(), 0);
    docker.run(&["run", "--rm", "made", "cat", "/first"]).await;
}

#[tokio::test]
async fn docker_build_keeps_its_cache_to_its_limits() {
    let (node, docker) = with_buildx().await;
    node.configure(
        "[build.cache]\nreserved_space = \"0\"\nmax_used_space = \"5MB\"\nmin_free_space = \"0\"\n",
    );
    node.restart().await;
    // What an image stands on takes no room of the cache's.
    build(&docker, &large(&node, "image", 8), &["-t", "image"]).await;
    for name in ["one", "two", "three"] {
        build(&docker, &large(&node, name, 2), &["-t", name]).await;
        docker.run(&["rmi", name]).await;
    }
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c echo > /c/d\n";
    let last = Context::new(&node, "last", &[("Dockerfile", text)]);
    build(&docker, &last, &["-t", "last"]).await;
    let is_within = async || own(&rows(&docker).await) <= 5 * MEGABYTE;
    until("the cache to be within its limits", is_within).await;
    let left = rows(&docker).await;
    let there = ["/image", "/one", "/two", "/three", "/c/d"].map(|name| has(&left, name));
    assert_eq!(there, [true, false, true, true, true], "{left:?}");
    let lines = docker.run(&["run", "--rm", "image", "wc", "-c", "/image"]).await;
    assert!(lines.starts_with("8000000"), "{lines}");
    docker.run(&["rmi", "image", "last"]).await;
    docker.run(&["builder", "prune", "-af"]).await;
}
