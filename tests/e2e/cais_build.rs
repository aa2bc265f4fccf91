//! `cais build`, beside docker's client on the same daemon.

use std::fs;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::docker::{Docker, Output, output};
use crate::docker_build::{Context, build, nothing_left};
use crate::docker_containers::node;

const DOCKERFILE: &str = "FROM busybox AS base\nARG WHO=nobody\nRUN echo hello $WHO > /who\n\
                          FROM base\nCOPY . /sent\nRUN cat /who && ls -A /sent\n";

async fn with_input(docker: &Docker, words: &[&str], input: &[u8]) -> Output {
    let mut child = docker.cais_command(words).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    output(child, "cais build").await
}

#[tokio::test]
async fn cais_builds_as_docker_does() {
    let (node, docker) = node().await;
    let files = [("Dockerfile", DOCKERFILE), ("a", "1"), ("b", "2"), (".dockerignore", "b\n")];
    let context = Context::new(&node, "context", &files);
    let id_file = node.home.join("id");
    let words = ["build", "-t", "mine:1", "--build-arg", "WHO=you", "--iidfile"];
    let words = [&words[..], &[id_file.to_str().unwrap(), context.path()]].concat();
    let ours = docker.cais(&words).await;
    assert!(ours.contains("\nhello you\n.dockerignore\nDockerfile\na\n"), "{ours}");
    assert!(ours.ends_with("Successfully tagged mine:1"), "{ours}");
    let id = docker.inspect("mine:1").await["Id"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(&id_file).unwrap(), id);

    // Docker's client finds all of it made, and says the rest in the same words.
    let theirs = build(&docker, &context, &["-t", "mine:2", "--build-arg", "WHO=you"]).await;
    let again = docker.cais(&["build", "-tmine:2", "--build-arg=WHO=you", context.path()]).await;
    // The numbers of steps on the way are of one build.
    let steps = |said: &str| -> Vec<String> {
        let lines = said.lines().skip_while(|line| !line.starts_with("Step 1/"));
        let is_number = |line: &str| line.len() == 18 && line.starts_with(" ---> ");
        lines.filter(|line| !is_number(line)).map(str::to_owned).collect()
    };
    assert_eq!(steps(&again), steps(&theirs));
    assert_eq!(docker.cais(&["build", "-q", "--build-arg", "WHO=you", context.path()]).await, id);

    // Without files, and from somebody else's archive.
    let text = b"FROM busybox\nRUN echo made\n";
    let made = with_input(&docker, &["image", "build", "-"], text).await;
    assert!(made.code == 0 && made.stdout.contains("\nmade\n"), "{made:?}");
    let tar = std::process::Command::new("tar").args(["-C", context.path(), "-c", "."]).output();
    let sent = with_input(&docker, &["build", "--target=base", "-"], &tar.unwrap().stdout).await;
    assert!(sent.code == 0 && sent.stdout.contains("Step 3/3 :"), "{sent:?}");
    let elsewhere = ["build", "-f", "-", "-q", context.path()];
    let id = with_input(&docker, &elsewhere, b"FROM scratch\nCOPY a /\n").await;
    assert!(id.code == 0 && id.stdout.starts_with("sha256:"), "{id:?}");

    context.write("Dockerfile", "FROM busybox\nRUN exit 3\n");
    let failed = docker.try_cais(&["build", context.path()]).await;
    assert_eq!(failed.code, 3, "{failed:?}");
    assert!(failed.stderr.contains("returned a non-zero code: 3"), "{failed:?}");
    assert!(docker.cais(&["builder", "prune", "-af"]).await.contains("Total reclaimed space: "));
    assert_eq!(
        docker.get("/system/df?type=build-cache").await.json()["BuildCache"],
        serde_json::json!([])
    );
    nothing_left(&node).await;

    // What is doubtful is shown without a daemon's help.
    context.write("Dockerfile", "FROM busybox\nMAINTAINER me\nCMD echo\n");
    let checked = docker.try_cais(&["build", "--check", context.path()]).await;
    assert_eq!(checked.code, 1, "{checked:?}");
    for expected in [
        "2 warnings have been found!",
        "WARNING: MaintainerDeprecated - https://",
        "   2 | >>> MAINTAINER me\n",
    ] {
        assert!(checked.stdout.contains(expected), "{checked:?}");
    }
    let refused = docker.cais_refused(&["build", "--secret", "id=/x", context.path()]).await;
    assert!(refused.contains("failed to read secret /x"), "{refused}");
}

/// What a directory that is read in place has in it, by all the ways that a build looks at it.
const SHOWN: &str = "FROM busybox\nCOPY . /all\nCOPY s* /some/\nADD old /old\n\
                     RUN --mount=type=bind,target=/mounted cd /mounted && find . -type f | sort && \
                     cd / && find all some old -type f | sort && cat /all/src/a && stat -c %u /all/src/a /mounted/src/a\n";

#[tokio::test]
async fn a_directory_is_read_where_it_is_without_what_is_ignored() {
    let (node, docker) = node().await;
    let files = [
        ("Dockerfile", SHOWN),
        (".dockerignore", "*\n!src\nsrc/secret\n!old/keep\n!s*.txt\n"),
        ("src/a", "1\n"),
        ("src/secret", "2"),
        ("old/keep", "3"),
        ("old/other", "4"),
        ("rest", "5"),
        ("seen.txt", "6"),
    ];
    let context = Context::new(&node, "context", &files);
    let inside = |name: &str| std::path::Path::new(context.path()).join(name);
    std::os::unix::fs::chown(inside("src/a"), Some(7), Some(7)).unwrap();
    let built = docker.cais(&["build", context.path()]).await;
    let expected = "\n./old/keep\n./seen.txt\n./src/a\nall/old/keep\nall/seen.txt\nall/src/a\n\
                    old/keep\nsome/a\nsome/seen.txt\n1\n0\n0\n";
    assert!(built.contains(expected), "{built}");
    // Nothing of it was sent, and nothing in it has changed.
    assert_eq!(fs::read_to_string(inside("rest")).unwrap(), "5");
    context.write("src/a", "2\n");
    let again = docker.cais(&["build", context.path()]).await;
    assert!(again.contains("\n2\n0\n0\n"), "{again}");

    // What a link leads to is as hidden as it is.
    std::os::unix::fs::symlink("rest", inside("src/link")).unwrap();
    context.write("Dockerfile", "FROM busybox\nCOPY src/link /x\n");
    let failed = docker.try_cais(&["build", context.path()]).await;
    assert!(failed.code == 1 && failed.stderr.contains("src/link"), "{failed:?}");

    // To whom it is another directory, it is sent.
    let path = format!("/build?directory={}&device=1&inode=1", context.path());
    let refused = docker.post(&path, None).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let refused = docker.post("/build?directory=relative&device=1&inode=1", None).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    nothing_left(&node).await;
}

#[tokio::test]
async fn cache_mounts_leave_and_come_as_archives() {
    let (node, docker) = node().await;
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,id=mine,target=/c \
                      mkdir -p /c/a && echo kept > /c/a/b && chown 3:4 /c/a/b && ln -s b /c/a/l && chmod 0750 /c/a\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile)]);
    docker.cais(&["build", context.path()]).await;
    let file = node.home.join("mine.tar");
    let path = file.to_str().unwrap();
    let said = docker.cais_refused(&["builder", "cache", "export", "other", "-o", path]).await;
    assert!(said.contains("no cache mount is called \"other\"") && !file.exists(), "{said}");
    docker.cais(&["builder", "cache", "export", "mine", "-o", path]).await;
    // In its place there is no room for another.
    let said = docker.cais_refused(&["builder", "cache", "import", "mine", "-i", path]).await;
    assert!(said.contains("remove it with `builder prune --filter id="), "{said}");
    docker.cais(&["builder", "prune", "-af"]).await;

    docker.cais(&["builder", "cache", "import", "mine", "-i", path]).await;
    let shows = "FROM busybox\nRUN --mount=type=cache,id=mine,target=/c \
                 cat /c/a/b && stat -c '%n %a %u:%g' /c /c/a /c/a/b && readlink /c/a/l\n";
    context.write("Dockerfile", shows);
    let said = docker.cais(&["build", context.path()]).await;
    assert!(said.contains("\nkept\n/c 755 0:0\n/c/a 750 0:0\n/c/a/b 644 3:4\nb\n"), "{said}");
    // The name in lists is as good as the id.
    let listed = docker.get("/system/df?type=build-cache").await.json();
    let rows = listed["BuildCache"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["Type"] == "exec.cachemount").unwrap();
    docker.cais(&["builder", "cache", "export", row["ID"].as_str().unwrap(), "-o", path]).await;
    let listed = std::process::Command::new("tar").args(["-tf", path]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "./\n./a\n./a/b\n./a/l\n");
    std::fs::write(&file, "no archive").unwrap();
    docker.cais_refused(&["builder", "cache", "import", "bad", "-i", path]).await;
    docker.cais(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
