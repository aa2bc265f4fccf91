//! Secrets and files by name, which `cais build` and `cais compose build` give to a build that has begun.

use std::fs;

use crate::compose::{BUILDX, Project};
use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::with_buildx;
use crate::docker_containers::node;

const ASKS: &str = "\
FROM busybox AS base
RUN --mount=type=secret,id=token,required --mount=type=secret,id=NAME,env=NAME \
  echo \"$(cat /run/secrets/token) of $NAME\"; stat -c '%a %u' /run/secrets/token
RUN --mount=type=secret,id=other ! test -e /run/secrets/other
RUN --mount=from=lib,target=/lib-files cat /lib-files/sub/text && ls -A /lib-files
FROM alpine
COPY --from=lib sub /sub
COPY --from=base /etc/passwd /passwd
";

#[tokio::test]
async fn cais_build_has_secrets_and_files_by_name() {
    let (node, docker) = node().await;
    let context = Context::new(&node, "context", &[("Dockerfile", ASKS)]);
    let files = [("sub/text", "by name\n"), ("hidden", "x"), (".dockerignore", "hidden\n")];
    let lib = Context::new(&node, "lib", &files);
    let token = node.home.join("token");
    fs::write(&token, "hush").unwrap();
    let secret = format!("id=token,src={}", token.display());
    let lib = format!("lib={}", lib.path());
    let words = ["build", "-t", "asked", "--secret", &secret, "--build-context", &lib];
    // What the Dockerfile calls alpine is another image, which this name is not looked for at a registry for.
    let more = ["--build-context", "alpine=docker-image://busybox", context.path()];
    let words = [&words[..], &["--secret", "id=NAME,type=env,env=PATH"], &more].concat();
    let said = docker.cais(&words).await;
    for expected in ["\nhush of /", "\n400 0\n", "\nby name\n.dockerignore\nsub\n"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(docker.run(&["run", "--rm", "asked", "cat", "/sub/text"]).await, "by name");
    let shown = docker.inspect("asked").await.to_string()
        + &docker.run(&["history", "--no-trunc", "asked"]).await;
    assert!(!shown.contains("hush") && !node.log().contains("hush"), "a secret was shown");

    // What is not given is missed by name.
    let without = ["build", "--no-cache", "--build-context", &lib, context.path()];
    let said = docker.cais_refused(&without).await;
    assert!(said.contains("secret token: not found"), "{said}");
    let said =
        docker.cais_refused(&["build", "--allow", "security.insecure", context.path()]).await;
    assert!(said.contains("granting entitlement security.insecure is not allowed"), "{said}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

const PROJECT: &str = r#"
services:
  app:
    build:
      context: app
      secrets: [token, {source: name, target: other}]
      additional_contexts: {base: "service:base", lib: ./lib}
    command: cat /made /base /lib/text
  base: {build: base, image: "base:v1"}
secrets: {token: {file: ./token}, name: {environment: NAME}}
"#;

#[tokio::test]
async fn compose_builds_have_secrets_and_contexts_by_both_clients() {
    let (node, docker) = with_buildx().await;
    let project = Project::new(&docker, PROJECT);
    let app = "FROM base\nCOPY --from=lib text /lib/\nRUN --mount=type=secret,id=token \
               --mount=type=secret,id=other cat /run/secrets/token /run/secrets/other > /made\n";
    for (name, text) in [
        ("app/Dockerfile", app),
        ("base/Dockerfile", "FROM busybox\nRUN echo base > /base\n"),
        ("lib/text", "lib\n"),
        ("token", "hush\n"),
        (".env", "NAME=me\n"),
    ] {
        let path = project.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for client in [BUILDX, "cais"] {
        // The base alone is not asked for: it is built with what is made from it.
        project.run(client, "", &["build", "--pull", "app"]).await;
        let done = project.done(client, "", &["run", "--rm", "-T", "app"]).await;
        // docker compose builds the base under its own name first.
        let is_there = done.code == 0 && done.stdout.ends_with("hush\nmebase\nlib\n");
        assert!(is_there, "{client}: {done:?}");
        docker.run(&["image", "rm", "-f", "shop-app"]).await;
        docker.run(&["builder", "prune", "-af"]).await;
    }
    // Of two that are made from each other neither can be.
    let text = "services: {a: {build: {context: ., additional_contexts: {x: 'service:b'}}}, \
                b: {build: {context: ., additional_contexts: {x: 'service:a'}}}}";
    let circle = Project::new(&docker, text);
    let said = circle.done("cais", "", &["build"]).await;
    assert!(said.code == 1 && said.stderr.contains("made from itself"), "{said:?}");
    docker.run(&["image", "prune", "-af"]).await;
    nothing_left(&node).await;
}
