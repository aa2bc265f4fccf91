//! How layers are compressed that leave by buildx: in archives, in registries and in caches.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::{build, refused, with_buildx};
use crate::docker_buildx_index::Names;

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn member(archive: &str, path: &str) -> Vec<u8> {
    let read = Command::new("tar").args(["-xOf", archive, path]).output().unwrap();
    assert!(read.status.success(), "{path}: {read:?}");
    read.stdout
}

fn json(document: &[u8]) -> Value {
    serde_json::from_slice(document).unwrap()
}

fn blob_path(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().replacen("sha256:", "blobs/sha256/", 1)
}

/// How its bytes begin.
fn kind_of(layer: &[u8]) -> &'static str {
    match layer {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "+zstd",
        _ => "",
    }
}

/// The kinds of an image's layers, which are as it says of them.
fn kinds(manifest: &Value, read: impl Fn(&Value) -> Vec<u8>) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| {
            let kind = layer["mediaType"].as_str().unwrap().strip_prefix(OCI_LAYER).unwrap();
            let content = read(layer);
            assert_eq!(kind_of(&content), kind, "{layer}");
            assert_eq!(content.len() as u64, layer["size"].as_u64().unwrap(), "{layer}");
            kind.to_owned()
        })
        .collect()
}

#[tokio::test]
async fn buildx_compresses_archives_as_it_is_asked_to() {
    let (node, docker) = with_buildx().await;
    let context = Context::new(&node, "context", &[("Dockerfile", "FROM busybox\nCOPY a /\n")]);
    context.write("a", &"all the same\n".repeat(50_000));
    let archive = node.home.join("out.tar").display().to_string();
    let mut sizes = Vec::new();
    for (options, expected) in [
        ("type=oci", "+gzip"),
        ("type=docker", "+gzip"),
        ("type=oci,compression=gzip,compression-level=1", "+gzip"),
        ("type=docker,compression=zstd,force-compression=true", "+zstd"),
        ("type=oci,compression=zstd,compression-level=19", "+zstd"),
        ("type=oci,compression=uncompressed", ""),
    ] {
        let to = format!("{options},dest={archive}");
        build(&docker, &context, &["-t", "packed:v1", "-o", &to, "--provenance=false"]).await;
        let index = json(&member(&archive, "index.json"));
        let manifest = json(&member(&archive, &blob_path(&index["manifests"][0])));
        let found = kinds(&manifest, |layer| member(&archive, &blob_path(layer)));
        assert_eq!(found, [expected; 3], "{options}");
        sizes.push(fs::metadata(&archive).unwrap().len());
        // It is whole, and what is in it is what was built.
        assert_eq!(docker.run(&["load", "-i", &archive]).await, "Loaded image: packed:v1");
        let count = docker.run(&["run", "--rm", "packed:v1", "wc", "-l", "/a"]).await;
        assert_eq!(count, "50000 /a", "{options}");
        docker.run(&["rmi", "packed:v1"]).await;
    }
    let (gzip, fast, plain) = (sizes[0], sizes[2], sizes[5]);
    assert!(gzip < fast && fast < plain, "{sizes:?}");

    for (options, expected) in [
        ("type=oci,compression=estargz", "the compression \"estargz\" is not supported yet"),
        ("type=docker,compression=lz4", "unsupported layer compression type: lz4"),
        ("type=oci,compression-level=10", "invalid compression-level: 10"),
    ] {
        let to = format!("{options},dest={archive}");
        let said = refused(&docker, &context, &["-o", &to]).await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

#[tokio::test]
async fn buildx_compresses_what_it_pushes_and_caches_as_it_is_asked_to() {
    let (node, docker) = with_buildx().await;
    let context = Context::new(&node, "context", &[("Dockerfile", "FROM busybox\nCOPY a /\n")]);
    context.write("a", "A\n");
    let names = Names::new(&node).await;
    let name = names.name("packed");
    // What a registry has it keeps, unless the client insists.
    for (options, expected) in [
        ("compression=zstd", "+zstd"),
        ("compression=gzip", "+zstd"),
        ("compression=gzip,force-compression=true", "+gzip"),
        ("compression=uncompressed,force-compression=true", ""),
    ] {
        let to = format!("type=image,name={name},push=true,{options}");
        build(&docker, &context, &["-o", &to, "--provenance=false"]).await;
        let found = kinds(&names.raw(&name), |layer| names.bytes(&layer["digest"]));
        assert_eq!(found, [expected; 3], "{options}");
        docker.run(&["rmi", "-f", &name]).await;
        assert_eq!(docker.run(&["run", "--rm", &name, "cat", "/a"]).await, "A", "{options}");
        docker.run(&["rmi", "-f", &name]).await;
    }

    // A layer that the registry does not have yet.
    context.write("a", "B\n");
    let directory = node.home.join("cache").display().to_string();
    let cache = names.name("cache");
    let local = |options: &str| {
        let to = format!("type=local,dest={directory},mode=max{options}");
        (to, format!("type=local,src={directory}"))
    };
    let at = |options: &str| {
        let to = format!("type=registry,ref={cache},mode=max{options}");
        (to, format!("type=registry,ref={cache}"))
    };
    for ((to, from), expected) in [
        (local(""), "+gzip"),
        (local(",compression=zstd,compression-level=7"), "+zstd"),
        (at(""), "+gzip"),
        (at(",compression=zstd"), "+gzip"),
        (at(",compression=uncompressed,force-compression=true"), ""),
    ] {
        build(&docker, &context, &["--cache-to", &to]).await;
        let found = match from.starts_with("type=local") {
            true => {
                let read = |path: &str| fs::read(Path::new(&directory).join(path)).unwrap();
                let manifest = json(&read("index.json"))["manifests"][0].clone();
                let manifest = json(&read(&blob_path(&manifest)));
                kinds(&manifest, |layer| read(&blob_path(layer)))
            }
            false => kinds(&names.raw(&cache), |layer| names.bytes(&layer["digest"])),
        };
        assert_eq!(found, [expected], "{to}");
    }
    docker.run(&["builder", "prune", "-af"]).await;
    let said = build(&docker, &context, &["--cache-from", &at("").1]).await;
    assert!(said.contains("CACHED"), "{said}");
    let said = refused(&docker, &context, &["--cache-to", &local(",compression=estargz").0]).await;
    assert!(said.contains("the compression \"estargz\" is not supported yet"), "{said}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
