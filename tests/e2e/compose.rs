//! Compose files brought up, changed, scaled and taken down: by docker's own `docker compose`, by ours, and by both in turn.

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::Child;

use crate::cais::cais;
use crate::docker::{Docker, Output, output};
use crate::docker_containers::node;
use crate::wait::until;

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

/// docker compose 2.40, which builds with the classic call here.
pub(crate) const THEIRS: &str = "docker-compose";
/// The same with buildx, where the client's configuration has it.
pub(crate) const BUILDX: &str = "docker-compose with buildx";
/// Of Debian 12, which is another program of the same name.
pub(crate) const OLDER: &str = "docker-compose-1.29";

/// A directory with the file, in which clients are called.
pub(crate) struct Project<'a> {
    docker: &'a Docker,
    directory: TempDir,
}

impl<'a> Project<'a> {
    pub(crate) fn new(docker: &'a Docker, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("compose.yaml"), text);
        Self { docker, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn spawn(&self, client: &str, setting: &str, words: &[&str]) -> Child {
        let ours = cais();
        let (program, before) = match client {
            THEIRS | BUILDX => (THEIRS, &["-p", "shop"][..]),
            OLDER => (OLDER, &["-p", "shop"][..]),
            _ => (ours.to_str().unwrap(), &["compose", "-p", "shop"][..]),
        };
        let mut command = self.docker.command_of(program, &[before, words].concat());
        command
            .current_dir(self.directory.path())
            .env("SETTING", setting)
            .env("DOCKER_BUILDKIT", if client == BUILDX { "1" } else { "0" });
        command.spawn().expect("start a client")
    }

    pub(crate) async fn done(&self, client: &str, setting: &str, words: &[&str]) -> Output {
        output(self.spawn(client, setting, words), client).await
    }

    /// Calls a client; what it wrote to standard output. `setting` is what the file's variable stands for.
    pub(crate) async fn run(&self, client: &str, setting: &str, words: &[&str]) -> String {
        let done = self.done(client, setting, words).await;
        assert_eq!(done.code, 0, "{client} {words:?}: {done:?}");
        done.stdout.trim_end().to_owned()
    }

    pub(crate) async fn id(&self, name: &str) -> String {
        self.docker.inspect(name).await["Id"].as_str().unwrap().to_owned()
    }

    async fn ids(&self) -> [String; 2] {
        [self.id("shop-db-1").await, self.id("shop-app-1").await]
    }

    pub(crate) async fn is_gone(&self) {
        assert_eq!(self.docker.run(&["ps", "-aq"]).await, "");
        assert_eq!(self.docker.run(&["volume", "ls", "-q"]).await, "");
        assert_eq!(self.docker.run(&["network", "ls", "-q", "--filter", "type=custom"]).await, "");
    }
}

pub(crate) fn write(path: &Path, text: &str) {
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
    let text = "services: {web: {image: busybox, ports: [\"18080:80\"]}, odd: {image: busybox, cpu_count: 1}}\n";
    let project = Project::new(&docker, text);
    let file = project.directory.path().join("compose.yaml");
    let file = file.to_str().unwrap();
    let words = ["compose", "-f", file, "up", "-d", "--scale", "web=3", "web"];
    let refused = docker.cais_refused(&words).await;
    assert!(refused.contains("write \"18080-18082:80\""), "{refused}");
    let refused = docker.cais_refused(&["compose", "-f", file, "up", "-d", "odd"]).await;
    assert!(
        refused.contains("services.odd.cpu_count: cais compose cannot do this yet"),
        "{refused}"
    );
}

/// What they write, the names before it, and how they ended, is told alike; in which order, is chance.
#[tokio::test]
async fn up_in_the_foreground_shows_what_docker_compose_shows() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  db: {image: busybox, command: [sh, -c, "echo one; echo two >&2; printf three"]}
  longer: {image: busybox, command: [sh, -c, "echo up; exit 3"], container_name: own, depends_on: [db]}
  quiet: {image: busybox, command: [echo, hidden], attach: false}
  long: {image: busybox, command: sleep 1000, profiles: [more], stop_signal: SIGKILL}
"#;
    let project = Project::new(&docker, text);
    let shown = async |client: &str, words: &[&str]| {
        let done = project.done(client, "", &[&["up"], words].concat()).await;
        // How wide a name is depends, with docker compose, on who has written before.
        let plain = |text: &str| -> Vec<String> {
            let text = ["\r\x1b[K", "\x1b[31m", "\x1b[1m", "\x1b[0m"]
                .iter()
                .fold(text.to_owned(), |text, code| text.replace(code, ""));
            let line = |line: &str| match line.split_once(" | ") {
                Some((name, rest)) => format!("{} | {rest}", name.trim_end()),
                None => line.to_owned(),
            };
            let mut lines: Vec<String> = text.lines().map(line).collect();
            lines.sort();
            lines
        };
        let lines = plain(&done.stdout);
        let mut told = plain(&done.stderr);
        told.retain(|it| it.contains(" | ") || it.contains("Aborting"));
        project.run(client, "", &["down", "-t", "0"]).await;
        (done.code, lines, told)
    };
    for words in [
        &[][..],
        &["--no-log-prefix", "--no-attach", "longer"],
        &["--exit-code-from", "longer", "longer", "long"],
    ] {
        let (theirs, ours) = (shown(THEIRS, words).await, shown("cais", words).await);
        assert_eq!(ours, theirs, "{words:?}");
    }
    project.is_gone().await;
}

/// The first Ctrl-C stops, a second one kills what does not listen.
#[tokio::test]
async fn ctrl_c_ends_up_in_the_foreground() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  deaf: {image: busybox, command: [sh, -c, "trap 'echo deaf' TERM; echo ready; while true; do sleep 0.1; done"], stop_grace_period: 1h}
  fine: {image: busybox, command: [sh, -c, "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"]}
"#;
    let project = Project::new(&docker, text);
    let up = project.spawn("cais", "", &["up"]);
    let pid = Pid::from_raw(up.id().unwrap().try_into().unwrap());
    let writes = async |text: &str, count: usize| {
        until(text, async || {
            let logs = project.done("cais", "", &["logs"]).await.stdout;
            logs.matches(text).count() == count
        })
        .await;
    };
    writes("| ready", 2).await;
    kill(pid, Signal::SIGINT).unwrap();
    writes("| deaf", 1).await;
    // The second one is for the other alone.
    until("the fine one has ended", async || {
        project.run("cais", "", &["ps", "-q", "fine"]).await.is_empty()
    })
    .await;
    kill(pid, Signal::SIGINT).unwrap();
    let done = output(up, "up").await;
    assert_eq!(done.code, 130, "{done:?}");
    for line in [
        "Attaching to deaf-1, fine-1",
        "Gracefully Stopping... press Ctrl+C again to force",
        "fine-1  | bye",
        "fine-1 exited with code 0",
        "deaf-1 exited with code 137",
    ] {
        assert!(done.stdout.lines().any(|it| it == line), "{line:?} in {done:?}");
    }
    assert_eq!(project.run("cais", "", &["ps", "-q"]).await, "");
    project.run("cais", "", &["down"]).await;
    project.is_gone().await;
}

/// Who waits for a dependency that is never ready has nothing of his own to end.
#[tokio::test]
async fn ctrl_c_ends_up_that_still_starts() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  db:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    healthcheck: {test: ["CMD", "false"], interval: 1h, start_period: 1h, start_interval: 1h}
  app: {image: busybox, command: sleep 1000, depends_on: {db: {condition: service_healthy}}}
"#;
    let project = Project::new(&docker, text);
    for (words, left) in [(&["up"][..], 0), (&["up", "app"], 1)] {
        let up = project.spawn("cais", "", words);
        let pid = Pid::from_raw(up.id().unwrap().try_into().unwrap());
        until("the database runs", async || {
            !project.run("cais", "", &["ps", "-q", "db"]).await.is_empty()
        })
        .await;
        kill(pid, Signal::SIGINT).unwrap();
        let done = output(up, "up").await;
        assert_eq!(done.code, 130, "{done:?}");
        // What was not named is not ended, as with docker compose.
        assert_eq!(project.run("cais", "", &["ps", "-q"]).await.lines().count(), left);
        project.run("cais", "", &["down"]).await;
    }
    project.is_gone().await;
}

/// What fails on the way leaves what was there, and nothing that passes for more than it is.
#[tokio::test]
async fn cais_compose_leaves_nothing_half_made() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  job: {image: busybox, command: "true"}
  app:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    depends_on: {job: {condition: service_completed_successfully}}
    environment: {SETTING: "${SETTING:-one}"}
    secrets: [{source: word, uid: "7"}]
  built: {build: site, profiles: [more]}
secrets: {word: {file: ./word}}
"#;
    let project = Project::new(&docker, text);
    let word = project.path("word");
    write(&word, "hello");
    // A job that is done is no service that has failed.
    project.run("cais", "one", &["up", "-d", "--wait"]).await;
    let app = project.id("shop-app-1").await;
    std::fs::remove_file(&word).unwrap();
    let refused = project.done("cais", "two", &["up", "-d"]).await;
    assert_ne!(refused.code, 0);
    assert_eq!(project.run("cais", "two", &["ps", "-aq", "app"]).await, app);
    assert_eq!(project.run("cais", "two", &["ps", "-q"]).await, app);

    let site = project.path("site");
    std::fs::create_dir(&site).unwrap();
    write(&site.join("Dockerfile"), "FROM busybox\n");
    write(&site.join(".dockerignore"), "a[b\n");
    let refused = project.done("cais", "", &["build", "built"]).await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains(".dockerignore"), "{refused:?}");
    assert_eq!(docker.run(&["images", "-q", "shop-built"]).await, "");
    project.run("cais", "", &["down"]).await;
    project.is_gone().await;
}

/// What the two write on networks and volumes is the same, so neither refuses, renews or changes what the other made.
#[tokio::test]
async fn networks_and_volumes_are_the_same_to_both_clients() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  app: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: [default, back], volumes: ["data:/data", "plain:/plain"]}
networks: {back: {internal: true, labels: {a: b}, driver_opts: {x: y}, ipam: {config: [{subnet: 10.77.3.0/24, gateway: 10.77.3.1}]}}}
volumes: {data: {labels: {a: b}, name: kept}, plain: }
"#;
    let project = Project::new(&docker, text);
    let seen = async || {
        let mut seen = Vec::new();
        for (kind, name, own) in [
            ("network", "shop_default", "{{.Id}}"),
            ("network", "shop_back", "{{.Id}}"),
            ("volume", "kept", "{{.CreatedAt}}"),
            ("volume", "shop_plain", "{{.CreatedAt}}"),
        ] {
            let format = format!("{{{{json .Labels}}}}\n{own}");
            let shown = docker.run(&[kind, "inspect", "-f", &format, name]).await;
            let (labels, own) = shown.split_once('\n').unwrap();
            assert!(labels.contains("com.docker.compose.config-hash"), "{labels}");
            seen.push((labels.to_owned(), own.to_owned()));
        }
        (seen, project.id("shop-app-1").await)
    };
    let mut labels = Vec::new();
    for (first, second) in [(THEIRS, "cais"), ("cais", THEIRS)] {
        project.run(first, "", &["up", "-d"]).await;
        let made = seen().await;
        let again = project.done(second, "", &["up", "-d"]).await;
        assert_eq!(again.code, 0, "{again:?}");
        assert!(!again.stderr.contains("exists, but"), "{again:?}");
        assert_eq!(seen().await, made, "{second} after {first}");
        labels.push(made.0.into_iter().map(|it| it.0).collect::<Vec<_>>());
        project.run(second, "", &["down", "-v"]).await;
        project.is_gone().await;
    }
    assert_eq!(labels[0], labels[1]);
}

#[tokio::test]
async fn cais_compose_builds_runs_and_scales_as_docker_compose_does() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  web:
    build: {context: site, args: {WORD: one}, labels: {a: b}, target: final}
    command: sh -c 'echo ready; exec sleep 1000'
    stop_signal: SIGKILL
    ports: ["18180-18182:80"]
    volumes: ["data:/data"]
    depends_on: [db]
  db: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}
volumes: {data: }
"#;
    let project = Project::new(&docker, text);
    let site = project.directory.path().join("site");
    std::fs::create_dir(&site).unwrap();
    for (name, text) in [
        (
            "Dockerfile",
            "FROM busybox AS final\nARG WORD\nCOPY . /site\nRUN echo $WORD > /word\nFROM nowhere\n",
        ),
        (".dockerignore", "secret\n"),
        ("secret", "not for images"),
        ("page", "hello"),
    ] {
        write(&site.join(name), text);
    }
    // docker compose builds with the call that we have when it is told so; labels and result are the same.
    let mut built = Vec::new();
    for client in [THEIRS, "cais"] {
        project.run(client, "", &["build"]).await;
        let labels = docker.run(&["inspect", "-f", "{{json .Config.Labels}}", "shop-web"]).await;
        let script = "cat /word /site/page; ls -A /site; echo $A; exit 3";
        let words = ["run", "--rm", "-T", "--no-deps", "-e", "A=b", "web", "sh", "-c", script];
        let done = project.done(client, "", &words).await;
        assert_eq!(docker.run(&["ps", "-aq"]).await, "");
        built.push((labels, done.code, done.stdout));
        docker.run(&["image", "rm", "shop-web"]).await;
    }
    assert_eq!(built[0], built[1]);
    let shown = "one\nhello.dockerignore\nDockerfile\npage\nb\n";
    assert_eq!((built[1].1, built[1].2.as_str()), (3, shown));

    // What is missing is built; ports of a range are spread, and both clients tell which.
    project.run("cais", "", &["up", "-d", "--scale", "web=3", "--quiet-build"]).await;
    for index in ["1", "2", "3"] {
        let words = ["port", "--index", index, "web", "80"];
        let port = project.run("cais", "", &words).await;
        assert_eq!(port, project.run(THEIRS, "", &words).await);
        assert_eq!(port, format!("0.0.0.0:1818{}", index.parse::<u16>().unwrap() - 1));
    }
    for words in [&["images", "-q"][..], &["volumes"], &["top", "db"]] {
        let mut both = Vec::new();
        for client in ["cais", THEIRS] {
            let text = project.run(client, "", words).await;
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            both.push(lines);
        }
        assert_eq!(both[0], both[1], "{words:?}");
    }

    // A container of one command is known to both as what it is.
    let id = project.run("cais", "", &["run", "-d", "-v", "data:/x", "web", "sleep", "1000"]).await;
    let mounts = docker
        .run(&["inspect", "-f", "{{range .Mounts}}{{.Name}}:{{.Destination}} {{end}}", &id])
        .await;
    assert!(mounts.contains("shop_data:/x"), "{mounts}");
    for client in ["cais", THEIRS] {
        assert_eq!(project.run(client, "", &["ps", "-q", "web"]).await.lines().count(), 3);
        assert!(project.run(client, "", &["ps", "-aq", "web"]).await.contains(&id));
    }
    project.run("cais", "", &["scale", "web=1"]).await;
    assert_eq!(project.run("cais", "", &["ps", "-q", "web"]).await.lines().count(), 1);

    write(&site.join("copied"), "there and back");
    project.run("cais", "", &["cp", "site/copied", "db:/tmp/"]).await;
    assert_eq!(
        project.run("cais", "", &["exec", "-T", "db", "cat", "/tmp/copied"]).await,
        "there and back"
    );
    let waiting = project.spawn("cais", "", &["wait", "db"]);
    project.run("cais", "", &["kill", "db"]).await;
    let waited = output(waiting, "wait").await;
    assert_eq!(waited.code, 137, "{waited:?}");
    project.run("cais", "", &["down", "-v", "-t", "0", "--rmi", "local"]).await;
    project.is_gone().await;
    let left = docker.run(&["images", "--format", "{{.Repository}}"]).await;
    assert_eq!(left, "busybox");
}
