//! What compose brings into containers: secrets and configurations, and files that change.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::compose::{Project, THEIRS, write};
use crate::docker::output;
use crate::docker_containers::node;
use crate::wait::until;

/// What is no file of the machine is copied, as docker compose does it. That a file is to belong to somebody is honoured here,
/// and passed over there.
#[tokio::test]
async fn secrets_and_configs_have_their_owners_and_modes() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  app:
    image: busybox
    command: sh -c 'for it in /run/secrets/word /settings /run/secrets/own; do stat -c "%u %g %a" $$it; cat $$it; echo; done'
    secrets: [{source: word, uid: "7", gid: "8", mode: 0400}, {source: file, target: own, uid: "9", mode: 0440}]
    configs: [settings]
secrets: {word: {environment: SETTING}, file: {file: ./file}}
configs: {settings: {content: hello}}
"#;
    let project = Project::new(&docker, text);
    write(&project.path("file"), "kept");
    let said = project.run("cais", "secret", &["run", "--rm", "-T", "app"]).await;
    assert_eq!(said, "7 8 400\nsecret\n0 0 444\nhello\n9 0 440\nkept");
    let theirs = project.run(THEIRS, "secret", &["run", "--rm", "-T", "app"]).await;
    assert!(theirs.starts_with("7 8 400\nsecret\n0 0 444\nhello\n"), "{theirs}");
    project.run("cais", "", &["down"]).await;
    project.is_gone().await;
}

#[tokio::test]
async fn cais_compose_watch_brings_changes_into_containers() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  web:
    build: site
    command: sleep 1000
    stop_signal: SIGKILL
    develop:
      watch:
        - {path: ./src, action: sync, target: /app, initial_sync: true, ignore: [skipped]}
        - {path: ./settings, action: restart}
        - {path: ./site, action: rebuild}
"#;
    let project = Project::new(&docker, text);
    for directory in ["src", "site"] {
        fs::create_dir(project.path(directory)).unwrap();
    }
    write(&project.path("site/Dockerfile"), "FROM busybox\nCOPY page /\n");
    for (path, text) in [("site/page", "old"), ("src/first", "1"), ("settings", "a")] {
        write(&project.path(path), text);
    }
    let watch = project.spawn("cais", "", &["watch", "--quiet"]);
    let says = async |command: &[&str], text: &str| {
        until(text, async || {
            let words = [&["exec", "shop-web-1"], command].concat();
            docker.try_run(&words).await.stdout == text
        })
        .await;
    };
    says(&["cat", "/app/first"], "1").await;
    fs::create_dir(project.path("src/deep")).unwrap();
    for (path, text) in [("src/skipped", "no"), ("src/deep/second", "2"), ("src/first", "one")] {
        write(&project.path(path), text);
    }
    says(&["cat", "/app/first", "/app/deep/second"], "one2").await;
    fs::remove_file(project.path("src/first")).unwrap();
    says(&["find", "/app"], "/app\n/app/deep\n/app/deep/second\n").await;

    let started = async || docker.inspect("shop-web-1").await["State"]["StartedAt"].clone();
    let before = started().await;
    write(&project.path("settings"), "b");
    until("a restart", async || started().await != before).await;

    let before = docker.inspect("shop-web-1").await["Id"].clone();
    write(&project.path("site/page"), "new");
    says(&["cat", "/page"], "new").await;
    assert_ne!(docker.inspect("shop-web-1").await["Id"], before);
    let unnamed = async || docker.run(&["images", "-q", "-f", "dangling=true"]).await;
    until("the former image to go", async || unnamed().await.is_empty()).await;

    kill(Pid::from_raw(watch.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let done = output(watch, "watch").await;
    assert!(done.stdout.contains("Watch enabled"), "{done:?}");
    assert!(done.stdout.contains("service \"web\" successfully built"), "{done:?}");

    // The same while one looks at what it writes: that its only container is made anew does not end it.
    write(&project.path("src/deep/second"), "3");
    let up = project.spawn("cais", "", &["up", "--watch"]);
    let pid = Pid::from_raw(up.id().unwrap().try_into().unwrap());
    says(&["cat", "/app/deep/second"], "3").await;
    let before = docker.inspect("shop-web-1").await["Id"].clone();
    write(&project.path("site/page"), "newer");
    says(&["cat", "/page"], "newer").await;
    assert_ne!(docker.inspect("shop-web-1").await["Id"], before);
    kill(pid, Signal::SIGINT).unwrap();
    let done = output(up, "up --watch").await;
    assert_eq!(done.code, 130, "{done:?}");
    assert!(done.stdout.contains("Watch enabled"), "{done:?}");
    // Unless former images are to stay.
    project.run("cais", "", &["up", "-d"]).await;
    until("no image without a name", async || unnamed().await.is_empty()).await;
    let watch = project.spawn("cais", "", &["watch", "--no-up", "--quiet", "--prune=false"]);
    write(&project.path("src/deep/second"), "4");
    says(&["cat", "/app/deep/second"], "4").await;
    write(&project.path("site/page"), "newest");
    says(&["cat", "/page"], "newest").await;
    kill(Pid::from_raw(watch.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    output(watch, "watch").await;
    assert_eq!(unnamed().await.lines().count(), 1);
    project.run("cais", "", &["down", "-t", "0"]).await;
    project.is_gone().await;
}
