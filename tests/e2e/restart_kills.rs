//! Kills in the middle of a call, and kills of a monitor.

use std::time::{Duration, Instant};

use cais_proto::runtime::v1::{
    ContainerState, ListContainersRequest, RunPodSandboxRequest, StopPodSandboxRequest,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::node::{Node, monitors_below};
use crate::wait::{eventually, until};

/// Moments within a call that takes some milliseconds.
const MOMENTS: [u64; 8] = [0, 1, 2, 4, 8, 16, 32, 64];

#[tokio::test]
async fn a_pod_half_made_when_the_daemon_died_is_finished_by_a_retry_or_gone() {
    let node = Node::boot().await;
    for moment in MOMENTS {
        let name = format!("half-{moment}");
        let config = node.pod(&name).request();
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let mut runtime = node.runtime();
        let run = runtime.run_pod_sandbox(request);
        let _ = tokio::time::timeout(Duration::from_millis(moment), run).await;
        node.restart().await;
        // Kubelet lists, finds the pod or does not, and in the end removes what it does not want.
        for pod in node.pod_ids().await {
            node.remove_pod(pod).await.unwrap();
        }
        let pod = node.pod(&name).run().await;
        assert!(pod.is_ready().await, "after {moment} ms");
        pod.remove().await;
    }
    until("no monitor to be left", async || monitors_below(&node.state).is_empty()).await;
}

#[tokio::test]
async fn a_container_being_started_when_the_daemon_died_is_in_one_clear_state() {
    let node = Node::boot().await;
    for moment in MOMENTS {
        let pod = node.pod(&format!("pod-{moment}")).run().await;
        let container = pod.container("main").command(["sleep", "1000"]).create().await;
        let _ = tokio::time::timeout(Duration::from_millis(moment), container.start()).await;
        node.restart().await;
        let state = container.state().await;
        match state {
            ContainerState::ContainerCreated => container.start().await.unwrap(),
            ContainerState::ContainerRunning => {}
            other @ (ContainerState::ContainerExited | ContainerState::ContainerUnknown) => {
                panic!("after {moment} ms: {other:?}")
            }
        }
        assert_eq!(container.shell("echo runs").await, "runs", "after {moment} ms");
        pod.remove().await;
    }
}

#[tokio::test]
async fn a_stop_cut_off_by_the_daemons_death_can_be_repeated() {
    let node = Node::boot().await;
    for moment in MOMENTS {
        let pod = node.pod(&format!("pod-{moment}")).run().await;
        let container = pod.container("main").command(["sleep", "1000"]).start().await;
        let request = StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        let mut runtime = node.runtime();
        let stop = runtime.stop_pod_sandbox(request);
        let _ = tokio::time::timeout(Duration::from_millis(moment), stop).await;
        node.restart().await;
        pod.stop().await;
        assert_eq!(container.wait_exit().await.code, 137, "after {moment} ms");
        assert!(!pod.is_ready().await);
        pod.remove().await;
    }
}

#[tokio::test]
async fn a_container_outlives_a_kill_during_an_exec_in_it() {
    let node = Node::boot().await;
    let pod = node.pod("exec").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    for _ in 0..3 {
        let exec = container.try_exec(&["sleep", "100"], 0);
        let _ = tokio::time::timeout(Duration::from_millis(100), exec).await;
        node.restart().await;
        assert_eq!(container.shell("echo alive").await, "alive");
    }
}

#[tokio::test]
async fn a_killed_monitor_takes_its_containers_along_and_is_reported() {
    let node = Node::boot().await;
    let pod = node.pod("doomed").run().await;
    let container = pod.container("main").command(["sleep", "31415"]).start().await;
    let bystander = node.pod("bystander").run().await;
    assert_eq!(monitors_below(&node.state).len(), 2, "one monitor for each pod");
    let of_pod = monitor_of(&node, &pod.id);

    let killed = Instant::now();
    kill_process(Pid::from_raw(i32::try_from(of_pod).unwrap()).unwrap(), Signal::KILL).unwrap();
    let limit = Duration::from_secs(2);
    eventually("the workload to be killed", limit, async || {
        (!processes().contains("sleep\u{0}31415")).then_some(())
    })
    .await;
    eventually("the exit to be reported", limit, async || {
        (container.state().await == ContainerState::ContainerExited).then_some(())
    })
    .await;
    let waited = killed.elapsed();
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    assert_eq!(container.status().await.exit_code, 137);
    until("the pod not to be ready", async || !pod.is_ready().await).await;
    assert!(bystander.is_ready().await);
    pod.remove().await;
}

#[tokio::test]
async fn a_monitor_killed_while_the_daemon_was_away_is_reported_by_the_next() {
    let node = Node::boot().await;
    let pod = node.pod("doomed").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let monitor = monitor_of(&node, &pod.id);
    node.kill();
    kill_process(Pid::from_raw(i32::try_from(monitor).unwrap()).unwrap(), Signal::KILL).unwrap();
    node.start().await;
    assert_eq!(container.wait_exit().await.code, 137);
    assert!(!pod.is_ready().await);
    let listed = node.runtime().list_containers(ListContainersRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().containers[0].state(), ContainerState::ContainerExited);
}

fn monitor_of(node: &Node, pod: &str) -> u32 {
    let held = monitors_below(&node.state.join("pods").join(pod));
    assert_eq!(held.len(), 1, "{held:?}");
    held[0]
}

/// The command lines of all processes.
fn processes() -> String {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned() + "\n").collect()
}
