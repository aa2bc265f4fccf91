//! gRPC on the Docker socket itself, by HTTP/2 from the first byte: buildx's driver `remote`, to which we are a BuildKit daemon.

use std::fs;
use std::process::Command;

use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::{build, refused, with_buildx};
use crate::docker_buildx_index::Names;

#[tokio::test]
async fn buildx_builds_by_its_remote_driver_on_our_socket() {
    let (node, docker) = with_buildx().await;
    let address = format!("unix://{}", docker.socket().display());
    let words = ["buildx", "create", "--name", "direct", "--driver", "remote", &address, "--use"];
    assert_eq!(docker.run(&words).await, "direct");
    let inspected = docker.run(&["buildx", "inspect", "--bootstrap", "direct"]).await;
    assert!(inspected.contains("Status:           running"), "{inspected}");
    assert!(inspected.contains("cais-"), "{inspected}");

    let dockerfile = "\
FROM busybox
COPY a /a
RUN --mount=type=secret,id=token cat /a >/b && wc -c </run/secrets/token >>/b
";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile), ("a", "A\n")]);
    let secret = ["--secret", "id=token,env=TOKEN"];
    // By `docker load`, as this driver has it; the archive comes back to the same daemon.
    let said =
        build(&docker, &context, &[&secret[..], &["-t", "direct:v1", "--load"]].concat()).await;
    assert!(said.contains("[3/3] RUN") && !said.contains("hunter2"), "{said}");
    assert_eq!(docker.run(&["run", "--rm", "direct:v1", "cat", "/b"]).await, "A\n7");
    let files = node.home.join("files");
    let to = format!("type=local,dest={}", files.display());
    let said = build(&docker, &context, &[&secret[..], &["-o", &to]].concat()).await;
    assert!(said.contains("CACHED"), "{said}");
    assert_eq!(fs::read_to_string(files.join("b")).unwrap(), "A\n7\n");
    let names = Names::new(&node).await;
    let name = names.name("direct");
    build(&docker, &context, &[&secret[..], &["-t", &name, "--push"]].concat()).await;
    docker.run(&["pull", "-q", &name]).await;
    let said = refused(&docker, &context, &["-f", "none"]).await;
    assert!(said.contains("no such file or directory"), "{said}");
    let usage = docker.run(&["buildx", "du"]).await;
    assert!(usage.contains("Reclaimable"), "{usage}");

    // What is no gRPC is answered as ever.
    let socket = docker.socket().to_str().unwrap();
    let words =
        ["-fsS", "--http2-prior-knowledge", "-w", " %{http_version}", "--unix-socket", socket];
    let asked = Command::new("curl").args(words).arg("http://d/_ping").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "OK 2", "{asked:?}");
    docker.run(&["buildx", "rm", "direct"]).await;
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
