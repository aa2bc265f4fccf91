//! What is done, as the docker client and others are told: names, order, times, filters; and clients that do not read.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::{LONG, until};

/// Says that it is ready, and ends with 3 when it is told to.
const STOPPABLE: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// Now, as the client takes a moment.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// What the client says was done from `since` up to now, in this format.
pub(crate) async fn told(
    docker: &Docker,
    since: &str,
    format: &str,
    filters: &[&str],
) -> Vec<String> {
    let until = now();
    let mut words = vec!["events", "--since", since, "--until", &until, "--format", format];
    for filter in filters {
        words.extend(["--filter", filter]);
    }
    docker.run(&words).await.lines().map(str::to_owned).collect()
}

async fn names(docker: &Docker, since: &str, filters: &[&str]) -> Vec<String> {
    told(docker, since, "{{.Type}} {{.Action}}", filters).await
}

async fn objects(docker: &Docker, since: &str, filters: &[&str]) -> Vec<Value> {
    let lines = told(docker, since, "{{json .}}", filters).await;
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn ready(docker: &Docker, name: &str) {
    until("it to be ready", async || docker.run(&["logs", name]).await == "ready").await;
}

#[tokio::test]
async fn docker_events_come_in_dockers_order() {
    let (_node, docker) = node().await;
    let begin = now();
    docker.run(&["run", "--rm", "--name", "brief", "busybox", "true"]).await;
    assert_eq!(
        names(&docker, &begin, &[]).await,
        [
            "container create",
            "container attach",
            "network connect",
            "container start",
            "container die",
            "network disconnect",
            "container destroy",
        ]
    );

    let begin = now();
    let words = ["run", "-d", "--name", "web", "--label", "tier=a", "-v", "data:/data"];
    docker.run(&[&words[..], &["busybox", "sh", "-c", STOPPABLE]].concat()).await;
    ready(&docker, "web").await;
    docker.run(&["stop", "web"]).await;
    docker.run(&["rm", "web"]).await;
    assert_eq!(
        names(&docker, &begin, &[]).await,
        [
            "volume create",
            "container create",
            "network connect",
            "volume mount",
            "container start",
            "container kill",
            "container die",
            "network disconnect",
            "volume unmount",
            "container stop",
            "container destroy",
        ]
    );
    let death = objects(&docker, &begin, &["event=die"]).await.remove(0);
    let about = &death["Actor"]["Attributes"];
    for (key, value) in [("exitCode", "3"), ("image", "busybox"), ("name", "web"), ("tier", "a")] {
        assert_eq!(about[key], value, "{death}");
    }
    about["execDuration"].as_str().unwrap().parse::<u64>().unwrap();
    // What old clients read.
    assert_eq!((&death["status"], &death["from"]), (&"die".into(), &"busybox".into()));
    assert_eq!((&death["id"], &death["scope"]), (&death["Actor"]["ID"], &"local".into()));
    assert_eq!(death["timeNano"].as_i64().unwrap() / 1_000_000_000, death["time"]);
    let kill = objects(&docker, &begin, &["event=kill"]).await.remove(0);
    assert_eq!(kill["Actor"]["Attributes"]["signal"], "15");
}

#[tokio::test]
async fn docker_events_name_everything_that_is_done_to_a_container() {
    let (_node, docker) = node().await;
    docker.run(&["create", "--name", "web", "busybox", "sh", "-c", STOPPABLE]).await;
    let begin = now();
    docker.run(&["start", "web"]).await;
    ready(&docker, "web").await;
    docker.run(&["pause", "web"]).await;
    docker.run(&["unpause", "web"]).await;
    docker.run(&["exec", "web", "echo", "hi"]).await;
    docker.run(&["rename", "web", "front"]).await;
    docker.run(&["top", "front"]).await;
    docker.run(&["restart", "front"]).await;
    docker.run(&["kill", "front"]).await;
    docker.run(&["commit", "-m", "why", "front", "made:v1"]).await;
    assert_eq!(
        names(&docker, &begin, &["type=container"]).await,
        [
            "container start",
            "container pause",
            "container unpause",
            "container exec_create: echo hi",
            "container exec_start: echo hi",
            "container exec_die",
            "container rename",
            "container top",
            "container kill",
            "container die",
            "container stop",
            "container start",
            "container restart",
            "container kill",
            "container die",
            "container commit",
        ]
    );
    let all = objects(&docker, &begin, &["type=container"]).await;
    let about = |action: &str| {
        let found = all.iter().find(|event| event["Action"] == action);
        found.unwrap_or_else(|| panic!("no {action}"))["Actor"]["Attributes"].clone()
    };
    assert_eq!(about("rename")["oldName"], "/web");
    assert_eq!(about("rename")["name"], "front");
    let exec = about("exec_die");
    assert_eq!(exec["exitCode"], "0");
    assert_eq!(exec["execID"], about("exec_create: echo hi")["execID"]);
    assert_eq!(about("commit")["imageRef"], "made:v1");
    assert_eq!(about("commit")["comment"], "why");
    // The restart policy starts it without a word of its own.
    let begin = now();
    let script = "[ -e /done ] && exec sleep 1000; touch /done; exit 5";
    docker
        .run(&[
            "run",
            "-d",
            "--restart",
            "always",
            "--name",
            "again",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .await;
    until("the second start", async || {
        names(&docker, &begin, &["container=again", "event=start"]).await.len() == 2
    })
    .await;
    assert_eq!(
        names(&docker, &begin, &["container=again"]).await,
        ["container create", "container start", "container die", "container start"]
    );
    docker.run(&["rm", "-f", "again", "front"]).await;
    let ends = names(&docker, &begin, &["container=again"]).await.split_off(4);
    assert_eq!(ends, ["container kill", "container die", "container destroy"]);
}

#[tokio::test]
async fn docker_events_tell_of_images_volumes_and_networks() {
    let node = Node::boot().await;
    let docker = node.docker();
    let begin = now();
    docker.run(&["pull", "-q", "busybox"]).await;
    docker.run(&["tag", "busybox", "mine:v1"]).await;
    docker.run(&["rmi", "mine:v1"]).await;
    docker.run(&["network", "create", "net"]).await;
    docker.run(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await;
    docker.run(&["network", "connect", "net", "web"]).await;
    docker.run(&["network", "disconnect", "net", "web"]).await;
    docker.run(&["network", "rm", "net"]).await;
    docker.run(&["volume", "create", "data"]).await;
    docker.run(&["volume", "rm", "data"]).await;
    docker.run(&["rm", "-f", "web"]).await;
    docker.run(&["container", "prune", "-f"]).await;
    docker.run(&["rmi", "busybox"]).await;

    let kinds = ["type=image", "type=volume", "event=prune"];
    assert_eq!(
        names(&docker, &begin, &kinds[..1]).await,
        ["image pull", "image tag", "image untag", "image untag", "image untag", "image delete"],
    );
    assert_eq!(names(&docker, &begin, &kinds[1..2]).await, ["volume create", "volume destroy"]);
    let pruned = objects(&docker, &begin, &kinds[2..]).await.remove(0);
    assert_eq!(pruned["Type"], "container");
    pruned["Actor"]["Attributes"]["reclaimed"].as_str().unwrap().parse::<u64>().unwrap();
    let pull = objects(&docker, &begin, &["event=pull"]).await.remove(0);
    assert_eq!(pull["Actor"]["ID"], "busybox:latest");
    assert_eq!(pull["Actor"]["Attributes"]["name"], "busybox");
    assert_eq!(
        names(&docker, &begin, &["network=net"]).await,
        ["network create", "network connect", "network disconnect", "network destroy"]
    );
    let connect = objects(&docker, &begin, &["network=net", "event=connect"]).await.remove(0);
    assert_eq!(connect["Actor"]["Attributes"]["type"], "bridge");
    assert_eq!(connect["Actor"]["Attributes"]["container"].as_str().unwrap().len(), 64);
    assert_eq!(names(&docker, &begin, &["image=busybox:latest", "event=pull"]).await.len(), 1);
    assert_eq!(names(&docker, &begin, &["image=busybox", "event=start"]).await.len(), 1);
    assert_eq!(names(&docker, &begin, &["scope=swarm"]).await.len(), 0);
    let mistaken = docker.refused(&["events", "--until", "1", "--filter", "colour=red"]).await;
    assert!(mistaken.contains("invalid filter 'colour'"), "{mistaken}");
}

#[tokio::test]
async fn docker_events_follow_and_take_a_time_in_every_spelling() {
    let (_node, docker) = node().await;
    let mut follower =
        docker.spawn(&["events", "--format", "{{.Action}}", "--filter", "event=die"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let first = async {
        // The client says nothing before it is told something.
        loop {
            docker.run(&["run", "--rm", "busybox", "true"]).await;
            if let Ok(line) =
                timeout(std::time::Duration::from_millis(100), lines.next_line()).await
            {
                return line.unwrap();
            }
        }
    };
    assert_eq!(timeout(LONG, first).await.unwrap().as_deref(), Some("die"));
    follower.kill().await.unwrap();

    // Some seconds ago for all of them.
    let since = now();
    let seconds = since.split('.').next().unwrap().parse::<i64>().unwrap();
    until("another second", async || now() > format!("{}", seconds + 1)).await;
    docker.run(&["create", "--name", "web", "busybox"]).await;
    until("another second", async || now() > format!("{}", seconds + 3)).await;
    let until_now = now();
    let text = jiff::Timestamp::from_second(seconds).unwrap().to_string();
    for spelled in [since.as_str(), &seconds.to_string(), &text] {
        let path = format!("/events?since={spelled}&until={until_now}&filters=");
        let list = r#"{"event":["create"],"container":["web"]}"#;
        let set = r#"{"event":{"create":true},"container":{"web":true}}"#;
        for filters in [list, set] {
            let path = format!("{path}{}", encoded(filters));
            let reply = docker.get(&path).await;
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            assert_eq!((reply.status, text.lines().count()), (StatusCode::OK, 1), "{path}: {text}");
        }
    }
    for path in ["/events?since=soon", "/events?since=5&until=4"] {
        assert_eq!(docker.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn docker_clients_that_do_not_read_cost_little_and_leave_nothing() {
    let (node, docker) = node().await;
    let tall = "x".repeat(1000);
    docker.run(&["run", "-d", "--name", "web", "--label", &tall, "busybox", "sleep", "1000"]).await;
    // The head comes at once, though there is nothing to tell.
    let files = open_files(&node);
    let mut hung = listen(&docker, 20).await;
    let before = resident_kib(&node);
    let body = r#"{"Cmd":["true"]}"#;
    for _ in 0..4000 {
        let reply = docker.post("/containers/web/exec", Some(body)).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
    }
    let grown = resident_kib(&node).saturating_sub(before);
    // 80 MB of events were told to twenty clients.
    assert!(grown < 32 << 10, "{grown} KiB more");
    assert_eq!(docker.run(&["exec", "web", "echo", "well"]).await, "well");

    // Who fell too far behind hears of it by a broken stream; a whole one ends with "0".
    let mut rest = Vec::new();
    let mut last = hung.pop().unwrap();
    timeout(LONG, last.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
    drop((last, hung));
    until("the hung clients to be let go", async || open_files(&node) <= files).await;

    // Those that go while nothing happens are let go as well.
    let files = open_files(&node);
    let idle = listen(&docker, 20).await;
    until("the idle clients to be held", async || open_files(&node) >= files + 20).await;
    drop(idle);
    until("the idle clients to be let go", async || open_files(&node) <= files).await;
}

/// Clients that have read the beginning of the answer, and nothing more.
async fn listen(docker: &Docker, count: usize) -> Vec<UnixStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: docker\r\n\r\n").await.unwrap();
        let mut start = [0; 15];
        timeout(LONG, stream.read_exact(&mut start)).await.unwrap().unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        all.push(stream);
    }
    all
}

/// Descriptors that the daemon has open.
fn open_files(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.daemon())).unwrap().count()
}

fn resident_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.daemon())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn docker_events_tell_of_a_kubelets_containers() {
    let node = Node::boot().await;
    let docker = node.docker();
    let begin = now();
    let pod = node.pod("web").run().await;
    let container = pod.container("main").shell("exit 4").start().await;
    container.wait_exit().await;
    until("its end to be told", async || {
        names(&docker, &begin, &["event=die"]).await == ["container die"]
    })
    .await;
    container.remove().await;
    assert_eq!(
        names(&docker, &begin, &["type=container"]).await,
        ["container create", "container start", "container die", "container destroy"]
    );
    let death = objects(&docker, &begin, &["event=die"]).await.remove(0);
    let about = &death["Actor"]["Attributes"];
    assert_eq!(about["exitCode"], "4");
    assert!(about["name"].as_str().unwrap().starts_with("k8s_main_web_"), "{death}");
    // The pod is no container to docker's users.
    assert_eq!(names(&docker, &begin, &["type=network"]).await.len(), 0);
    pod.remove().await;
}
