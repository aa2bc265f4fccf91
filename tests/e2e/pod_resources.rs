//! UpdatePodSandboxResources: what a pod may use is known, in force, and still so after a restart.

use cais_proto::runtime::v1::{
    LinuxContainerResources, PodSandboxStatusRequest, UpdatePodSandboxResourcesRequest,
};
use tonic::{Code, Status};

use crate::cgroup_files::Group;
use crate::node::{Node, Pod};

const MIB: i64 = 1 << 20;

fn limits(memory_mib: i64, cpu_quota: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        memory_limit_in_bytes: memory_mib * MIB,
        cpu_quota,
        cpu_period: 100_000,
        cpu_shares: 512,
        ..Default::default()
    }
}

async fn update(
    pod: &Pod<'_>,
    resources: Option<LinuxContainerResources>,
    overhead: Option<LinuxContainerResources>,
) -> Result<(), Status> {
    let pod_sandbox_id = pod.id.clone();
    let request = UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources };
    pod.node.runtime().update_pod_sandbox_resources(request).await.map(drop)
}

async fn told(pod: &Pod<'_>) -> String {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let reply = pod.node.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
    reply.info["info"].clone()
}

fn memory_mib(group: &Group) -> Option<u64> {
    let limit = group.number("memory", "memory.limit_in_bytes", "memory.max");
    limit.map(|bytes| bytes >> 20)
}

fn cpu_quota(group: &Group) -> Option<u64> {
    group
        .number("cpu", "cpu.cfs_quota_us", "-")
        .or_else(|| group.unified("cpu.max")?.split_whitespace().next()?.parse().ok())
}

#[tokio::test]
async fn a_pods_limits_are_in_force_and_outlive_the_daemon() {
    let node = Node::boot().await;
    let pod = node.pod("resized").run().await;
    let group = Group::of_pod(&pod);
    // Before there is a container, there is no cgroup of the pod: it is limited when it comes.
    update(&pod, Some(limits(128, 50_000)), Some(limits(16, 5_000))).await.unwrap();
    let first = pod.container("first").command(["sleep", "1000"]).start().await;
    assert_eq!((memory_mib(&group), cpu_quota(&group)), (Some(144), Some(55_000)));

    update(&pod, Some(limits(256, 80_000)), None).await.unwrap();
    assert_eq!((memory_mib(&group), cpu_quota(&group)), (Some(272), Some(85_000)));
    let told_before = told(&pod).await;
    assert!(told_before.contains(&format!("\"memory_limit\":{}", 256 * MIB)), "{told_before}");
    assert!(told_before.contains(&format!("\"memory_limit\":{}", 16 * MIB)), "{told_before}");

    node.restart().await;
    assert_eq!(told(&pod).await, told_before);
    // The cgroup goes with the last container, and comes back limited.
    first.remove().await;
    pod.container("second").command(["sleep", "1000"]).start().await;
    assert_eq!((memory_mib(&group), cpu_quota(&group)), (Some(272), Some(85_000)));
    // A retry of the request that made the pod still finds it.
    let again = node.pod("resized").run().await;
    assert_eq!(again.id, pod.id);
}

#[tokio::test]
async fn what_cannot_be_limited_so_is_refused_and_nothing_changes() {
    let node = Node::boot().await;
    let pod = node.pod("refused").run().await;
    let container =
        pod.container("main").shell("head -c 60000000 /dev/zero | tail -c 60000000 | sleep 1000");
    let container = container.start().await;
    update(&pod, Some(limits(256, 50_000)), None).await.unwrap();
    let before = told(&pod).await;
    let group = Group::of_pod(&pod);
    crate::wait::until("use of memory", async || {
        group.number("memory", "memory.usage_in_bytes", "memory.current") > Some(50 << 20)
    })
    .await;

    let error = update(&pod, Some(limits(8, 50_000)), None).await.unwrap_err();

    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("memory_limit"), "{error}");
    assert_eq!((memory_mib(&group), told(&pod).await), (Some(256), before));
    let error = update(&pod, Some(limits(64, 5)), None).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("resources.cpu_quota"), "{error}");
    container.stop(0).await;
    pod.stop().await;
    let error = update(&pod, Some(limits(64, 50_000)), None).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    pod.remove().await;
    let error = update(&pod, Some(limits(64, 50_000)), None).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}
