//! `docker update`, and limits that a container is made with: what the kernel has is what was asked for.

use http::StatusCode;
use serde_json::Value;

use crate::cgroup_files::Group;
use crate::docker::{Client, Docker, by_both_clients};
use crate::docker_containers::node;
use crate::wait::until;

by_both_clients!(update_changes_what_runs_and_its_next_runs,);

const MIB: u64 = 1 << 20;

async fn group(docker: &Docker, name: &str) -> Group {
    let pid = docker.inspect(name).await["State"]["Pid"].as_i64().unwrap();
    Group::of_process(pid)
}

/// Bytes of memory, processes, microseconds of CPU per tenth of a second, and which CPUs.
fn limits(group: &Group) -> (u64, u64, u64, String) {
    let memory = group.number("memory", "memory.limit_in_bytes", "memory.max").unwrap();
    let pids = group.number("pids", "pids.max", "pids.max").unwrap();
    let quota = group.text("cpu", "cpu.cfs_quota_us", "cpu.max").unwrap();
    let quota = quota.split_whitespace().next().unwrap().parse().unwrap();
    let cpus = group.text("cpuset", "cpuset.cpus", "cpuset.cpus").unwrap();
    (memory, pids, quota, cpus.trim().to_owned())
}

async fn host_config(docker: &Docker, name: &str) -> Value {
    docker.inspect(name).await["HostConfig"].clone()
}

async fn update_changes_what_runs_and_its_next_runs(client: Client) {
    let (node, docker) = node().await;
    let docker = docker.by(client);
    let words = ["run", "-d", "--name", "web", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    docker.run(&[&words[..], &["--cpuset-cpus", "0", "busybox", "sleep", "1000"]].concat()).await;
    assert_eq!(limits(&group(&docker, "web").await), (64 * MIB, 50, 50_000, "0".to_owned()));

    let words = ["update", "-m", "128m", "--memory-swap", "256m", "--cpus", "0.7"];
    let more = ["--pids-limit", "77", "--restart", "always", "web"];
    assert_eq!(docker.run(&[&words[..], &more].concat()).await, "web");
    let expected = (128 * MIB, 77, 70_000, "0".to_owned());
    assert_eq!(limits(&group(&docker, "web").await), expected);
    let shown = host_config(&docker, "web").await;
    assert_eq!((&shown["Memory"], &shown["PidsLimit"]), (&(128 * MIB).into(), &77.into()));
    assert_eq!(shown["MemorySwap"], 256 * MIB);
    assert_eq!(shown["RestartPolicy"]["Name"], "always");

    // What is not named is left alone.
    docker.run(&["update", "--pids-limit", "88", "web"]).await;
    let expected = (expected.0, 88, expected.2, expected.3);
    assert_eq!(limits(&group(&docker, "web").await), expected);
    node.restart().await;
    assert_eq!(limits(&group(&docker, "web").await), expected);
    docker.run(&["restart", "-t", "0", "web"]).await;
    assert_eq!(limits(&group(&docker, "web").await), expected);
    assert_eq!(host_config(&docker, "web").await["RestartPolicy"]["Name"], "always");
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn docker_update_of_what_does_not_run_is_for_its_next_run() {
    let (_node, docker) = node().await;
    let words = ["create", "--name", "web", "-m", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    docker.run(&[&words[..], &["--cpuset-cpus", "0", "busybox", "sleep", "1000"]].concat()).await;
    docker.run(&["update", "-m", "96m", "--memory-swap", "-1", "--pids-limit", "60", "web"]).await;
    docker.run(&["start", "web"]).await;
    let expected = (96 * MIB, 60, 50_000, "0".to_owned());
    assert_eq!(limits(&group(&docker, "web").await), expected);
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn docker_update_does_all_or_nothing() {
    let (_node, docker) = node().await;
    let words = ["run", "-d", "--name", "web", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    let hold =
        "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; while :; do sleep 1; done";
    let more = ["--cpuset-cpus", "0", "busybox", "sh", "-c", hold];
    docker.run(&[&words[..], &more].concat()).await;
    until("it to hold memory", async || docker.run(&["logs", "web"]).await == "ready").await;
    let before = limits(&group(&docker, "web").await);
    for (words, said) in [
        (&["--pids-limit", "99", "-m", "8m"][..], "bytes in use"),
        (&["--pids-limit", "99", "-m", "1g"], "update the memoryswap at the same time"),
        (&["--pids-limit", "99", "-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (&["--pids-limit", "99", "--cpuset-cpus", "60000"], "Requested CPUs are not available"),
        (&["--pids-limit", "99", "--cpu-quota", "5000"], "NanoCPUs has already been set"),
        (&["--pids-limit", "99", "--restart", "sometimes"], "unknown policy"),
    ] {
        let refused = docker.refused(&[&["update"], words, &["web"]].concat()).await;
        assert!(refused.contains(said), "{words:?}: {refused}");
        assert_eq!(limits(&group(&docker, "web").await), before, "{words:?}");
        assert_eq!(host_config(&docker, "web").await["PidsLimit"], 50, "{words:?}");
    }
    let body = r#"{"PidsLimit":99,"KernelMemory":50000000}"#;
    let reply = docker.post("/containers/web/update", Some(body)).await;
    assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{reply:?}");
    assert!(reply.message().contains("KernelMemory"), "{reply:?}");
    assert_eq!(limits(&group(&docker, "web").await), before);
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn docker_block_io_weight_is_the_kernels_or_a_warning() {
    let (_node, docker) = node().await;
    // A group tells whether the kernel has it.
    docker.run(&["run", "-d", "--name", "first", "busybox", "sleep", "1000"]).await;
    let weight = |group: &Group| group.text("blkio", "blkio.bfq.weight", "io.weight");
    let is_known = weight(&group(&docker, "first").await).is_some();
    let words = ["run", "-d", "--name", "web", "--blkio-weight", "300", "busybox", "sleep", "1000"];
    let done = docker.try_run(&words).await;
    assert_eq!(done.code, 0, "{done:?}");
    if is_known {
        let text = weight(&group(&docker, "web").await).unwrap();
        let found = text.split_whitespace().last().unwrap();
        // v1, and the same on the scale of v2.
        assert!(["300", "2930"].contains(&found), "{text}");
        docker.run(&["update", "--blkio-weight", "500", "web"]).await;
        assert_ne!(weight(&group(&docker, "web").await).unwrap(), text);
    } else {
        assert!(done.stderr.contains("Block I/O weight"), "{done:?}");
        assert!(done.stderr.contains("Weight discarded."), "{done:?}");
        let refused = docker.refused(&["update", "--blkio-weight", "500", "web"]).await;
        assert!(refused.contains("Block I/O weight"), "{refused}");
    }
    let refused = docker.refused(&["create", "--blkio-weight", "5", "busybox"]).await;
    assert!(refused.contains("from 10 to 1000"), "{refused}");
    docker.run(&["rm", "-f", "first", "web"]).await;
}
