//! Who was killed for memory is called so, and nobody else.

use cais_proto::runtime::v1::ContainerState;
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup_files::{Group, keyed};
use crate::node::{BUSYBOX, Container, ContainerBuilder, Node, Pod};
use crate::scale::times;
use crate::wait::until;

const LIMIT_MIB: i64 = 16;

fn limited<'n, 'p>(pod: &'p Pod<'n>, name: &str) -> ContainerBuilder<'n, 'p> {
    pod.container(name).resources(|resources| {
        resources.memory_limit_in_bytes = LIMIT_MIB << 20;
        // Both together: no swap.
        resources.memory_swap_limit_in_bytes = LIMIT_MIB << 20;
    })
}

async fn end_of(container: &Container<'_>) -> (i32, String) {
    let exit = container.wait_exit().await;
    (exit.code, exit.reason)
}

fn kill_first(group: &Group) {
    let first = *group.processes().first().expect("a process");
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
}

/// A container of each kind, all at once. The greedy one is killed for memory; the others end with the same code
/// and were not.
async fn one_of_each(pod: &Pod<'_>, number: usize) {
    let name = |kind: &str| format!("{kind}-{number}");
    let greedy = limited(pod, &name("greedy")).shell("exec tail /dev/zero").start().await;
    let says_so = limited(pod, &name("says-so")).shell("exit 137").start().await;
    let killed = limited(pod, &name("killed")).command(["sleep", "1000"]).start().await;
    let stopped = limited(pod, &name("stopped")).command(["sleep", "1000"]).start().await;
    // Over its limit with what the kernel can drop.
    let cached = "head -c 40000000 /dev/zero > /file; exit 137";
    let cached = limited(pod, &name("cached")).shell(cached).start().await;
    kill_first(&Group::of_container(pod, &killed));
    stopped.stop(0).await;

    assert_eq!(end_of(&greedy).await, (137, "OOMKilled".to_owned()), "greedy {number}");
    for other in [&says_so, &killed, &stopped, &cached] {
        assert_eq!(end_of(other).await, (137, "Error".to_owned()), "{} {number}", other.id);
    }
    for container in [greedy, says_so, killed, stopped, cached] {
        container.remove().await;
    }
}

#[tokio::test]
async fn who_was_killed_for_memory_and_only_who_was_says_oom_killed() {
    let node = Node::boot().await;
    node.pull(BUSYBOX).await;
    // Two at a time, so that kills meet.
    let lanes = (0..2).map(|lane| {
        let node = &node;
        async move {
            let pod = node.pod(&format!("lane-{lane}")).run().await;
            for number in 0..times(5, 500) {
                one_of_each(&pod, number).await;
            }
        }
    });
    join_all(lanes).await;
}

/// How many processes of the group were killed for memory.
fn kills(group: &Group) -> u64 {
    let events = group.text("memory", "memory.oom_control", "memory.events").unwrap();
    keyed(&events, "oom_kill").unwrap()
}

#[tokio::test]
async fn a_child_killed_for_memory_does_not_make_a_later_kill_one() {
    let node = Node::boot().await;
    let pod = node.pod("later").run().await;
    // The monitor takes a moment to see that the first process lives on.
    let script = "tail /dev/zero; sleep 2; echo survived; while :; do sleep 1000; done";
    let start = async |name: &str| {
        let container = limited(&pod, name).shell(script).start().await;
        container.wait_output("survived").await;
        assert_eq!(kills(&Group::of_container(&pod, &container)), 1);
        assert_eq!(container.state().await, ContainerState::ContainerRunning);
        container
    };
    let stopped = start("stopped").await;
    stopped.stop(0).await;
    assert_eq!(end_of(&stopped).await, (137, "Error".to_owned()));

    // By somebody on the host, of whom the monitor does not hear.
    let killed = start("killed").await;
    kill_first(&Group::of_container(&pod, &killed));
    assert_eq!(end_of(&killed).await, (137, "Error".to_owned()));

    let greedy = "tail /dev/zero; echo survived; exec tail /dev/zero";
    let twice = limited(&pod, "twice").shell(greedy).start().await;
    assert_eq!(end_of(&twice).await, (137, "OOMKilled".to_owned()));
    assert_eq!(twice.output(), "survived\n");
}

#[tokio::test]
async fn an_exec_killed_for_memory_leaves_its_container_in_peace() {
    let node = Node::boot().await;
    let pod = node.pod("exec").run().await;
    let container = limited(&pod, "main").command(["sleep", "1000"]).start().await;
    let done = container.exec(&["tail", "/dev/zero"]).await;
    assert_eq!(done.exit_code, 137);
    let group = Group::of_container(&pod, &container);
    until("the kill to be counted", async || kills(&group) == 1).await;
    assert_eq!(container.shell("echo alive").await, "alive");
    container.stop(0).await;
    assert_eq!(end_of(&container).await, (137, "Error".to_owned()));
}
