//! Stop and Remove come to an end whatever the container does against it, and can be repeated.

use std::time::{Duration, Instant};

use cais_proto::runtime::v1::{
    ContainerState, NamespaceMode, RemoveContainerRequest, RemovePodSandboxRequest,
    StopContainerRequest, StopPodSandboxRequest,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup_files::{Group, keyed};
use crate::node::{Container, Node, Pod};
use crate::scale::is_soak;
use crate::wait::until;

/// Seconds that a container is given to end by itself.
const GRACE: i64 = 1;

/// What a stop may take beyond its grace. Promised are two seconds, held to where the machine is quiet; less
/// than the ten after which a stop gives up shows in any case that it did not have to.
fn slack() -> Duration {
    Duration::from_secs(if is_soak() { 2 } else { 8 })
}

/// Stops and removes the container and its pod, each twice.
async fn end(pod: &Pod<'_>, container: &Container<'_>) {
    let before = Instant::now();
    container.stop(GRACE).await;
    let grace = Duration::from_secs(GRACE.unsigned_abs());
    let waited = before.elapsed();
    assert!(waited < grace + slack(), "the stop took {waited:?}");
    let status = container.status().await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
    container.stop(GRACE).await;
    let before = Instant::now();
    container.remove().await;
    container.remove().await;
    pod.stop().await;
    pod.stop().await;
    pod.remove().await;
    pod.remove().await;
    let waited = before.elapsed();
    assert!(waited < 4 * slack(), "the removal took {waited:?}");
}

/// The same by the pod's calls alone, which are not patient.
async fn end_by_pod(pod: &Pod<'_>) {
    let before = Instant::now();
    pod.stop().await;
    pod.remove().await;
    let waited = before.elapsed();
    assert!(waited < 2 * slack(), "the end took {waited:?}");
}

async fn in_namespace<'n>(node: &'n Node, name: &str, mode: NamespaceMode) -> Pod<'n> {
    node.pod(name).namespaces(|options| options.pid = mode.into()).run().await
}

async fn created<'n>(pod: &Pod<'n>, mode: NamespaceMode, script: &str) -> Container<'n> {
    let container = pod.container("main").shell(script).security(|context| {
        context.namespace_options.get_or_insert_default().pid = mode.into();
    });
    container.create().await
}

const MODES: [(&str, NamespaceMode); 3] =
    [("own", NamespaceMode::Container), ("pod", NamespaceMode::Pod), ("node", NamespaceMode::Node)];

/// The first process and one more, deaf to everything that can be ignored.
const DEAF: &str = "trap '' TERM HUP INT QUIT; sleep 1000 & echo deaf; while :; do wait; done";

#[tokio::test]
async fn a_container_that_ignores_its_signal_is_killed_after_the_grace() {
    let node = Node::boot().await;
    for (name, mode) in MODES {
        let pod = in_namespace(&node, name, mode).await;
        let container = created(&pod, mode, DEAF).await;
        container.start().await.unwrap();
        container.wait_output("deaf").await;
        end(&pod, &container).await;
    }
}

#[tokio::test]
async fn a_fork_bomb_is_ended() {
    let node = Node::boot().await;
    let script = "bomb() { bomb & bomb & sleep 1000; }; trap '' TERM; bomb & exec sleep 1000";
    for (name, mode) in MODES {
        for by_pod in [false, true] {
            let pod = in_namespace(&node, &format!("bomb-{name}-{by_pod}"), mode).await;
            let container = created(&pod, mode, script).await;
            let group = Group::of_container(&pod, &container);
            group.write("pids", "pids.max", "pids.max", "200");
            container.start().await.unwrap();
            until("the bomb to fill its limit", async || {
                let events = group.text("pids", "pids.events", "pids.events").unwrap();
                keyed(&events, "max").unwrap() > 20
            })
            .await;
            if by_pod {
                end_by_pod(&pod).await
            } else {
                end(&pod, &container).await
            }
            assert_eq!(group.processes(), Vec::<i32>::new());
        }
    }
}

#[tokio::test]
async fn a_stopped_container_is_ended() {
    let node = Node::boot().await;
    for by_pod in [false, true] {
        let pod = node.pod(&format!("stopped-{by_pod}")).run().await;
        let container = pod.container("main").shell(DEAF).start().await;
        container.wait_output("deaf").await;
        let processes = Group::of_container(&pod, &container).processes();
        assert_eq!(processes.len(), 2);
        for process in processes {
            kill_process(Pid::from_raw(process).unwrap(), Signal::STOP).unwrap();
        }
        if by_pod { end_by_pod(&pod).await } else { end(&pod, &container).await }
    }
}

#[tokio::test]
async fn a_frozen_container_is_ended() {
    let node = Node::boot().await;
    for by_pod in [false, true] {
        let pod = node.pod(&format!("frozen-{by_pod}")).run().await;
        let container = pod.container("main").shell(DEAF).start().await;
        container.wait_output("deaf").await;
        freeze(&Group::of_container(&pod, &container)).await;
        // What comes to the container now does not come to its end, and must not keep anybody.
        let late = container.try_exec(&["true"], 1).await.unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late:?}");
        if by_pod { end_by_pod(&pod).await } else { end(&pod, &container).await }
    }
}

/// In every hierarchy that can: v1's freezer keeps processes even from SIGKILL.
async fn freeze(group: &Group) {
    if group.text("freezer", "freezer.state", "-").is_some() {
        group.write("freezer", "freezer.state", "-", "FROZEN");
        until("the freezer", async || {
            group.text("freezer", "freezer.state", "-").unwrap().trim() == "FROZEN"
        })
        .await;
    } else {
        group.write("-", "-", "cgroup.freeze", "1");
        until("the freezer", async || {
            keyed(&group.unified("cgroup.events").unwrap(), "frozen") == Some(1)
        })
        .await;
    }
}

#[tokio::test]
async fn a_start_that_hangs_in_a_frozen_group_does_not_keep_its_pod() {
    let node = Node::boot().await;
    let pod = node.pod("hung").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).create().await;
    freeze(&Group::of_container(&pod, &container)).await;
    let before = Instant::now();
    // Whether the program was executed before the kill is for the thaw to decide.
    let (_, ()) = tokio::join!(container.start(), end_by_pod(&pod));
    let waited = before.elapsed();
    assert!(waited < 2 * slack(), "the start took {waited:?}");
}

#[tokio::test]
async fn a_command_that_holds_on_goes_with_its_container() {
    let node = Node::boot().await;
    let script = "trap '' TERM HUP; setsid sh -c \"trap '' TERM HUP; echo held > /held; sleep 1000\" & \
                  while :; do sleep 1000; done";
    for (name, mode) in MODES {
        let pod = in_namespace(&node, name, mode).await;
        let container = created(&pod, mode, DEAF).await;
        container.start().await.unwrap();
        let group = Group::of_container(&pod, &container);
        let exec = async {
            // Killed with the container, or told that it is gone: both say so.
            match container.try_exec(&["sh", "-c", script], 0).await {
                Ok(done) => assert_eq!(done.exit_code, 137, "{done:?}"),
                Err(cut) => assert_eq!(cut.code(), tonic::Code::Unavailable, "{cut:?}"),
            }
        };
        let stop = async {
            until("the command to hold on", async || {
                container.exec(&["cat", "/held"]).await.stdout == b"held\n"
            })
            .await;
            end(&pod, &container).await;
            assert_eq!(group.processes(), Vec::<i32>::new());
        };
        tokio::join!(exec, stop);
    }
}

#[tokio::test]
async fn what_never_was_can_be_stopped_and_removed() {
    let node = Node::boot().await;
    let id = "0".repeat(64);
    let mut runtime = node.runtime();
    let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    runtime.stop_container(request).await.unwrap();
    runtime.remove_container(RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
    let request = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
    runtime.stop_pod_sandbox(request).await.unwrap();
    runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await.unwrap();
}
