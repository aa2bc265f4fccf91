//! Docker's containers when the daemon is killed, when their monitor is, and by their restart policy.

use std::time::Duration;

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::timeout;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::node::{Node, monitors_below};
use crate::wait::until;

/// Moments within a call that takes some milliseconds.
const MOMENTS: [u64; 9] = [0, 1, 2, 4, 8, 16, 32, 64, 128];

#[tokio::test]
async fn docker_restart_always_brings_it_back() {
    let (_node, docker) = node().await;
    let script = "echo run >> /runs; [ $(wc -l < /runs) -lt 3 ] || sleep 1000";
    let words =
        ["run", "-d", "--restart", "always", "--name", "web", "busybox", "sh", "-c", script];
    docker.run(&words).await;
    until("the third run", async || {
        let runs = docker.try_run(&["exec", "web", "sh", "-c", "wc -l < /runs"]).await;
        runs.stdout.trim() == "3"
    })
    .await;
    assert_eq!(docker.inspect("web").await["RestartCount"], 2);
    docker.run(&["stop", "-t", "0", "web"]).await;
    assert_eq!(docker.inspect("web").await["State"]["Status"], "exited");
    docker.run(&["rm", "web"]).await;
}

#[tokio::test]
async fn docker_containers_outlive_a_daemon_that_is_killed() {
    let (node, docker) = node().await;
    docker.run(&["run", "-d", "--name", "alive", "busybox", "sleep", "1000"]).await;
    docker.run(&["run", "-d", "--rm", "-i", "--name", "brief", "busybox", "cat"]).await;
    docker.try_run(&["run", "--name", "done", "busybox", "sh", "-c", "exit 4"]).await;
    let before = docker.inspect("alive").await;

    node.restart().await;

    let after = docker.inspect("alive").await;
    assert_eq!(after["State"], before["State"]);
    assert_eq!(after["NetworkSettings"], before["NetworkSettings"]);
    assert_eq!(docker.run(&["exec", "alive", "echo", "yes"]).await, "yes");
    assert_eq!(docker.inspect("done").await["State"]["ExitCode"], 4);
    docker.run(&["stop", "-t", "0", "alive", "brief"]).await;
    assert_eq!(docker.inspect("alive").await["State"]["ExitCode"], 137);
    until("--rm to be kept", async || docker.try_run(&["inspect", "brief"]).await.code != 0).await;
    docker.run(&["rm", "alive", "done"]).await;
}

#[tokio::test]
async fn docker_an_end_while_no_daemon_ran_is_dealt_with_by_the_next() {
    let (node, docker) = node().await;
    run_until_told((&node, &docker), "plain", &[], "echo bye; exit 9").await;
    run_until_told((&node, &docker), "brief", &["--rm"], "exit 9").await;
    run_until_told((&node, &docker), "again", &["--restart", "always"], "sleep 1000").await;
    let mut pids = Vec::new();
    for name in ["plain", "brief", "again"] {
        pids.push(pid(&docker, name).await);
    }
    let first = pids[2];

    node.kill();
    std::fs::write(node.home.join("told"), "").unwrap();
    until("it to sleep", async || node.home.join("again").exists()).await;
    kill_process(first, Signal::KILL).unwrap();
    until("all to end", async || pids.iter().all(|pid| test_kill_process(*pid).is_err())).await;
    node.start().await;

    until("the end to be told", async || status(&docker, "plain").await == "exited").await;
    assert_eq!(docker.inspect("plain").await["State"]["ExitCode"], 9);
    assert_eq!(docker.run(&["logs", "plain"]).await, "bye");
    until("--rm to be kept", async || {
        docker.get("/containers/brief/json").await.status == StatusCode::NOT_FOUND
    })
    .await;
    until("the next run", async || {
        let again = docker.inspect("again").await;
        again["State"]["Running"] == true && again["State"]["Pid"] != first.as_raw_pid()
    })
    .await;
    docker.run(&["rm", "-f", "plain", "again"]).await;
}

#[tokio::test]
async fn docker_a_start_cut_off_by_the_daemons_death_can_be_repeated() {
    let (node, docker) = node().await;
    for moment in MOMENTS {
        docker.run(&["create", "--name", "web", "busybox", "sleep", "1000"]).await;
        let start = docker.post("/containers/web/start", None);
        let _ = timeout(Duration::from_millis(moment), start).await;
        node.restart().await;
        match status(&docker, "web").await.as_str() {
            // Nothing is left of what was made for it.
            "created" => {
                until("no monitor to be left", async || monitors_below(&node.state).is_empty())
                    .await;
            }
            "running" => {}
            other => panic!("after {moment} ms: {other}"),
        }
        docker.run(&["start", "web"]).await;
        assert_eq!(docker.run(&["exec", "web", "echo", "runs"]).await, "runs", "after {moment} ms");
        docker.run(&["rm", "-f", "web"]).await;
    }
}

#[tokio::test]
async fn docker_an_end_cut_off_by_the_daemons_death_keeps_its_code() {
    let (node, docker) = node().await;
    let told = node.home.join("told");
    for moment in MOMENTS {
        run_until_told((&node, &docker), "web", &[], "exit 5").await;
        std::fs::write(&told, "").unwrap();
        until("it to go on", async || node.home.join("web").exists()).await;
        let wait = docker.post("/containers/web/wait", None);
        let _ = timeout(Duration::from_millis(moment), wait).await;
        node.restart().await;
        until("its end", async || status(&docker, "web").await == "exited").await;
        let code = docker.inspect("web").await["State"]["ExitCode"].clone();
        assert_eq!(code, 5, "after {moment} ms");
        docker.run(&["rm", "web"]).await;
        std::fs::remove_file(&told).unwrap();
        std::fs::remove_file(node.home.join("web")).unwrap();
    }
}

#[tokio::test]
async fn docker_a_killed_monitor_is_an_end_and_the_files_stay() {
    let (node, docker) = node().await;
    let script = "echo run >> /runs; sleep 1000";
    for (name, policy) in [("plain", "no"), ("again", "always")] {
        docker
            .run(&["run", "-d", "--restart", policy, "--name", name, "busybox", "sh", "-c", script])
            .await;
        until("the first run", async || runs(&docker, name).await == "1").await;
    }
    let monitors = monitors_below(&node.state);
    assert_eq!(monitors.len(), 2, "one for each container");
    for monitor in monitors {
        kill_process(Pid::from_raw(i32::try_from(monitor).unwrap()).unwrap(), Signal::KILL)
            .unwrap();
    }
    until("the end to be told", async || status(&docker, "plain").await == "exited").await;
    assert_eq!(docker.inspect("plain").await["State"]["ExitCode"], 137);
    docker.run(&["start", "plain"]).await;
    for name in ["plain", "again"] {
        until("the second run", async || runs(&docker, name).await == "2").await;
    }
    docker.run(&["rm", "-f", "plain", "again"]).await;
}

/// Runs a container that waits until the file `told` is there, leaves a file of its own name, and
/// then does as `script` says.
async fn run_until_told(
    (node, docker): (&Node, &Docker),
    name: &str,
    options: &[&str],
    script: &str,
) {
    let waiting = "while [ ! -e /host/told ]; do sleep 0.02; done";
    let script = format!("{waiting}; touch /host/{name}; {script}");
    let bind = format!("{}:/host", node.home.display());
    let words = ["run", "-d", "--name", name, "-v", &bind];
    docker.run(&[&words, options, &["busybox", "sh", "-c", &script]].concat()).await;
}

/// The process number of its first process.
async fn pid(docker: &Docker, name: &str) -> Pid {
    let pid = docker.inspect(name).await["State"]["Pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap()).expect("it runs")
}

async fn status(docker: &Docker, name: &str) -> String {
    let state = docker.inspect(name).await["State"]["Status"].clone();
    state.as_str().unwrap().to_owned()
}

/// How often the container's program wrote to `/runs`; empty when it does not run.
async fn runs(docker: &Docker, name: &str) -> String {
    let counted = docker.try_run(&["exec", name, "sh", "-c", "wc -l < /runs"]).await;
    counted.stdout.trim().to_owned()
}
