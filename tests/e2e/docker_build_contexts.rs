//! Contexts that are no directory: git repositories, archives and Dockerfiles behind an address, and archives on standard input.

use std::process::Command;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::docker::{Client, Docker, Output, by_both_clients};
use crate::docker_build::{Context, nothing_left};
use crate::docker_build_git::Served;
use crate::docker_buildx::with_buildx;
use crate::docker_containers::node;
use crate::node::Node;

/// Files behind addresses on loopback, by their paths.
async fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let files = Arc::new(files);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let files = files.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut asked = String::new();
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                    asked.push_str(&std::mem::take(&mut line));
                }
                let path = asked.split(' ').nth(1).unwrap_or_default();
                let found = files.iter().find(|(known, _)| *known == path);
                let (status, body) = match found {
                    Some((_, body)) => ("200 OK", body.as_slice()),
                    None => ("404 Not Found", &b""[..]),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(body).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

fn tar(context: &Context, flags: &str) -> Vec<u8> {
    Command::new("tar").args(["-C", context.path(), flags, "."]).output().unwrap().stdout
}

/// By buildx, and by `cais build`, which uses the classic call, with what each said. `input` is for standard input.
async fn both_doors(docker: &Docker, context: &str, input: &[u8]) -> Vec<Output> {
    let plain = ["build", "--no-cache", "--progress", "plain", context];
    let by_buildx = docker.try_run_with(&plain, input).await;
    let mut child = docker.cais_command(&["build", "--no-cache", context]);
    let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    vec![by_buildx, crate::docker::output(child, "cais build").await]
}

const LISTS: &str =
    "FROM busybox\nCOPY . /c\nRUN cd /c && echo made of: $(find . | sort) && cat file\n";

#[tokio::test]
async fn builds_take_contexts_from_elsewhere() {
    let (node, docker) = with_buildx().await;
    let served = repository(&node).await;
    let git = served.url("it");
    let context = Context::new(&node, "context", &[("Dockerfile", LISTS), ("file", "packed")]);
    let alone = b"FROM busybox\nRUN echo made alone\n".to_vec();
    let http = serve(vec![
        ("/it.tar.gz", tar(&context, "-cz")),
        ("/Dockerfile.own", alone),
        ("/bytes", vec![0xff; 2000]),
    ])
    .await;
    for (address, input, expected) in [
        (format!("{git}#v1:sub"), &b""[..], "made of: . ./Dockerfile ./file"),
        (format!("{http}/it.tar.gz"), b"", "made of: . ./Dockerfile ./file"),
        (format!("{http}/Dockerfile.own"), b"", "made alone"),
        ("-".to_owned(), &tar(&context, "-cz"), "made of: . ./Dockerfile ./file"),
    ] {
        for done in both_doors(&docker, &address, input).await {
            let all = format!("{}{}", done.stdout, done.stderr);
            assert!(done.code == 0 && all.contains(expected), "{address}: {all}");
        }
    }
    for (address, expected) in [
        (served.url("nowhere"), "git fetch"),
        (format!("{git}#v2"), "git fetch"),
        (format!("{git}#v1:nowhere"), "No such file or directory"),
        (format!("{git}#v1:link"), "No such file or directory"),
        (format!("{git}#v1:other"), "Dockerfile"),
        (format!("{http}/nothing"), "invalid response status 404"),
        (format!("{http}/bytes"), "neither an archive nor a Dockerfile"),
    ] {
        for done in both_doors(&docker, &address, b"").await {
            let all = format!("{}{}", done.stdout, done.stderr);
            assert!(done.code == 1 && all.contains(expected), "{address}: {all}");
        }
    }
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

/// A repository of which the tag has files that `main` has changed.
async fn repository(node: &Node) -> Served {
    let served = Served::new(&node.home.join("repositories")).await;
    let files = [("sub/Dockerfile", LISTS), ("sub/file", "one"), ("other/D", LISTS)];
    served.commit("it", &files);
    std::os::unix::fs::symlink("/etc", served.directory.join("it/link")).unwrap();
    served.commit("it", &[]);
    served.git("it", &["tag", "v1"]);
    served.commit("it", &[("sub/file", "two"), ("sub/more", "")]);
    served
}

#[tokio::test]
async fn contexts_from_elsewhere_have_names_and_dockerfiles_of_other_names() {
    let (node, docker) = with_buildx().await;
    let served = repository(&node).await;
    let git = served.url("it");
    let context = Context::new(&node, "context", &[("Dockerfile", LISTS), ("file", "packed")]);
    let http = serve(vec![("/it.tar", tar(&context, "-c"))]).await;
    let words = [
        "build",
        "--progress",
        "plain",
        "-f",
        "other/D",
        "--build-arg",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1",
    ];
    let done = docker.try_run(&[&words[..], &[&format!("{git}#v1")]].concat()).await;
    assert!(
        done.stderr.contains("cat: can't open 'file'") && done.stderr.contains("./.git/HEAD"),
        "{done:?}"
    );
    context.write("Dockerfile", "FROM busybox\nCOPY --from=lib file /\nRUN cat /file\n");
    let lib = format!("lib={git}#v1:sub");
    let words = ["build", "--progress", "plain", "--build-context", &lib, context.path()];
    let done = docker.try_run(&words).await;
    assert!(done.code == 0 && done.stderr.contains(" one"), "{done:?}");
    let path = format!("/build?remote={http}/it.tar&t=remote:v1");
    let reply = docker.post(&path, Some("")).await;
    assert!(format!("{reply:?}").contains("Successfully tagged remote:v1"), "{reply:?}");
    let refused = docker.post("/build?remote=client-session", Some("")).await;
    assert!(refused.message().contains("neither a URL nor a git repository"), "{refused:?}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

by_both_clients!(the_dockerfile_may_lie_outside_of_the_context);

/// Docker's classic builder then adds it, in an archive that is not filled up to its last block.
async fn the_dockerfile_may_lie_outside_of_the_context(client: Client) {
    let (node, docker) = node().await;
    let docker = docker.by(client);
    let context =
        Context::new(&node, "context", &[("file", "packed"), (".dockerignore", "other\n")]);
    let outside =
        Context::new(&node, "outside", &[("D", "FROM busybox\nCOPY . /in/\nRUN cat /in/*\n")]);
    let file = format!("{}/D", outside.path());
    let words = ["build", "-t", "it", "-f", &file, context.path()];
    docker.run(&words).await;
    let listed = docker.run(&["run", "--rm", "it", "ls", "-A", "/in"]).await;
    assert_eq!(listed, ".dockerignore\nfile");
    docker.run(&["rmi", "it"]).await;
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
