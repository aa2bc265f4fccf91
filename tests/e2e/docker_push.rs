//! `docker push` and `docker login`, to registries as they are outside of tests.

use std::process::Command;

use serde_json::Value;

use crate::cutting::{Cut, Cutting};
use crate::docker::{Docker, output};
use crate::docker_containers::node;
use crate::node::Node;
use crate::secure_registry::{PASSWORD, SecureRegistry, TokenServer, USER, write_htpasswd};

async fn login(docker: &Docker, address: &str, password: &str) -> (i32, String) {
    let words = ["login", "-u", USER, "--password-stdin", address];
    let done = docker.try_run_with(&words, password.as_bytes()).await;
    (done.code, format!("{}{}", done.stdout, done.stderr))
}

/// What was pushed is there, and is what it was.
async fn pushed(docker: &Docker, name: &str) {
    let said = docker.run(&["push", name]).await;
    assert!(said.contains("The push refers to repository") && said.contains("Pushed"), "{said}");
    assert!(said.contains("v1: digest: sha256:"), "{said}");
    let again = docker.run(&["push", name]).await;
    assert!(again.contains("Layer already exists") && !again.contains("Pushed"), "{again}");
    docker.run(&["rmi", "-f", "mine:v1", name, "busybox"]).await;
    assert_eq!(docker.run(&["run", "--rm", name, "cat", "/new"]).await, "new");
}

async fn make(docker: &Docker, name: &str) {
    docker.run(&["run", "--name", "one", "busybox", "sh", "-c", "echo new > /new"]).await;
    docker.run(&["commit", "one", "mine:v1"]).await;
    docker.run(&["rm", "one"]).await;
    docker.run(&["tag", "mine:v1", name]).await;
}

#[tokio::test]
async fn docker_push_to_a_registry_without_tls() {
    let (node, docker) = node().await;
    let registry = SecureRegistry::start_empty(&node, false, "").await;
    node.write_hosts(&registry.address, &format!("server = \"http://{}\"\n", registry.address));
    let name = format!("{}/cais/pushed:v1", registry.address);
    let missing = docker.refused(&["push", &name]).await;
    assert!(missing.contains("An image does not exist locally with the tag"), "{missing}");
    make(&docker, &name).await;
    pushed(&docker, &name).await;
    are_compressed(&node, &name);
}

/// The layers of an image in a registry are archives in gzip, of the digests and sizes that its manifest tells.
fn are_compressed(node: &Node, name: &str) {
    let copy = node.home.join("copied");
    let [from, to] = [format!("docker://{name}"), format!("dir:{}", copy.display())];
    let words = ["copy", "-q", "--src-tls-verify=false", &from, &to];
    assert!(Command::new("skopeo").args(words).status().unwrap().success());
    let manifest = std::fs::read(copy.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert!(layers.len() >= 3, "{manifest}");
    for layer in layers {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let file = copy.join(layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap());
        assert_eq!(file.metadata().unwrap().len(), layer["size"].as_u64().unwrap());
        let listed = Command::new("tar").arg("-tzf").arg(&file).output().unwrap();
        assert!(listed.status.success() && !listed.stdout.is_empty(), "{listed:?}");
    }
}

#[tokio::test]
async fn docker_push_and_login_with_tls_and_a_password() {
    let (node, docker) = node().await;
    write_htpasswd(&node.home.join("certificates"));
    let auth = "auth:\n  htpasswd: {realm: test, path: DIR/htpasswd}";
    let registry = SecureRegistry::start_empty(&node, true, auth).await;
    let name = format!("{}/cais/pushed:v1", registry.address);
    make(&docker, &name).await;

    registry.known_to(&node, "");
    let untrusted = docker.refused(&["push", &name]).await;
    assert!(untrusted.contains("certificate"), "{untrusted}");
    registry.known_to(&node, "ca = \"DIR/ca.crt\"");
    let denied = docker.refused(&["push", &name]).await;
    assert!(denied.contains("denied") && denied.contains("401"), "{denied}");
    let (code, said) = login(&docker, &registry.address, "wrong").await;
    assert!(code != 0 && said.contains("401"), "{said}");
    let (code, said) = login(&docker, &registry.address, PASSWORD).await;
    assert!(code == 0 && said.contains("Login Succeeded"), "{said}");
    pushed(&docker, &name).await;
    assert!(!node.log().contains(PASSWORD), "a secret was shown");

    // Without the credentials it cannot be had again.
    docker.run(&["logout", &registry.address]).await;
    docker.run(&["rmi", "-f", &name]).await;
    let pull = output(docker.spawn(&["pull", &name]), "docker pull").await;
    assert_ne!(pull.code, 0, "{pull:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_push_and_login_with_tokens() {
    let (node, docker) = node().await;
    let (server, registry) = TokenServer::start_with_registry(&node).await;
    registry.known_to(&node, "ca = \"DIR/ca.crt\"");
    let name = format!("{}/cais/pushed:v1", registry.address);
    make(&docker, &name).await;

    let denied = docker.refused(&["push", &name]).await;
    assert!(denied.contains("denied") && denied.contains("401"), "{denied}");
    let (code, said) = login(&docker, &registry.address, "wrong").await;
    assert!(code != 0 && said.contains("401"), "{said}");
    let (code, said) = login(&docker, &registry.address, PASSWORD).await;
    assert!(code == 0 && said.contains("Login Succeeded"), "{said}");
    pushed(&docker, &name).await;
    let asked = server.requests.lock().unwrap().join("\n").replace("%3A", ":").replace("%2F", "/");
    let asked = asked.replace("%2C", ",");
    let scopes = ["pull,push", "push,pull"].map(|it| format!("scope=repository:cais/pushed:{it}"));
    // The registry names them in any order.
    assert!(scopes.iter().any(|it| asked.contains(it)), "{asked}");
    assert!(!node.log().contains(PASSWORD), "a secret was shown");

    docker.run(&["logout", &registry.address]).await;
    let denied = docker.refused(&["push", &name]).await;
    assert!(denied.contains("denied"), "{denied}");
}

/// A registry without TLS, and a way to it that cuts this.
async fn behind(node: &Node, cut: Cut) -> (SecureRegistry, Cutting) {
    let registry = SecureRegistry::start_empty(node, false, "").await;
    let way = Cutting::start(registry.address.clone(), cut).await;
    node.write_hosts(&way.address, &format!("server = \"http://{}\"\n", way.address));
    (registry, way)
}

#[tokio::test]
async fn docker_push_has_layers_mounted_that_another_repository_has() {
    let (node, docker) = node().await;
    let (_registry, way) = behind(&node, Cut::Requests { after: 0, times: 0 }).await;
    let [one, two, three] =
        ["one", "two", "three"].map(|it| format!("{}/cais/{it}:v1", way.address));
    make(&docker, &one).await;
    docker.run(&["push", &one]).await;
    let requests = |method: &str| way.asked().matches(&format!("{method} /v2/cais/")).count();
    let before = requests("PATCH");
    assert!(before >= 4, "{before}: three layers and a configuration");

    docker.run(&["tag", &one, &two]).await;
    let said = docker.run(&["push", &two]).await;
    assert_eq!(said.matches("Mounted from cais/one").count(), 3, "{said}");
    assert!(!said.contains("Pushed"), "{said}");
    // The configuration is sent, and no layer.
    assert_eq!(requests("PATCH"), before + 1, "{said}");
    docker.run(&["rmi", "-f", "mine:v1", &one, &two, "busybox"]).await;
    // What was pulled is known to be there as well.
    docker.run(&["pull", &two]).await;
    docker.run(&["tag", &two, &three]).await;
    let said = docker.run(&["push", &three]).await;
    assert_eq!(said.matches("Mounted from cais/two").count(), 3, "{said}");
    docker.run(&["rmi", "-f", &two, &three]).await;
    assert_eq!(docker.run(&["run", "--rm", &three, "cat", "/new"]).await, "new");
}

#[tokio::test]
async fn docker_push_sends_while_it_compresses_and_goes_on_from_the_file_when_that_breaks() {
    let (node, docker) = node().await;
    for times in [0, 1] {
        let (_registry, way) = behind(&node, Cut::Requests { after: 4_000_000, times }).await;
        let name = format!("{}/cais/noise:v1", way.address);
        let make = "head -c 9000000 /dev/urandom > /noise; sha256sum /noise";
        let sum = docker.run(&["run", "--name", "one", "busybox", "sh", "-c", make]).await;
        docker.run(&["commit", "one", &name]).await;
        docker.run(&["rm", "one"]).await;
        let said = docker.run(&["push", &name]).await;
        assert!(said.contains("Pushed"), "{said}");
        assert_eq!(way.cuts(), times);
        // All layers that the registry does not have, and none of them twice unless it was cut: then its length is known.
        let asked = way.asked().to_lowercase();
        let chunked = asked.matches("transfer-encoding: chunked").count();
        let patches = asked.matches("patch /v2/cais/noise/blobs/uploads/").count();
        assert!(chunked >= 1 && patches == chunked + 1 + times, "{chunked} of {patches}");
        docker.run(&["rmi", "-f", &name]).await;
        assert_eq!(docker.run(&["run", "--rm", &name, "sha256sum", "/noise"]).await, sum);
        docker.run(&["rmi", "-f", &name]).await;
    }
}

#[tokio::test]
async fn docker_push_goes_on_after_connections_that_break() {
    let (node, docker) = node().await;
    let (_registry, way) = behind(&node, Cut::Requests { after: 100_000, times: 3 }).await;
    let name = format!("{}/cais/pushed:v1", way.address);
    make(&docker, &name).await;
    pushed(&docker, &name).await;
    assert_eq!(way.cuts(), 3);
}
