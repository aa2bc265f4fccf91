//! Several targets in one build: `docker buildx bake`, and `docker compose build`, which is bake by default.

use std::fs;

use serde_json::Value;

use crate::compose::{BUILDX, Project, write};
use crate::docker::{Docker, Output, output};
use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::with_buildx;
use crate::docker_buildx_index::{Names, platforms};

/// What is made differs with each making, so what is in two images is of one making.
const BASE: &str = "\
FROM busybox
ENV WHO=base
COPY a /a
RUN cat /proc/sys/kernel/random/uuid > /made
";

const HCL: &str = r#"
variable "TAG" { default = "v1" }
group "default" { targets = ["app", "tool"] }
target "_common" { labels = { tier = "web" } }
target "base" {
  inherits = ["_common"]
  dockerfile = "base.Dockerfile"
}
target "app" {
  contexts = { base = "target:base" }
  dockerfile-inline = "FROM base\nCOPY b /b\nRUN cat /a /b >/both\n"
  tags = ["baked-app:${TAG}"]
}
target "tool" {
  name = "tool-${kind}"
  matrix = { kind = ["x", "y"] }
  contexts = { made = "target:base", lib = "lib" }
  args = { KIND = kind }
  dockerfile-inline = <<EOF
FROM busybox
ARG KIND
COPY --from=made /made /made
COPY --from=lib l /l
RUN --mount=type=bind,from=made,target=/m --mount=type=secret,id=token \
  echo $KIND $(cat /m/a) $(wc -c </run/secrets/token) >/kind
EOF
  tags = ["baked-${kind}:${TAG}"]
  secret = ["type=env,id=token,env=TOKEN"]
}
"#;

async fn bake(docker: &Docker, context: &Context, words: &[&str]) -> Output {
    let words = [&["buildx", "bake", "--progress", "plain"], words].concat();
    let mut command = docker.command(&words);
    let child = command.current_dir(context.path()).env("TOKEN", "hunter2").spawn().unwrap();
    let done = output(child, "docker buildx bake").await;
    assert_eq!(done.code, 0, "{words:?}: {done:?}");
    done
}

async fn seen(docker: &Docker, image: &str, words: &[&str]) -> String {
    docker.run(&[&["run", "--rm", image][..], words].concat()).await
}

#[tokio::test]
async fn bake_builds_targets_of_one_another() {
    let (node, docker) = with_buildx().await;
    let files = [
        ("docker-bake.hcl", HCL),
        ("base.Dockerfile", BASE),
        ("a", "A\n"),
        ("b", "B\n"),
        ("lib/l", "L\n"),
    ];
    let context = Context::new(&node, "context", &files);
    let printed = bake(&docker, &context, &["--print"]).await.stdout;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["target"]["tool-y"]["args"]["KIND"], "y");
    assert_eq!(printed["group"]["tool"]["targets"].as_array().unwrap().len(), 2);

    let about = node.home.join("about").display().to_string();
    let said = bake(&docker, &context, &["--metadata-file", &about]).await.stderr;
    // Built once, for all three, from a directory that is sent by one session.
    let base = "RUN cat /proc/sys/kernel/random/uuid > /made";
    assert!(said.contains("[base 3/3] RUN cat"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let made = seen(&docker, "baked-app:v1", &["cat", "/made"]).await;
    assert_eq!(seen(&docker, "baked-app:v1", &["cat", "/both"]).await, "A\nB");
    for kind in ["x", "y"] {
        let image = format!("baked-{kind}:v1");
        let all = seen(&docker, &image, &["cat", "/made", "/kind", "/l"]).await;
        assert_eq!(all, format!("{made}\n{kind} A 7\nL"), "{base}");
    }
    let app = docker.inspect("baked-app:v1").await;
    assert_eq!(app["Config"]["Labels"]["tier"], "web");
    assert!(app["Config"]["Env"].as_array().unwrap().contains(&"WHO=base".into()), "{app}");
    let told: Value = serde_json::from_str(&fs::read_to_string(&about).unwrap()).unwrap();
    assert_eq!(told["app"]["containerimage.config.digest"], app["Id"]);
    assert_eq!(told["tool-x"]["image.name"], "docker.io/library/baked-x:v1");

    // One of the matrix, changed from outside; what it is made from is found.
    let words = ["tool-x", "--set", "tool-x.args.KIND=z", "--set", "*.tags=baked-z:v2", "--load"];
    let said = bake(&docker, &context, &words).await.stderr;
    assert!(said.contains("CACHED"), "{said}");
    assert_eq!(
        seen(&docker, "baked-z:v2", &["cat", "/kind", "/made"]).await,
        format!("z A 7\n{made}")
    );
    // What a target is made from fails, and all with it.
    context.write("base.Dockerfile", "FROM busybox\nRUN exit 7\n");
    let mut failing = docker.command(&["buildx", "bake"]);
    let failing = failing.current_dir(context.path()).env("TOKEN", "x").spawn().unwrap();
    let failed = output(failing, "docker buildx bake").await;
    assert!(failed.code == 1 && failed.stderr.contains("exit code: 7"), "{failed:?}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

#[tokio::test]
async fn bake_reads_json_and_compose_files_and_pushes_what_is_for_several_platforms() {
    let (node, docker) = with_buildx().await;
    let files = [
        ("base.Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY of-$TARGETARCH /of\n"),
        ("Dockerfile", "FROM base\nCOPY --from=base /of /again\nCOPY of-amd64 /fixed\n"),
        ("of-amd64", "amd64\n"),
        ("of-arm64", "arm64\n"),
    ];
    let context = Context::new(&node, "context", &files);
    let names = Names::new(&node).await;
    let name = names.name("baked");
    let both = r#"["linux/amd64", "linux/arm64"]"#;
    let file = format!(
        r#"{{"target": {{
          "base": {{"dockerfile": "base.Dockerfile", "platforms": {both}}},
          "app": {{"contexts": {{"base": "target:base"}}, "platforms": {both}, "tags": ["{name}"]}}
        }}}}"#
    );
    context.write("docker-bake.json", &file);
    bake(&docker, &context, &["app", "--push", "--provenance=false"]).await;
    assert_eq!(platforms(&names.raw(&name)), ["amd64", "arm64"]);
    for architecture in ["amd64", "arm64"] {
        let config = names.config(&name, architecture);
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3, "{config}");
    }
    let diff_ids =
        |architecture: &str| names.config(&name, architecture)["rootfs"]["diff_ids"].clone();
    let (ours, other) = (diff_ids("amd64"), diff_ids("arm64"));
    // Each is made from the result for its own platform.
    assert!(ours[0] != other[0] && ours[1] != other[1] && ours[2] == other[2], "{ours} {other}");

    let compose = "services:\n  one: {build: {context: ., dockerfile_inline: \"FROM busybox\\nCOPY of-amd64 /one\\n\"}, image: \"of-compose:one\"}\n";
    context.write("compose.yaml", compose);
    bake(&docker, &context, &["-f", "compose.yaml"]).await;
    assert_eq!(seen(&docker, "of-compose:one", &["cat", "/one"]).await, "amd64");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

#[tokio::test]
async fn what_a_client_names_is_in_the_place_of_a_stage() {
    let (node, docker) = with_buildx().await;
    let dockerfile = "\
FROM none/such AS base
RUN exit 1
FROM base AS middle
RUN cat /l >/seen
FROM lib
COPY --from=middle /seen /seen
COPY --from=base l /l2
";
    let files = [
        ("Dockerfile", dockerfile),
        ("base.Dockerfile", "FROM busybox\nCOPY lib /\n"),
        ("lib/l", "L\n"),
        (
            "docker-bake.json",
            r#"{"target": {
              "below": {"dockerfile": "base.Dockerfile"},
              "default": {"contexts": {"base": "target:below", "lib": "lib"}, "output": ["type=local,dest=out"]}
            }}"#,
        ),
    ];
    let context = Context::new(&node, "context", &files);
    bake(&docker, &context, &[]).await;
    for name in ["l", "l2", "seen"] {
        assert_eq!(fs::read_to_string(context.0.join("out").join(name)).unwrap(), "L\n");
    }
    // A directory of the client's, and an image.
    for (base, file) in [("./lib", "l"), ("docker-image://busybox", "bin/busybox")] {
        let named = format!("base={base}");
        let to = ["--target", "base", "-o", "type=local,dest=one"];
        let words = [&["build", "-q", "--build-context", &named], &to[..], &["."]].concat();
        let mut command = docker.command(&words);
        let child = command.current_dir(context.path()).spawn().unwrap();
        let done = output(child, "docker build").await;
        assert_eq!(done.code, 0, "{done:?}");
        assert!(context.0.join("one").join(file).exists(), "{base}");
    }
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

const COMPOSE: &str = r#"
services:
  base:
    build:
      context: base
      secrets: [token]
      dockerfile_inline: |
        FROM busybox
        COPY a /a
        RUN --mount=type=secret,id=token wc -c </run/secrets/token >/length
  app:
    build:
      context: app
      additional_contexts: {base: "service:base", more: ./more}
      args: {KIND: app}
      secrets: [token]
      dockerfile_inline: |
        FROM base
        ARG KIND
        COPY b /b
        COPY --from=more m /m
        RUN --mount=type=secret,id=token echo $$KIND $$(cat /a /b /m /length /run/secrets/token | wc -c) >/all
    command: [cat, /all]
secrets: {token: {environment: SETTING}}
"#;

#[tokio::test]
async fn compose_builds_services_of_one_another_by_bake() {
    let (node, docker) = with_buildx().await;
    let project = Project::new(&docker, COMPOSE);
    for (path, text) in [("base/a", "A"), ("app/b", "B"), ("more/m", "M")] {
        fs::create_dir_all(project.path(path).parent().unwrap()).unwrap();
        write(&project.path(path), text);
    }
    let built = project.done(BUILDX, "hunter2", &["build"]).await;
    assert_eq!(built.code, 0, "{built:?}");
    let said = format!("{}{}", built.stdout, built.stderr);
    assert!(said.contains("shop-app") && !said.contains("hunter2"), "{said}");
    // Three letters, a number with its end of line, and the secret.
    assert_eq!(seen(&docker, "shop-app", &["cat", "/all"]).await, "app 12");
    let ran = project.run(BUILDX, "hunter2", &["run", "--rm", "app"]).await;
    assert!(ran.ends_with("app 12"), "{ran}");
    project.run(BUILDX, "hunter2", &["down"]).await;
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
