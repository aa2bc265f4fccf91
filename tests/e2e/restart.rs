//! `kill -9` of the daemon: pods live on, and the next daemon knows all of it.

use std::time::{Duration, Instant};

use cais_proto::runtime::v1::{ContainerState, ListContainersRequest, PodSandboxState, Protocol};

use crate::network::{answer, free_port, read_all, serve};
use crate::node::{Node, joined};
use crate::wait::until;

#[tokio::test]
async fn a_pod_and_its_containers_outlive_the_daemon() {
    let node = Node::boot().await;
    let pod = node.pod("alive").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let stopped = pod.container("done").shell("exit 4").start().await;
    stopped.wait_exit().await;
    let (pod_before, before) = (pod.status().await, container.status().await);
    let started = container.shell("cut -d' ' -f22 /proc/1/stat").await;

    node.restart().await;

    assert_eq!(pod.status().await, pod_before);
    assert_eq!(container.status().await, before);
    assert_eq!(container.shell("cut -d' ' -f22 /proc/1/stat").await, started);
    let exit = stopped.wait_exit().await;
    assert_eq!((exit.code, exit.reason.as_str()), (4, "Error"));
    // All calls work on what the dead daemon made.
    container.stop(0).await;
    assert_eq!(container.wait_exit().await.code, 137);
    pod.remove().await;
}

#[tokio::test]
async fn an_exit_while_the_daemon_was_away_has_its_code_and_its_time() {
    let node = Node::boot().await;
    let pod = node.pod("away").run().await;
    let flag = node.home.join("flag");
    let script =
        "while [ ! -e /host/flag ]; do sleep 0.02; done; echo bye; echo gone > /host/gone; exit 9";
    let container = pod.container("main").shell(script).with(|config| {
        config.mounts = vec![cais_proto::runtime::v1::Mount {
            container_path: "/host".to_owned(),
            host_path: node.home.to_str().unwrap().to_owned(),
            ..Default::default()
        }];
    });
    let container = container.start().await;
    node.kill();
    let before = jiff::Timestamp::now().as_nanosecond();
    std::fs::write(flag, "").unwrap();
    until("the container to go on", async || node.home.join("gone").exists()).await;
    until("its log", async || container.output() == "bye\n").await;
    let after = jiff::Timestamp::now().as_nanosecond() + 1_000_000_000;
    node.start().await;
    let exit = container.wait_exit().await;
    assert_eq!((exit.code, exit.reason.as_str()), (9, "Error"));
    let finished = i128::from(exit.status.finished_at);
    assert!(before <= finished && finished <= after, "{before} {finished} {after}");
}

#[tokio::test]
async fn a_log_has_no_gap_over_a_kill() {
    const LINES: usize = 30_000;
    let node = Node::boot().await;
    let pod = node.pod("writer").run().await;
    let script = format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done");
    let container = pod.container("main").shell(&script).start().await;
    for mark in ["line 10\n", "line 5000\n", "line 15000\n"] {
        container.wait_output(mark).await;
        node.restart().await;
    }
    container.wait_exit().await;
    let expected: String = (0..LINES).map(|i| format!("line {i}\n")).collect();
    let output = joined(&container.logs(), "stdout");
    assert_eq!(output.len(), expected.len());
    assert!(output == expected);
}

#[tokio::test]
async fn twenty_pods_are_known_within_two_seconds() {
    let node = Node::boot().await;
    let mut pods = Vec::new();
    for number in 0..20 {
        let pod = node.pod(&format!("pod-{number}")).run().await;
        pod.container("main").command(["sleep", "1000"]).start().await;
        pods.push(pod);
    }
    let mut expected = node.pod_ids().await;
    node.kill();
    let before = Instant::now();
    node.start().await;
    let mut known = node.pod_ids().await;
    let listed = node.runtime().list_containers(ListContainersRequest::default()).await;
    let waited = before.elapsed();
    expected.sort();
    known.sort();
    assert_eq!(known, expected);
    let containers = listed.unwrap().into_inner().containers;
    assert_eq!(containers.len(), 20);
    assert!(containers.iter().all(|c| c.state() == ContainerState::ContainerRunning));
    for pod in &pods {
        assert_eq!(pod.status().await.state(), PodSandboxState::SandboxReady);
    }
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn published_ports_and_leases_outlive_the_daemon() {
    let node = Node::boot().await;
    let port = free_port().await;
    let pod = node.pod("web").publish(Protocol::Tcp, port, 80).run().await;
    let ip = pod.ip().await;
    let _server = serve(&pod, "published").await;
    let published = format!("127.0.0.1:{port}");
    assert_eq!(answer(&published).await, "published");
    node.kill();
    assert_eq!(answer(&published).await, "published");
    node.start().await;
    assert_eq!(answer(&published).await, "published");
    assert_eq!(pod.ip().await, ip);
    let other = node.pod("other").run().await;
    assert_ne!(other.ip().await, ip, "an address in use was leased again");
    let taken = node.pod("taken").publish(Protocol::Tcp, port, 80).try_run().await;
    let refused = taken.err().expect("the port is another pod's");
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused:?}");
    // The next daemon takes back what the one before it gave.
    pod.remove().await;
    assert_eq!(read_all(&published).await, None);
}
