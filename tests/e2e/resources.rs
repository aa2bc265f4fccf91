//! Limits reach the kernel, and a container over its memory is named so.

use std::fs;
use std::path::PathBuf;

use cais_proto::runtime::v1::{
    ContainerStatsRequest, LinuxContainerResources, PodSandboxStatsRequest,
    UpdateContainerResourcesRequest,
};

use crate::node::{Container, Node};
use crate::wait::until;

/// A container's file of the controller, whichever cgroup version that has here. The container sees its cgroup as the
/// root of its hierarchy; the files are read on the host.
async fn setting(container: &Container<'_>, controller: &str, v1: &str, v2: &str) -> String {
    let pid = container_pid(container).await;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let root = PathBuf::from("/sys/fs/cgroup");
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap());
        let group = path.trim_start_matches('/');
        if controllers.split(',').any(|c| c == controller) {
            let file = root.join(controller).join(group).join(v1);
            return fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        }
        if controllers.is_empty() && root.join(group).join(v2).exists() {
            return fs::read_to_string(root.join(group).join(v2)).unwrap();
        }
    }
    panic!("no cgroup with {controller} in {groups}")
}

/// The first process on the host whose environment carries the container's mark.
async fn container_pid(container: &Container<'_>) -> u32 {
    let mark = container.shell("echo $MARK").await;
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let carries = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|pair| pair == format!("MARK={mark}").as_bytes())
    };
    pids.find(carries).expect("a process with the mark")
}

#[tokio::test]
async fn limits_are_set_reported_and_updated() {
    let node = Node::boot().await;
    let pod = node.pod("limits").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).env("MARK", &node.name);
    let container = container.memory_limit_mib(64).resources(|resources| {
        resources.cpu_period = 100_000;
        resources.cpu_quota = 50_000;
        resources.cpu_shares = 512;
        resources.oom_score_adj = 300;
    });
    let container = container.start().await;
    let memory =
        async || setting(&container, "memory", "memory.limit_in_bytes", "memory.max").await;
    assert_eq!(memory().await.trim(), (64 << 20).to_string());
    let quota = setting(&container, "cpu", "cpu.cfs_quota_us", "cpu.max").await;
    assert!(["50000", "50000 100000"].contains(&quota.trim()), "{quota}");
    assert_eq!(container.shell("cat /proc/1/oom_score_adj").await, "300");

    let request = UpdateContainerResourcesRequest {
        container_id: container.id.clone(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    node.runtime().update_container_resources(request).await.unwrap();
    assert_eq!(memory().await.trim(), (128 << 20).to_string());
    let quota = setting(&container, "cpu", "cpu.cfs_quota_us", "cpu.max").await;
    assert!(quota.contains("50000"), "an update of one limit changed another: {quota}");
    let reported = container.status().await.resources.unwrap().linux.unwrap();
    assert_eq!(reported.memory_limit_in_bytes, 128 << 20);
    assert_eq!(reported.cpu_quota, 50_000);
}

#[tokio::test]
async fn a_container_out_of_memory_exits_137_oom_killed() {
    let node = Node::boot().await;
    let pod = node.pod("greedy").run().await;
    let hog = pod.container("hog").memory_limit_mib(16).shell("exec tail /dev/zero").start().await;
    let exit = hog.wait_exit().await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test]
async fn a_killed_child_over_the_limit_does_not_pass_for_the_containers_end() {
    let node = Node::boot().await;
    let pod = node.pod("child").run().await;
    let script = "tail /dev/zero; echo survived";
    let container = pod.container("main").memory_limit_mib(16).shell(script).start().await;
    let exit = container.wait_exit().await;
    assert_eq!((exit.code, container.output().as_str()), (0, "survived\n"));
    assert_ne!(exit.reason, "Error");
}

#[tokio::test]
async fn usage_is_reported_for_container_and_pod() {
    let node = Node::boot().await;
    let pod = node.pod("usage").run().await;
    let script = "head -c 5000000 /dev/zero > /written; i=0; while :; do i=$((i+1)); done";
    let container = pod.container("main").shell(script).start().await;
    let container_stats = async || {
        let request = ContainerStatsRequest { container_id: container.id.clone() };
        let reply = node.runtime().container_stats(request).await.unwrap();
        reply.into_inner().stats.unwrap()
    };
    let cpu_of = |stats: &cais_proto::runtime::v1::ContainerStats| {
        stats.cpu.as_ref().unwrap().usage_core_nano_seconds.unwrap().value
    };
    let first = cpu_of(&container_stats().await);
    until("more CPU time", async || cpu_of(&container_stats().await) > first).await;
    until("the written file to count", async || {
        let written = container_stats().await.writable_layer.unwrap().used_bytes.unwrap();
        written.value >= 5_000_000
    })
    .await;
    assert!(container_stats().await.memory.unwrap().working_set_bytes.unwrap().value > 0);

    let request = PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let reply = node.runtime().pod_sandbox_stats(request).await.unwrap();
    let stats = reply.into_inner().stats.unwrap().linux.unwrap();
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value >= first);
    assert_eq!(stats.network.unwrap().default_interface.unwrap().name, "eth0");
    assert_eq!(stats.containers.len(), 1);
}
