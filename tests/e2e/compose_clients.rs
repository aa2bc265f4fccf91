//! One project led through its life by four clients: `docker compose` 2.40 with the classic builder and with buildx,
//! `cais compose`, and `docker-compose` 1.29, which was written in Python and is what Debian 12 has. After every step what is
//! there is compared: containers with their configuration and labels, networks, volumes, images, what was said, exit codes.
//!
//! The first is the one that the others are compared with. What they do otherwise stands in `compose-differences.txt`, each with
//! the reason; one that is not there, or is not so, fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;
use tokio::time::timeout;

use crate::compose::{BUILDX, OLDER, Project, THEIRS, write};
use crate::docker::Docker;
use crate::docker_buildx::with_buildx;
use crate::docker_containers::node;
use crate::wait::{LONG, until};

const FILE: &str = r#"
services:
  db:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: [data:/data]
  web:
    build: site
    command: [sh, -c, "echo started; touch /up; exec sleep 1000"]
    stop_signal: SIGKILL
    depends_on: [db]
    environment: {SETTING: "${SETTING:-one}"}
    networks: {default: , back: {aliases: [front]}}
    restart: unless-stopped
    labels: {tier: web}
networks: {back: {internal: true}}
volumes: {data: }
"#;

/// What a client is called with, and what docker compose 2.40 makes of it.
struct Step {
    name: &'static str,
    words: &'static [&'static str],
    code: i32,
    /// The containers, their states, and whether they are new, were kept, or run again.
    then: &'static [&'static str],
    compared: Compared,
}

/// Beside the exit code and the containers' states.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Nothing,
    Said,
    Everything,
}

const NONE: &[&str] = &[];
const KEPT: &[&str] = &["db-1 running kept", "web-1 running kept"];
const MORE: &[&str] =
    &["db-1 running kept", "web-1 running kept", "web-2 running new", "web-3 running new"];

/// From here on `SETTING` is another one.
const CHANGED: &str = "changed";

#[rustfmt::skip]
const LIFE: &[Step] = {
    use Compared::{Everything, Nothing, Said};
    const fn step(name: &'static str, words: &'static [&'static str], code: i32, then: &'static [&'static str], compared: Compared) -> Step {
        Step { name, words, code, then, compared }
    }
    &[
        step("hash", &["config", "--hash", "*"], 0, NONE, Said),
        step("build", &["build"], 0, NONE, Everything),
        step("up", &["up", "-d"], 0, &["db-1 running new", "web-1 running new"], Everything),
        step("again", &["up", "-d"], 0, KEPT, Nothing),
        step("more", &["up", "-d", "--scale", "web=3"], 0, MORE, Nothing),
        step("fewer", &["up", "-d", "--scale", "web=1"], 0, KEPT, Nothing),
        step(CHANGED, &["up", "-d"], 0, &["db-1 running kept", "web-1 running new"], Everything),
        step("services", &["ps", "--services"], 0, KEPT, Said),
        step("run", &["run", "--rm", "-T", "web", "sh", "-c", "cat /page; exit 3"], 3, KEPT, Said),
        step("exec", &["exec", "-T", "web", "sh", "-c", "until [ -e /up ]; do sleep 0.01; done; echo $SETTING; exit 4"], 4, KEPT, Said),
        step("logs", &["logs", "--no-color", "web"], 0, KEPT, Said),
        step("stop", &["stop"], 0, &["db-1 exited 137 kept", "web-1 exited 137 kept"], Nothing),
        step("start", &["start"], 0, &["db-1 running again", "web-1 running again"], Nothing),
        step("restart", &["restart", "db"], 0, &["db-1 running again", "web-1 running kept"], Nothing),
        step("kill", &["kill", "web"], 0, &["db-1 running kept", "web-1 exited 137 kept"], Nothing),
        step("revive", &["up", "-d"], 0, &["db-1 running kept", "web-1 running again"], Nothing),
        step("unknown", &["up", "-d", "none"], 1, KEPT, Nothing),
        step("nowhere", &["exec", "-T", "none", "true"], 1, KEPT, Nothing),
        step("down", &["down", "-v", "--rmi", "local"], 0, NONE, Everything),
    ]
};

#[tokio::test]
async fn four_compose_clients_lead_a_project_alike() {
    let (_node, docker) = with_buildx().await;
    let project = project(&docker);
    let reference = life(&docker, &project, THEIRS).await;
    for (step, facts) in LIFE.iter().zip(&reference) {
        let states = facts.iter().filter_map(|it| it.strip_prefix("state ")).collect::<Vec<_>>();
        assert_eq!(states, step.then, "{}", step.name);
    }
    let listed = Listed::read();
    let mut wrong = String::new();
    for (name, client) in [("buildx", BUILDX), ("cais", "cais"), ("1.29", OLDER)] {
        let found = differences(name, &reference, &life(&docker, &project, client).await, &listed);
        let known = listed.of(name);
        for line in found.difference(&known) {
            writeln!(wrong, "not listed: {line}").unwrap();
        }
        for line in known.difference(&found) {
            writeln!(wrong, "listed, and not so: {line}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What 1.29 made is seen and led by the others, and the other way round. What is hashed differs, so the next `up` of another
/// generation makes containers anew, and networks and volumes stay.
#[tokio::test]
async fn a_project_of_docker_compose_1_29_is_led_by_the_others() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  db: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, volumes: [data:/data]}
  app: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, depends_on: [db]}
volumes: {data: }
"#;
    let project = Project::new(&docker, text);
    let seen = async |client: &str| {
        let ids = project.run(client, "", &["ps", "-q"]).await;
        ids.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let kept = async || {
        let network = docker.run(&["network", "inspect", "-f", "{{.Id}}", "shop_default"]).await;
        network + &docker.run(&["volume", "inspect", "-f", "{{.CreatedAt}}", "shop_data"]).await
    };
    for other in [THEIRS, "cais"] {
        project.run(OLDER, "", &["up", "-d"]).await;
        let (first, around) = (seen(OLDER).await, kept().await);
        assert_eq!(seen(other).await, first, "{other}");
        project.run(other, "", &["stop"]).await;
        project.run(OLDER, "", &["start"]).await;
        let said = project.run(other, "", &["exec", "-T", "app", "echo", "hi"]).await;
        assert_eq!((said.as_str(), seen(other).await), ("hi", first.clone()), "{other}");

        project.run(other, "", &["up", "-d"]).await;
        let second = seen(other).await;
        assert!(second.len() == 2 && first.is_disjoint(&second), "{other}: {first:?} {second:?}");
        assert_eq!((seen(OLDER).await, kept().await), (second, around), "{other}");
        project.run(OLDER, "", &["down", "-v"]).await;
        project.is_gone().await;
    }
}

fn project(docker: &Docker) -> Project<'_> {
    let project = Project::new(docker, FILE);
    let site = project.path("site");
    std::fs::create_dir(&site).unwrap();
    write(&site.join("Dockerfile"), "FROM busybox\nCOPY page /\n");
    write(&site.join("page"), "hello\n");
    project
}

/// What there is after each step.
async fn life(docker: &Docker, project: &Project<'_>, client: &str) -> Vec<Vec<String>> {
    let directory = project.path("").display().to_string();
    let names = BTreeMap::from([(directory, "DIR/".to_owned())]);
    let mut place = Place { docker, names, seen: BTreeMap::new() };
    let mut life = Vec::new();
    let mut setting = "one";
    for step in LIFE {
        if step.name == CHANGED {
            setting = "two";
        }
        let done = project.done(client, setting, step.words).await;
        assert_eq!(done.code, step.code, "{client}: {}: {done:?}", step.name);
        // A signal is sent before its effect is seen. What does not come is told as a difference.
        let come = until("the containers of this step", async || {
            let states = place.states().await.join("\n").replace('_', "-");
            states == step.then.join("\n")
        });
        let _ = timeout(LONG / 4, come).await;
        let mut facts = place.states().await;
        facts.iter_mut().for_each(|it| it.insert_str(0, "state "));
        match step.compared {
            Compared::Nothing => {}
            Compared::Said => facts.extend(done.stdout.lines().map(|it| format!("said {it}"))),
            Compared::Everything => facts.extend(place.everything().await),
        }
        place.remember().await;
        life.push(facts);
    }
    project.is_gone().await;
    for name in place.images().await {
        docker.run(&["rmi", "-f", &name]).await;
    }
    life
}

/// What the door tells, with names in the place of ids.
struct Place<'a> {
    docker: &'a Docker,
    names: BTreeMap<String, String>,
    /// Of the containers after the step before: which it is, and since when it runs.
    seen: BTreeMap<String, [String; 2]>,
}

impl Place<'_> {
    async fn list(&self, path: &str) -> Vec<Value> {
        let listed = self.docker.get(path).await.json();
        listed.as_array().unwrap_or_else(|| panic!("{listed}")).clone()
    }

    async fn containers(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for listed in self.list("/containers/json?all=1").await {
            let path = format!("/containers/{}/json", text(&listed["Id"]));
            let container = self.docker.get(&path).await;
            // One that was removed meanwhile is no more.
            if container.status.is_success() {
                all.push(container.json());
            }
        }
        all.sort_by_key(|it| text(&it["Name"]));
        all
    }

    async fn states(&self) -> Vec<String> {
        let state = |container: &Value| {
            let (name, state) = (name(container), &container["State"]);
            let mark = match self.seen.get(&name) {
                Some([id, _]) if *id != text(&container["Id"]) => "new",
                None => "new",
                Some([_, started]) if *started != text(&state["StartedAt"]) => "again",
                Some(_) => "kept",
            };
            let code = match text(&state["Status"]).as_str() {
                "exited" => format!(" {}", state["ExitCode"]),
                _ => String::new(),
            };
            let name = name.strip_prefix("shop").unwrap_or(&name).to_owned();
            format!("{} {}{code} {mark}", &name[1..], text(&state["Status"]))
        };
        self.containers().await.iter().map(state).collect()
    }

    async fn remember(&mut self) {
        self.seen.clear();
        for container in self.containers().await {
            let (name, id) = (name(&container), text(&container["Id"]));
            self.seen.insert(name.clone(), [id.clone(), text(&container["State"]["StartedAt"])]);
            self.names.insert(id[..12].to_owned(), format!("<{name}>"));
            self.names.insert(id, format!("<{name}>"));
        }
    }

    /// One fact a line.
    async fn everything(&mut self) -> Vec<String> {
        self.remember().await;
        let mut facts = Vec::new();
        for image in self.list("/images/json").await {
            let tag = text(&image["RepoTags"][0]);
            self.names.insert(text(&image["Id"]), format!("<{tag}>"));
        }
        for name in self.images().await {
            facts.push(format!("image {name}"));
            let image = self.docker.get(&format!("/images/{name}/json")).await.json();
            self.flatten(&format!("image {name}"), &image["Config"]["Labels"], &mut facts);
        }
        for container in self.containers().await {
            let name = name(&container);
            for part in ["Config", "HostConfig", "Mounts"] {
                self.flatten(&format!("{name} {part}"), &container[part], &mut facts);
            }
            for (network, end) in container["NetworkSettings"]["Networks"].as_object().unwrap() {
                for part in ["Aliases", "DNSNames", "IPAMConfig", "Links", "DriverOpts"] {
                    self.flatten(&format!("{name} {network} {part}"), &end[part], &mut facts);
                }
            }
        }
        for network in self.list("/networks?filters={%22type%22:[%22custom%22]}").await {
            let name = text(&network["Name"]);
            for part in ["Driver", "Internal", "Attachable", "EnableIPv6", "Options", "Labels"] {
                self.flatten(&format!("network {name} {part}"), &network[part], &mut facts);
            }
        }
        let volumes = self.docker.get("/volumes").await.json();
        for volume in volumes["Volumes"].as_array().into_iter().flatten() {
            let name = text(&volume["Name"]);
            for part in ["Driver", "Options", "Labels"] {
                self.flatten(&format!("volume {name} {part}"), &volume[part], &mut facts);
            }
        }
        // Each client writes its own.
        const VERSION_LABEL: &str = "com.docker.compose.version=";
        for fact in &mut facts {
            if let Some(at) = fact.find(VERSION_LABEL) {
                fact.truncate(at + VERSION_LABEL.len());
                fact.push_str("\"VERSION\"");
            }
        }
        facts
    }

    /// The names of images that the project has made.
    async fn images(&self) -> Vec<String> {
        let images = self.list("/images/json").await;
        let names = images.iter().map(|it| text(&it["RepoTags"][0]));
        names.filter(|name| name.starts_with("shop")).collect()
    }

    /// One line for each member that is neither empty nor an object. Only of words that are executed the order matters.
    fn flatten(&self, path: &str, value: &Value, facts: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (key, member) in members.iter().filter(|(key, _)| !ELSEWHERE.contains(&&***key))
                {
                    self.flatten(&format!("{path}.{key}"), member, facts);
                }
            }
            Value::Array(list) if !path.ends_with("Cmd") && !path.ends_with("Entrypoint") => {
                let mut list = list.iter().map(|it| self.named(it)).collect::<Vec<_>>();
                list.sort();
                facts.extend(list.iter().map(|it| format!("{path} has {it}")));
            }
            Value::Null | Value::Bool(false) => {}
            Value::String(text) if text.is_empty() => {}
            Value::Number(number) if number.as_i64() == Some(0) => {}
            _ => facts.push(format!("{path}={}", self.named(value))),
        }
    }

    fn named(&self, value: &Value) -> String {
        let names = self.names.iter().rev();
        names.fold(value.to_string(), |text, (id, name)| text.replace(id, name))
    }
}

/// What is asked for with volumes is seen in `Mounts`, in whichever way it was asked for; the others are defaults of the
/// daemon, which clients send or leave out.
const ELSEWHERE: &[&str] = &["Binds", "ConsoleSize", "Mounts", "ShmSize"];

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn name(container: &Value) -> String {
    text(&container["Name"])[1..].to_owned()
}

/// `CLIENT < FACT` of what the first one alone has, `CLIENT > FACT` of the second one.
fn differences(
    client: &str,
    first: &[Vec<String>],
    second: &[Vec<String>],
    listed: &Listed,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (first, second) in first.iter().zip(second) {
        let first: BTreeSet<_> = first.iter().map(|it| listed.comparable(client, it)).collect();
        let second: BTreeSet<_> = second.iter().map(|it| listed.comparable(client, it)).collect();
        found.extend(first.difference(&second).map(|fact| format!("{client} < {fact}")));
        found.extend(second.difference(&first).map(|fact| format!("{client} > {fact}")));
    }
    found
}

/// Which hash it is differs between generations, as what is hashed does; that there is one, does not.
fn without_hashes(fact: &str) -> String {
    let is_hash = |it: &str| it.len() == 64 && it.bytes().all(|it| it.is_ascii_hexdigit());
    let word = |it: &str| if is_hash(it) { "HASH".to_owned() } else { it.to_owned() };
    let quoted = fact.split('"').map(word).collect::<Vec<_>>().join("\"");
    quoted.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// What clients do otherwise than docker compose with the classic builder.
struct Listed {
    differences: BTreeSet<String>,
    /// Client, its name for something, the other name.
    names: Vec<[String; 3]>,
}

impl Listed {
    fn read() -> Self {
        let mut listed = Self { differences: BTreeSet::new(), names: Vec::new() };
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/compose-differences.txt");
        let table = std::fs::read_to_string(file).unwrap();
        for line in table.lines().filter(|it| !it.is_empty() && !it.starts_with('#')) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                [client, "name", theirs, other] => {
                    listed.names.push([client, theirs, other].map(str::to_owned));
                }
                _ => assert!(listed.differences.insert(line.to_owned()), "twice: {line}"),
            }
        }
        listed
    }

    fn of(&self, client: &str) -> BTreeSet<String> {
        let start = format!("{client} ");
        self.differences.iter().filter(|it| it.starts_with(&start)).cloned().collect()
    }

    /// With the names that the others give, and for those that hash otherwise without hashes.
    fn comparable(&self, client: &str, fact: &str) -> String {
        let names = self.names.iter().filter(|it| it[0] == client);
        let mut fact = fact.to_owned();
        for [_, theirs, other] in names.clone() {
            fact = fact.replace(theirs, other);
        }
        if names.count() > 0 { without_hashes(&fact) } else { fact }
    }
}
