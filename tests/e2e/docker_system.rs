//! The Docker door itself: versions, what it says of the daemon, and what it refuses.

use std::os::unix::fs::PermissionsExt;

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::node::Node;

#[tokio::test]
async fn docker_version_and_info_know_the_daemon() {
    let node = Node::boot().await;
    let docker = node.docker();

    let version = docker.run(&["version", "--format", "{{json .Server}}"]).await;
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["Platform"]["Name"], "Cais");
    assert_eq!(version["ApiVersion"], "1.51");
    assert_eq!(version["MinAPIVersion"], "1.24");
    let info = docker.run(&["info", "--format", "{{json .}}"]).await;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["ServerErrors"], Value::Null, "{info}");
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(info["DockerRootDir"], node.home.join("root").to_str().unwrap());
    // The form for people reads every field.
    let text = docker.run(&["info"]).await;
    assert!(text.contains("Server Version:") && text.contains("Cgroup Version:"), "{text}");
}

#[tokio::test]
async fn docker_every_version_of_the_api_is_answered() {
    let node = Node::boot().await;
    let docker = node.docker();
    for prefix in ["", "/v1.24", "/v1.41", "/v1.51", "/v1.99"] {
        let reply = docker.get(&format!("{prefix}/version")).await;
        assert_eq!(reply.status, StatusCode::OK, "{prefix}");
        assert_eq!(reply.headers["api-version"], "1.51");
        assert_eq!(reply.headers["ostype"], "linux");
        assert_eq!(reply.json()["ApiVersion"], "1.51");
    }
}

#[tokio::test]
async fn docker_ping_says_all_in_its_headers() {
    let node = Node::boot().await;
    let docker = node.docker();
    let got = docker.get("/_ping").await;
    assert_eq!((got.status, got.body.as_ref()), (StatusCode::OK, b"OK".as_slice()));
    let head = docker.request(Method::HEAD, "/_ping", None).await;
    assert_eq!(head.status, StatusCode::OK);
    assert!(head.body.is_empty());
    for reply in [got, head] {
        assert_eq!(reply.headers["builder-version"], "2");
        assert_eq!(reply.headers["swarm"], "inactive");
        assert_eq!(reply.headers["docker-experimental"], "false");
        assert!(reply.headers["cache-control"].to_str().unwrap().contains("no-store"));
    }
}

#[tokio::test]
async fn docker_what_is_not_there_is_an_error_as_docker_says_it() {
    let node = Node::boot().await;
    let docker = node.docker();
    for path in ["/", "/nothing", "/v1.51/nothing", "/v1.51", "/containers", "/images/../../etc"] {
        let reply = docker.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(reply.headers["content-type"], "application/json", "{path}");
        assert_eq!(reply.message(), "page not found", "{path}");
    }
    let wrong_method = docker.request(Method::DELETE, "/version", None).await;
    assert_eq!(wrong_method.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn docker_is_no_part_of_a_swarm_and_says_so() {
    let node = Node::boot().await;
    let docker = node.docker();
    for words in [&["node", "ls"][..], &["service", "ls"], &["secret", "ls"], &["config", "ls"]] {
        let refused = docker.refused(words).await;
        assert!(refused.contains("This node is not a swarm manager."), "{words:?}: {refused}");
    }
    let left = docker.refused(&["swarm", "leave", "--force"]).await;
    assert!(left.contains("This node is not part of a swarm"), "{left}");
    assert!(docker.refused(&["swarm", "init"]).await.contains("swarm is not supported"));
}

#[tokio::test]
async fn docker_has_no_plugins_and_searches_nothing_and_says_so() {
    let node = Node::boot().await;
    let docker = node.docker();
    assert_eq!(docker.get("/plugins").await.json(), serde_json::json!([]));
    assert_eq!(docker.get("/plugins/none/json").await.status, StatusCode::NOT_FOUND);
    for (path, words) in [
        ("/plugins/pull?remote=vieux/sshfs", "plugins are not supported"),
        ("/plugins/none/enable", "plugins are not supported"),
    ] {
        let refused = docker.post(path, None).await;
        assert_eq!(refused.status, StatusCode::NOT_IMPLEMENTED, "{path}");
        assert_eq!(refused.message(), words);
    }
    let refused = docker.get("/images/search?term=nginx").await;
    assert_eq!(refused.status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(refused.message(), "searching a registry is not supported");
}

#[tokio::test]
async fn docker_a_client_that_speaks_no_http_disturbs_nobody() {
    let node = Node::boot().await;
    let docker = node.docker();
    for bytes in
        [b"\x16\x03\x01\x02\x00".as_slice(), b"GET\r\n\r\n", b"", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An error or the end; not for ever.
        let read = tokio::time::timeout(crate::wait::LONG, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{bytes:?} is not answered");
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
    }
    assert_eq!(docker.get("/_ping").await.status, StatusCode::OK);
}

#[tokio::test]
async fn docker_the_socket_is_not_for_everybody() {
    let node = Node::boot().await;
    let mode = std::fs::metadata(node.docker().socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}
