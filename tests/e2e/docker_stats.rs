//! `docker stats`: by the client, once and on and on, and its figures against the kernel's files.

use http::StatusCode;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::cgroup_files::{Group, assert_within};
use crate::docker::Docker;
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::{LONG, until};

async fn once(docker: &Docker, name: &str, query: &str) -> Value {
    let reply = docker.get(&format!("/containers/{name}/stats?{query}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    reply.json()
}

async fn group(docker: &Docker, name: &str) -> Group {
    Group::of_process(docker.inspect(name).await["State"]["Pid"].as_i64().unwrap())
}

#[tokio::test]
async fn docker_stats_agree_with_the_kernels_files() {
    let (_node, docker) = node().await;
    let busy = "echo ready; while :; do :; done";
    let words = ["run", "-d", "--name", "web", "-m", "64m", "--pids-limit", "50"];
    docker.run(&[&words[..], &["busybox", "sh", "-c", busy]].concat()).await;
    let group = group(&docker, "web").await;
    until("some CPU time", async || group.cpu_nanoseconds() > 50_000_000).await;

    let usage = || group.number("memory", "memory.usage_in_bytes", "memory.current").unwrap();
    let (cpu_before, memory_before) = (group.cpu_nanoseconds(), usage());
    let stats = once(&docker, "web", "stream=0&one-shot=1").await;
    let (cpu_after, memory_after) = (group.cpu_nanoseconds(), usage());
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{stats:#}"));
    assert_eq!(stats["name"], "/web");
    assert_within(
        "CPU",
        number(&stats["cpu_stats"]["cpu_usage"]["total_usage"]),
        cpu_before,
        cpu_after,
    );
    let memory = &stats["memory_stats"];
    // The kernel counts in batches per CPU.
    let slack = MIB;
    let (low, high) = (memory_before.min(memory_after), memory_before.max(memory_after));
    assert!(
        (low.saturating_sub(slack)..=high + slack).contains(&number(&memory["usage"])),
        "{memory}"
    );
    assert_eq!(memory["limit"], 64 * MIB);
    let inactive =
        ["total_inactive_file", "inactive_file"].map(|key| memory["stats"][key].as_u64());
    assert!(inactive.iter().any(Option::is_some), "{memory}");
    assert_eq!(
        (&stats["pids_stats"]["current"], &stats["pids_stats"]["limit"]),
        (&1.into(), &50.into())
    );
    assert!(stats["networks"]["eth0"]["rx_bytes"].is_u64(), "{stats}");
    let online = number(&stats["cpu_stats"]["online_cpus"]);
    let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let listed = listed.lines().filter(|line| line.starts_with("processor")).count();
    assert_eq!(online, listed as u64);
    assert_eq!(stats["precpu_stats"]["cpu_usage"]["total_usage"], 0);

    // Two looks tell a rate.
    let stats = once(&docker, "web", "stream=false").await;
    for figure in ["/cpu_usage/total_usage", "/system_cpu_usage"] {
        let look = |of: &str| stats[of].pointer(figure).unwrap().as_u64().unwrap();
        assert!(look("cpu_stats") > look("precpu_stats"), "{figure}: {stats}");
    }
    assert!(stats["read"].as_str() > stats["preread"].as_str());
    docker.run(&["rm", "-f", "web"]).await;
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn docker_stats_by_the_client_once_and_on_and_on() {
    let (_node, docker) = node().await;
    let busy = "while :; do :; done";
    let words = ["run", "-d", "--name", "web", "-m", "64m", "busybox", "sh", "-c", busy];
    docker.run(&words).await;
    let row = docker.run(&["stats", "--no-stream", "--format", "{{json .}}"]).await;
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!((&row["Name"], &row["PIDs"]), (&"web".into(), &"1".into()), "{row}");
    let used = row["MemUsage"].as_str().unwrap();
    assert!(used.ends_with(" / 64MiB") && !used.starts_with("0B"), "{row}");
    let percent: f64 = row["CPUPerc"].as_str().unwrap().trim_end_matches('%').parse().unwrap();
    assert!(percent > 1.0, "{row}");

    let mut follower = docker.spawn(&["stats", "--format", "row of {{.Name}}", "web"]);
    let mut out = follower.stdout.take().unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    let rows = async {
        while text.matches("row of web").count() < 3 {
            let count = out.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "it ended: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    timeout(LONG, rows).await.expect("three rows");
    follower.kill().await.unwrap();

    // Of what does not run there is nothing but its name.
    docker.run(&["stop", "-t", "0", "web"]).await;
    for query in ["stream=0", "stream=0&one-shot=1"] {
        let stats = once(&docker, "web", query).await;
        assert_eq!((&stats["name"], &stats["read"]), (&"/web".into(), &NEVER.into()));
        assert_eq!(stats["cpu_stats"]["cpu_usage"]["total_usage"], 0);
        assert_eq!(stats["memory_stats"], serde_json::json!({}));
    }
    let row = docker.run(&["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}}", "web"]);
    assert_eq!(row.await, "web 0.00%");
    docker.run(&["rm", "web"]).await;
    assert_eq!(docker.get("/containers/web/stats").await.status, StatusCode::NOT_FOUND);
    let both = docker.get("/containers/web/stats?stream=1&one-shot=1").await;
    assert_eq!(both.status, StatusCode::BAD_REQUEST);
}

const NEVER: &str = "0001-01-01T00:00:00Z";

#[tokio::test]
async fn docker_stats_know_a_kubelets_container() {
    let node = Node::boot().await;
    let docker = node.docker();
    let pod = node.pod("web").run().await;
    let container = pod.container("main").shell("echo up; sleep 1000").start().await;
    container.wait_output("up").await;
    let stats = once(&docker, &container.id, "stream=0&one-shot=1").await;
    assert!(stats["name"].as_str().unwrap().starts_with("/k8s_main_web_"), "{stats}");
    assert!(stats["memory_stats"]["usage"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["networks"]["eth0"].is_object(), "{stats}");
    pod.remove().await;
}
