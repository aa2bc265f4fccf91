//! Images of several platforms, and what is attested of images: indexes, by buildx.

use std::process::Command;

use serde_json::Value;

use crate::docker::Docker;
use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::{build, refused, with_buildx};
use crate::node::Node;
use crate::secure_registry::SecureRegistry;

/// What runs, runs here; the rest is for whatever platform.
const CROSS: &str = "\
FROM --platform=$BUILDPLATFORM busybox AS tools
ARG TARGETARCH
ARG SECRET=none
RUN echo made for $TARGETARCH on $(uname -m) > /made
FROM scratch
COPY --from=tools /made /made
COPY file /
";

fn skopeo(words: &[&str]) -> Value {
    let done = Command::new("skopeo").args(words).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// A registry beside a node, and what it has.
pub(crate) struct Names(SecureRegistry);

impl Names {
    pub(crate) async fn new(node: &Node) -> Self {
        let registry = SecureRegistry::start_empty(node, false, "").await;
        let address = &registry.address;
        node.write_hosts(address, &format!("server = \"http://{address}\"\n"));
        Self(registry)
    }

    pub(crate) fn name(&self, tag: &str) -> String {
        format!("{}/cais/index:{tag}", self.0.address)
    }

    pub(crate) fn raw(&self, name: &str) -> Value {
        skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
    }

    pub(crate) fn by_digest(&self, digest: &Value) -> Value {
        self.raw(&format!("{}/cais/index@{}", self.0.address, digest.as_str().unwrap()))
    }

    pub(crate) fn config(&self, name: &str, architecture: &str) -> Value {
        let source = format!("docker://{name}");
        let words = ["--override-arch", architecture, "inspect", "--config", "--tls-verify=false"];
        skopeo(&[&words[..], &[&source]].concat())
    }

    pub(crate) fn blob(&self, digest: &Value) -> Value {
        serde_json::from_slice(&self.bytes(digest)).unwrap()
    }

    pub(crate) fn bytes(&self, digest: &Value) -> Vec<u8> {
        let digest = digest.as_str().unwrap();
        let address = format!("http://{}/v2/cais/index/blobs/{digest}", self.0.address);
        let fetched = Command::new("curl").args(["-fsSL", &address]).output().unwrap();
        assert!(fetched.status.success(), "{fetched:?}");
        fetched.stdout
    }
}

pub(crate) fn platforms(index: &Value) -> Vec<&str> {
    let all = index["manifests"].as_array().unwrap().iter();
    all.map(|it| it["platform"]["architecture"].as_str().unwrap()).collect()
}

async fn are_refused(docker: &Docker, context: &Context, cases: &[(&[&str], &str)]) {
    context.write("Dockerfile", "FROM busybox\nRUN true\n");
    for (words, expected) in cases {
        let said = refused(docker, context, words).await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

const BOTH: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

#[tokio::test]
async fn buildx_makes_images_of_several_platforms() {
    let (node, docker) = with_buildx().await;
    let context = Context::new(&node, "context", &[("Dockerfile", CROSS), ("file", "f")]);
    let names = Names::new(&node).await;
    let both = names.name("both");
    let words = [&BOTH[..], &["-t", &both, "--push", "--provenance=false"]].concat();
    let said = build(&docker, &context, &words).await;
    assert!(said.contains("[linux/arm64 stage-1 1/2] COPY --from=tools /made /made"), "{said}");
    assert_eq!(platforms(&names.raw(&both)), ["amd64", "arm64"]);
    for architecture in ["amd64", "arm64"] {
        assert_eq!(names.config(&both, architecture)["architecture"], architecture);
    }
    docker.run(&["rmi", "-f", &both]).await;
    docker.run(&["pull", "-q", &both]).await;
    docker.run(&["create", "--name", "both", &both, "x"]).await;
    let copied = docker.try_run(&["cp", "both:/made", "-"]).await;
    assert!(copied.stdout.contains("made for amd64 on "), "{copied:?}");
    docker.run(&["rm", "both"]).await;

    let archive = format!("{}/oci.tar", node.home.display());
    let to = format!("type=oci,dest={archive}");
    build(&docker, &context, &[&BOTH[..], &["-t", "loaded:v1", "-o", &to]].concat()).await;
    assert!(docker.run(&["load", "-i", &archive]).await.contains("loaded:v1"));

    // Files of each are in a directory of their own.
    let files = node.home.join("files");
    let to = format!("type=local,dest={}", files.display());
    build(&docker, &context, &[&BOTH[..], &["-o", &to]].concat()).await;
    for architecture in ["amd64", "arm64"] {
        let made = files.join(format!("linux_{architecture}/made"));
        let made = std::fs::read_to_string(made).unwrap();
        assert!(made.starts_with(&format!("made for {architecture} on ")), "{made}");
    }
    let archive = format!("{}/files.tar", node.home.display());
    let to = format!("type=tar,dest={archive}");
    build(&docker, &context, &[&BOTH[..], &["-o", &to]].concat()).await;
    let listed = Command::new("tar").args(["-xOf", &archive, "linux_arm64/made"]).output().unwrap();
    assert!(listed.stdout.starts_with(b"made for arm64 on "), "{listed:?}");
    let to = format!("type=local,platform-split=true,dest={}", files.display());
    build(&docker, &context, &["--build-arg", "SECRET=one", "-o", &to]).await;
    assert!(files.join("linux_amd64/file").exists());

    // Of an image that stands for several, a stage takes the one for its platform.
    let upon = names.name("upon");
    context.write("Dockerfile", &format!("FROM {both}\nCOPY file /more\n"));
    build(&docker, &context, &[&BOTH[..], &["-t", &upon, "--push"]].concat()).await;
    let config = names.config(&upon, "arm64");
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);

    let merged = [&BOTH[..], &["-o", "type=tar,platform-split=false,dest=/dev/null"]].concat();
    let cases: [(&[&str], &str); 4] = [
        (&BOTH, "cannot hold an image of several platforms"),
        (&merged, "platform-split=false is not supported yet"),
        (&["--platform", "linux/arm64"], "RUN in a stage for linux/arm64 is not supported yet"),
        (&["--platform", "windows/amd64"], "building for windows/amd64 is not supported"),
    ];
    are_refused(&docker, &context, &cases).await;
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

#[tokio::test]
async fn buildx_has_attested_how_an_image_was_made() {
    let (node, docker) = with_buildx().await;
    let context = Context::new(&node, "context", &[("Dockerfile", CROSS), ("file", "f")]);
    let names = Names::new(&node).await;
    // It is told without being asked for, and all of it when it is.
    let cases: [(&str, &[&str], bool); 2] =
        [("min", &[], false), ("max", &["--provenance=mode=max"], true)];
    for (tag, words, has_arguments) in cases {
        let name = names.name(tag);
        let words = [&["-t", &name, "--push", "--build-arg", "SECRET=hunter2"][..], words].concat();
        build(&docker, &context, &words).await;
        let index = names.raw(&name);
        assert_eq!(platforms(&index), ["amd64", "unknown"], "{index}");
        let (image, about) = (&index["manifests"][0]["digest"], &index["manifests"][1]);
        assert_eq!(about["annotations"]["vnd.docker.reference.digest"], *image);
        let layer = &names.by_digest(&about["digest"])["layers"][0];
        let kind = &layer["annotations"]["in-toto.io/predicate-type"];
        assert_eq!(kind, "https://slsa.dev/provenance/v0.2");
        let statement = names.blob(&layer["digest"]);
        let subject = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
        assert!(image.as_str().unwrap().ends_with(subject), "{statement}");
        assert_eq!(statement.to_string().contains("hunter2"), has_arguments, "{statement}");
        let material = &statement["predicate"]["materials"][0]["uri"];
        assert_eq!(material, "pkg:docker/busybox@latest?platform=linux%2Famd64");
        docker.run(&["rmi", "-f", &name]).await;
        docker.run(&["pull", "-q", &name]).await;
    }
    let cases: [(&[&str], &str); 2] = [
        (&["--provenance=mode=max"], "cannot hold an attestation"),
        (&["--sbom=true"], "cannot hold an attestation"),
    ];
    are_refused(&docker, &context, &cases).await;
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

#[tokio::test]
async fn buildx_has_attested_what_packages_an_image_has() {
    let (node, docker) = with_buildx().await;
    let status =
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n";
    let files = [
        ("Dockerfile", "FROM busybox\nCOPY root /\nRUN mkdir /made && cp -r /lib/python /made\n"),
        ("root/var/lib/dpkg/status", status),
        ("root/etc/os-release", "ID=debian\nVERSION_ID=12\n"),
        ("root/lib/python/flask-3.0.dist-info/METADATA", "Name: Flask\nVersion: 3.0\n"),
        ("root/app/node_modules/left/package.json", r#"{"name":"left","version":"1.2.3"}"#),
    ];
    let context = Context::new(&node, "context", &files);
    let names = Names::new(&node).await;
    let name = names.name("sbom");
    let words = ["-t", &name, "--push", "--sbom=true", "--provenance=false"];
    build(&docker, &context, &words).await;
    let index = names.raw(&name);
    let (image, about) = (&index["manifests"][0]["digest"], &index["manifests"][1]);
    assert_eq!(about["annotations"]["vnd.docker.reference.digest"], *image);
    let layers = &names.by_digest(&about["digest"])["layers"];
    assert_eq!(layers.as_array().unwrap().len(), 1, "{layers}");
    let kind = &layers[0]["annotations"]["in-toto.io/predicate-type"];
    assert_eq!(kind, "https://spdx.dev/Document");
    let statement = names.blob(&layers[0]["digest"]);
    let subject = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
    assert!(image.as_str().unwrap().ends_with(subject), "{statement}");
    let document = &statement["predicate"];
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    let packages = document["packages"].as_array().unwrap().iter();
    let urls: Vec<_> =
        packages.filter_map(|it| it["externalRefs"][0]["referenceLocator"].as_str()).collect();
    let debian = "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12";
    assert_eq!(urls, [debian, "pkg:pypi/flask@3.0", "pkg:npm/left@1.2.3"]);
    // Each is in the image, and the image is what the document is about.
    assert_eq!(document["relationships"].as_array().unwrap().len(), 4);
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
