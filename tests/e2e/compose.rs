//! Compose files brought up, changed, scaled and taken down: by docker's own `docker compose`, by ours, and by both in turn.

use std::path::Path;

use tempfile::TempDir;

use crate::cais::cais;
use crate::docker::{Docker, output};
use crate::docker_containers::node;

/// A database that others wait for, and a service beside it. What is to stop does so at once.
const FILE: &str = r#"
services:
  db:
    image: busybox
    command: sh -c 'touch /data/ready; exec sleep 1000'
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, test, -f, /data/ready], interval: 100ms}
    volumes: [data:/data]
  app:
    image: busybox
    command: [sh, -c, "echo started; exec sleep 1000"]
    stop_signal: SIGKILL
    depends_on: {db: {condition: service_healthy}}
    networks: {default: {aliases: [web]}, back: }
    environment: {SETTING: "${SETTING:-one}"}
networks: {back: {internal: true}}
volumes: {data: }
"#;

const THEIRS: &str = "docker-compose";

/// A directory with the file, in which clients are called.
struct Project<'a> {
    docker: &'a Docker,
    directory: TempDir,
}

impl<'a> Project<'a> {
    fn new(docker: &'a Docker, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("compose.yaml"), text);
        Self { docker, directory }
    }

    /// Calls a client; what it wrote to standard output. `setting` is what the file's variable stands for.
    async fn run(&self, client: &str, setting: &str, words: &[&str]) -> String {
        let ours = cais();
        let (program, before) = match client {
            THEIRS => (THEIRS, &["-p", "shop"][..]),
            _ => (ours.to_str().unwrap(), &["compose", "-p", "shop"][..]),
        };
        let words = [before, words].concat();
        let mut command = self.docker.command_of(program, &words);
        command.current_dir(self.directory.path()).env("SETTING", setting);
        let done = output(command.spawn().expect("start a client"), client).await;
        assert_eq!(done.code, 0, "{client} {words:?}: {done:?}");
        done.stdout.trim_end().to_owned()
    }

    async fn id(&self, name: &str) -> String {
        self.docker.inspect(name).await["Id"].as_str().unwrap().to_owned()
    }

    async fn ids(&self) -> [String; 2] {
        [self.id("shop-db-1").await, self.id("shop-app-1").await]
    }

    async fn is_gone(&self) {
        assert_eq!(self.docker.run(&["ps", "-aq"]).await, "");
        assert_eq!(self.docker.run(&["volume", "ls", "-q"]).await, "");
        assert_eq!(self.docker.run(&["network", "ls", "-q", "--filter", "type=custom"]).await, "");
    }
}

fn write(path: &Path, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "nobody reads it meanwhile")]
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn docker_compose_brings_a_project_up_changes_and_removes_it() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, FILE);
    project.run(THEIRS, "one", &["up", "-d"]).await;
    let first = project.ids().await;
    assert_eq!(project.run(THEIRS, "one", &["exec", "-T", "app", "echo", "hi"]).await, "hi");
    assert!(project.run(THEIRS, "one", &["logs", "app"]).await.contains("started"));

    // Nothing to do, then one service to make anew.
    project.run(THEIRS, "one", &["up", "-d"]).await;
    assert_eq!(project.ids().await, first);
    project.run(THEIRS, "two", &["up", "-d", "--scale", "app=2"]).await;
    let [db, app] = project.ids().await;
    assert_eq!(db, first[0]);
    assert_ne!(app, first[1]);
    assert_eq!(project.run(THEIRS, "two", &["ps", "-q", "app"]).await.lines().count(), 2);

    project.run(THEIRS, "two", &["down", "-v"]).await;
    project.is_gone().await;
}

/// Labels, hashes and names are the same, so each client finds what the other made, and leaves it alone.
#[tokio::test]
async fn cais_compose_and_docker_compose_share_a_project() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, FILE);
    project.run("cais", "one", &["up", "-d"]).await;
    let first = project.ids().await;
    project.run(THEIRS, "one", &["up", "-d"]).await;
    project.run("cais", "one", &["up", "-d"]).await;
    assert_eq!(project.ids().await, first);

    project.run("cais", "two", &["up", "-d", "--scale", "app=2"]).await;
    let changed = project.ids().await;
    assert_eq!(changed[0], first[0]);
    assert_ne!(changed[1], first[1]);
    project.run(THEIRS, "two", &["up", "-d", "--scale", "app=2"]).await;
    assert_eq!(project.ids().await, changed);
    assert_eq!(project.run("cais", "two", &["ps", "-q"]).await.lines().count(), 3);

    // Which of two outdated ones docker compose keeps when it scales down is chance: it keeps both.
    project.run(THEIRS, "one", &["up", "-d", "--scale", "app=2"]).await;
    let theirs = project.ids().await;
    assert_ne!(theirs[1], changed[1]);
    project.run("cais", "one", &["up", "-d"]).await;
    assert_eq!(project.ids().await, theirs);
    assert_eq!(project.run("cais", "one", &["ps", "-q", "app"]).await, theirs[1]);
    assert_eq!(project.run("cais", "one", &["exec", "-T", "app", "echo", "hi"]).await, "hi");
    assert_eq!(project.run("cais", "one", &["logs", "app"]).await, "app-1  | started");

    // What the file no longer declares may hold the only copy of something: it stays.
    let label = "com.docker.compose.project=shop";
    docker.run(&["volume", "create", "--label", label, "shop_former"]).await;
    project.run("cais", "one", &["down", "-v"]).await;
    assert_eq!(docker.run(&["volume", "ls", "-q"]).await, "shop_former");
    docker.run(&["volume", "rm", "shop_former"]).await;
    project.is_gone().await;
}

#[tokio::test]
async fn cais_compose_says_early_what_cannot_be() {
    let (_node, docker) = node().await;
    let text = "services: {web: {image: busybox, ports: [\"18080:80\"]}, odd: {image: busybox, links: [web]}}\n";
    let project = Project::new(&docker, text);
    let file = project.directory.path().join("compose.yaml");
    let file = file.to_str().unwrap();
    let words = ["compose", "-f", file, "up", "-d", "--scale", "web=3", "web"];
    let refused = docker.cais_refused(&words).await;
    assert!(refused.contains("write \"18080-18082:80\""), "{refused}");
    let refused = docker.cais_refused(&["compose", "-f", file, "up", "-d", "odd"]).await;
    assert!(refused.contains("services.odd.links: cais compose cannot do this yet"), "{refused}");
}
