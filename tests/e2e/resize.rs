//! A memory limit below what is in use: refused with nothing changed, or applied with nobody killed.

use cais_proto::runtime::v1::{
    ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest,
};
use tonic::{Code, Status};

use crate::cgroup_files::{Group, keyed};
use crate::node::{Container, Node, Pod};
use crate::scale::{Chance, times};

const MIB: i64 = 1 << 20;

async fn update(
    container: &Container<'_>,
    resources: LinuxContainerResources,
) -> Result<(), Status> {
    let request = UpdateContainerResourcesRequest {
        container_id: container.id.clone(),
        linux: Some(resources),
        ..Default::default()
    };
    container.node.runtime().update_container_resources(request).await.map(|_| ())
}

fn memory(limit: i64) -> LinuxContainerResources {
    LinuxContainerResources { memory_limit_in_bytes: limit, ..Default::default() }
}

/// What the kernel has in force, and what the status says: they must be the same.
async fn limit_of(pod: &Pod<'_>, container: &Container<'_>) -> i64 {
    let kernel = Group::of_container(pod, container)
        .number("memory", "memory.limit_in_bytes", "memory.max")
        .expect("a limit");
    let status = container.status().await.resources.unwrap().linux.unwrap();
    assert_eq!(Ok(status.memory_limit_in_bytes), i64::try_from(kernel));
    status.memory_limit_in_bytes
}

async fn assert_unharmed(pod: &Pod<'_>, container: &Container<'_>) {
    let group = Group::of_container(pod, container);
    let events = group.text("memory", "memory.oom_control", "memory.events").unwrap();
    assert_eq!(keyed(&events, "oom_kill"), Some(0), "{events}");
    assert_eq!(container.state().await, ContainerState::ContainerRunning);
    assert_eq!(container.shell("echo alive").await, "alive");
}

/// A container that keeps 40 MiB in memory that the kernel cannot drop.
async fn holder<'n>(pod: &Pod<'n>) -> Container<'n> {
    let script = "head -c 41943040 /dev/zero > /dev/shm/held; echo held; exec sleep 1000";
    let container = pod.container("holder").shell(script).resources(|resources| {
        resources.memory_limit_in_bytes = 128 * MIB;
        resources.memory_swap_limit_in_bytes = 128 * MIB;
        resources.cpu_shares = 512;
    });
    let container = container.start().await;
    container.wait_output("held").await;
    container
}

#[tokio::test]
async fn a_limit_below_what_is_held_is_refused_and_changes_nothing() {
    let node = Node::boot().await;
    let pod = node.pod("held").run().await;
    let container = holder(&pod).await;
    let group = Group::of_container(&pod, &container);
    let shares = || group.number("cpu", "cpu.shares", "cpu.weight").unwrap();
    let before = shares();
    for limit in [1, 8, 20, 39] {
        let change = LinuxContainerResources { cpu_shares: 256, ..memory(limit * MIB) };
        let refused = update(&container, change).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert_eq!(limit_of(&pod, &container).await, 128 * MIB);
        assert_eq!(shares(), before);
    }
    let status = container.status().await.resources.unwrap().linux.unwrap();
    assert_eq!(status.cpu_shares, 512);
    assert_unharmed(&pod, &container).await;
    update(&container, memory(64 * MIB)).await.unwrap();
    assert_eq!(limit_of(&pod, &container).await, 64 * MIB);
    assert_unharmed(&pod, &container).await;
}

#[tokio::test]
async fn a_limit_below_what_can_be_dropped_is_applied() {
    let node = Node::boot().await;
    let pod = node.pod("cached").run().await;
    let script = "head -c 83886080 /dev/zero > /file; sync; echo written; exec sleep 1000";
    let container = pod.container("writer").memory_limit_mib(128).shell(script).start().await;
    container.wait_output("written").await;
    let used = Group::of_container(&pod, &container)
        .number("memory", "memory.usage_in_bytes", "memory.current")
        .unwrap();
    assert!(used > 40 << 20, "the file is not in memory: {used}");
    update(&container, memory(24 * MIB)).await.unwrap();
    assert_eq!(limit_of(&pod, &container).await, 24 * MIB);
    assert_unharmed(&pod, &container).await;
}

#[tokio::test]
async fn limits_around_what_is_in_use_are_applied_or_refused_and_nobody_is_killed() {
    let node = Node::boot().await;
    let pod = node.pod("around").run().await;
    let container = holder(&pod).await;
    let mut chance = Chance::seeded(12);
    let (mut applied, mut refused) = (0, 0);
    let mut present = limit_of(&pod, &container).await;
    for _ in 0..times(60, 1000) {
        let wanted = 24 * MIB + 4096 * i64::try_from(chance.below(10_000)).unwrap();
        match update(&container, memory(wanted)).await {
            Ok(()) => {
                applied += 1;
                present = wanted;
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
            }
        }
        assert_eq!(limit_of(&pod, &container).await, present);
    }
    assert!(applied > 0 && refused > 0, "{applied} applied, {refused} refused");
    assert_unharmed_after_roomy_limit(&pod, &container).await;
}

/// A limit that leaves no room lets no new command in; that is not the question here.
async fn assert_unharmed_after_roomy_limit(pod: &Pod<'_>, container: &Container<'_>) {
    update(container, memory(128 * MIB)).await.unwrap();
    assert_unharmed(pod, container).await;
}
