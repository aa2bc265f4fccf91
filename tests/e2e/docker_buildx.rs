//! Building by docker's own build client, buildx, which `docker build` is by default.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::docker::{Docker, Output, output};
use crate::docker_build::{Context, holds, left};
use crate::docker_containers::node;
use crate::node::{Node, monitors_below};
use crate::secure_registry::SecureRegistry;
use crate::wait::until;

const CLIENT: &str = "docker-buildx";

/// A node, and a client that has the plugin.
pub(crate) async fn with_buildx() -> (Node, Docker) {
    let (node, docker) = node().await;
    let path = std::env::var_os("PATH").unwrap();
    let plugin = std::env::split_paths(&path).map(|directory| directory.join(CLIENT));
    let plugin = plugin.into_iter().find(|plugin| plugin.exists());
    let plugins = node.home.join("docker-config/cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    symlink(plugin.expect("run hack/docker-clients"), plugins.join(CLIENT)).unwrap();
    (node, docker)
}

async fn try_build(docker: &Docker, context: &Context, words: &[&str]) -> Output {
    let words = [&["build", "--progress", "plain"], words, &[context.path()]].concat();
    let child = docker.command(&words).env("TOKEN", "hunter2").spawn().unwrap();
    output(child, "docker build").await
}

/// What it said of its steps.
pub(crate) async fn build(docker: &Docker, context: &Context, words: &[&str]) -> String {
    let done = try_build(docker, context, words).await;
    assert_eq!(done.code, 0, "{done:?}");
    done.stderr
}

pub(crate) async fn refused(docker: &Docker, context: &Context, words: &[&str]) -> String {
    let done = try_build(docker, context, words).await;
    assert_eq!(done.code, 1, "{done:?}");
    done.stderr
}

/// The number of the step of this name, as the client gives it.
pub(crate) fn number<'a>(said: &'a str, name: &str) -> &'a str {
    let line = said.lines().find(|line| line.ends_with(name));
    line.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("{name}: {said}"))
}

const STAGES: &str = "\
# syntax=docker/dockerfile:1
FROM busybox AS tools
RUN echo made > /tool
FROM scratch AS unused
COPY nowhere /
FROM busybox
ARG WHO=nobody
COPY --from=tools /tool /
COPY . /srv/
RUN echo \"hello $WHO\" > /hello
CMD [\"cat\", \"/hello\", \"/tool\"]
";

#[tokio::test]
async fn docker_build_by_buildx_builds_and_sends_only_what_changed() {
    let (node, docker) = with_buildx().await;
    let files =
        [("Dockerfile", STAGES), (".dockerignore", "*.log\nlogs\n"), ("a", "A"), ("x.log", "")];
    let context = Context::new(&node, "context", &files);
    context.write("sub/big", &"b".repeat(100_000));
    context.write("logs/b", "");
    symlink("big", context.0.join("sub/link")).unwrap();
    let (id, about) = (node.home.join("id"), node.home.join("about"));
    let (id, about) = (id.to_str().unwrap(), about.to_str().unwrap());
    let words = ["-t", "mine:v1", "--label", "tier=web", "--build-arg", "WHO=you"];
    let words = [&words[..], &["--iidfile", id, "--metadata-file", about]].concat();
    let said = build(&docker, &context, &words).await;
    for line in [
        "[internal] load build definition from Dockerfile",
        "transferring context: 100",
        "[tools 2/2] RUN echo made > /tool",
        "[stage-2 3/4] COPY . /srv/",
        "exporting to image",
        "naming to docker.io/library/mine:v1",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("CACHED") && !said.contains("nowhere"), "{said}");
    let image = docker.inspect("mine:v1").await;
    assert_eq!(fs::read_to_string(id).unwrap(), image["Id"].as_str().unwrap());
    let told: Value = serde_json::from_str(&fs::read_to_string(about).unwrap()).unwrap();
    assert_eq!(told["image.name"], "docker.io/library/mine:v1");
    assert_eq!(told["containerimage.config.digest"], image["Id"]);
    assert_eq!(image["Config"]["Labels"]["tier"], "web");
    assert_eq!(docker.run(&["run", "--rm", "mine:v1"]).await, "hello you\nmade");
    let list = ["run", "--rm", "mine:v1", "sh", "-c", "cd /srv; find . | sort; readlink sub/link"];
    let expected = ".\n./.dockerignore\n./Dockerfile\n./a\n./sub\n./sub/big\n./sub/link\nbig";
    assert_eq!(docker.run(&list).await, expected);

    // The same again: nothing is sent, and nothing made.
    let said = build(&docker, &context, &["-t", "mine:v2", "--build-arg", "WHO=you"]).await;
    let cached = |name: &str| format!("{} CACHED", number(&said, name));
    for name in ["[tools 2/2] RUN echo made > /tool", "[stage-2 3/4] COPY . /srv/"] {
        assert!(said.contains(&cached(name)), "{name}: {said}");
    }
    assert!(!said.contains("transferring context: 1"), "{said}");
    // A file that changed, one that is gone, and no cache.
    context.write("a", "AA");
    fs::remove_dir_all(context.0.join("sub")).unwrap();
    let id = docker.run(&["build", "-q", "--no-cache", "-t", "mine:v3", context.path()]).await;
    assert_eq!(docker.inspect("mine:v3").await["Id"], id.as_str());
    let list = ["run", "--rm", "mine:v3", "sh", "-c", "find /srv | sort; cat /srv/a /hello"];
    let expected = "/srv\n/srv/.dockerignore\n/srv/Dockerfile\n/srv/a\nAAhello nobody";
    assert_eq!(docker.run(&list).await, expected);
    docker.run(&["builder", "prune", "-af"]).await;
    until("nothing to be left of a build", async || left(&node).is_empty()).await;
}

#[tokio::test]
async fn docker_build_by_buildx_says_what_is_wrong_and_where() {
    let (node, docker) = with_buildx().await;
    let context = Context::new(&node, "context", &[]);
    let try_file = async |dockerfile: &str, words: &[&str]| {
        context.write("Dockerfile", dockerfile);
        refused(&docker, &context, words).await
    };
    let fails = "FROM busybox\nRUN echo out; echo err >&2; exit 7\n";
    let said = try_file(fails, &[]).await;
    for line in [
        " > [2/2] RUN echo out; echo err >&2; exit 7:",
        "   2 | >>> RUN echo out; echo err >&2; exit 7",
        "failed to solve: process \"/bin/sh -c echo out; echo err >&2; exit 7\" did not complete \
         successfully: exit code: 7",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    for word in ["out", "err"] {
        assert!(said.lines().any(|line| line.ends_with(&format!(" {word}"))), "{word}: {said}");
    }
    let cases: [(&str, &[&str], &str); 5] = [
        ("FROM busybox\nCOPPY a /\n", &[], "unknown instruction: COPPY (did you mean COPY?)"),
        ("FROM busybox\nCOPY missing /\n", &[], "missing"),
        ("FROM busybox\n", &["--target", "none"], "target stage \"none\" could not be found"),
        ("FROM busybox\n", &["-f", "none"], "no such file or directory"),
        ("FROM busybox\nRUN --mount=type=secret,id=s,required true\n", &[], "secret s: not found"),
    ];
    for (dockerfile, words, expected) in cases {
        let said = try_file(dockerfile, words).await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
    docker.run(&["builder", "prune", "-af"]).await;
    until("nothing to be left of a build", async || left(&node).is_empty()).await;
}

#[tokio::test]
async fn docker_build_by_buildx_gives_files_and_archives_back() {
    let (node, docker) = with_buildx().await;
    let dockerfile = "FROM busybox AS base\nRUN mkdir -p /d/e && echo deep > /d/e/f && chmod 750 /d/e/f\n\
                      FROM scratch\nCOPY --from=base /d /d\nCOPY --from=lib /l /l\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile), ("lib/l", "named")]);
    let lib = format!("lib={}/lib", context.path());
    let at = |name: &str| node.home.join(name).display().to_string();
    let make = async |kind: &str, name: &str| {
        let to = format!("type={kind},dest={}", at(name));
        build(&docker, &context, &["--build-context", &lib, "-t", "out:v1", "-o", &to]).await
    };
    make("local", "files").await;
    let file = PathBuf::from(at("files/d/e/f"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "deep\n");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::read_to_string(at("files/l")).unwrap(), "named");
    make("tar", "files.tar").await;
    let seen = members(&at("files.tar"));
    assert!(seen.contains(&"d/e/f".to_owned()) && seen.contains(&"l".to_owned()), "{seen:?}");
    make("docker", "docker.tar").await;
    make("oci", "oci.tar").await;
    // Neither is an image here.
    assert!(docker.run(&["images", "-aq", "out"]).await.is_empty());
    assert!(members(&at("oci.tar")).contains(&"oci-layout".to_owned()));
    let loaded = docker.run(&["load", "-i", &at("docker.tar")]).await;
    assert_eq!(loaded, "Loaded image: out:v1");
}

fn members(archive: &str) -> Vec<String> {
    let listed = std::process::Command::new("tar").args(["-tf", archive]).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn docker_build_by_buildx_keeps_secrets_pushes_and_can_be_cancelled() {
    let (node, docker) = with_buildx().await;
    // The value itself does not stand in the Dockerfile, whose text is no secret.
    let dockerfile = "\
FROM busybox
RUN --mount=type=secret,id=token --mount=type=secret,id=file,target=/f,mode=0444,uid=3 \
  test \"$(tr a-y0-8 b-z1-9 </run/secrets/token)\" = ivoufs3 && stat -c '%u %a' /f > /seen
RUN --mount=type=secret,id=token,env=T test \"$(echo $T | tr a-y0-8 b-z1-9)\" = ivoufs3
";
    let context =
        Context::new(&node, "context", &[("Dockerfile", dockerfile), ("file", "hunter2")]);
    let file = format!("id=file,src={}/file", context.path());
    let registry = SecureRegistry::start_empty(&node, false, "").await;
    node.write_hosts(&registry.address, &format!("server = \"http://{}\"\n", registry.address));
    let name = format!("{}/cais/built:v1", registry.address);
    let words = ["--secret", "id=token,env=TOKEN", "--secret", &file, "-t", &name, "--push"];
    let said = build(&docker, &context, &words).await;
    assert!(said.contains(&format!("pushing {name}")), "{said}");
    let seen =
        docker.run(&["run", "--rm", &name, "sh", "-c", "cat /seen; ls /run /f 2>&1; true"]).await;
    assert!(seen.starts_with("3 444\n"), "{seen}");
    assert!(seen.contains("/f: No such file") && !seen.contains("secrets"), "{seen}");
    docker.run(&["rmi", "-f", &name]).await;
    docker.run(&["pull", "-q", &name]).await;
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!holds_text(&node.home.join("root"), b"hunter2"), "a secret is on the disk");
    assert!(!node.log().contains("hunter2"), "a secret was shown");

    // A client that is interrupted cancels what runs.
    context.write("Dockerfile", "FROM busybox\nRUN touch /here; sleep 1000\n");
    let mut child = docker.command(&["build", context.path()]).spawn().unwrap();
    let building = node.home.join("root/images/building");
    until("the command to run", async || holds(&building, "here")).await;
    let client = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(client, rustix::process::Signal::INT).unwrap();
    assert!(!child.wait().await.unwrap().success());
    until("the command to end", async || monitors_below(&node.state).is_empty()).await;
    docker.run(&["builder", "prune", "-af"]).await;
    until("nothing to be left of a build", async || left(&node).is_empty()).await;
}

/// Whether a file below has the text in it. What is being removed has none.
fn holds_text(directory: &Path, text: &[u8]) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        let kind = entry.file_type().ok();
        if kind.is_some_and(|kind| kind.is_dir()) {
            return holds_text(&entry.path(), text);
        }
        let is_file = kind.is_some_and(|kind| kind.is_file());
        let content = if is_file { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
        content.windows(text.len()).any(|window| window == text)
    })
}
