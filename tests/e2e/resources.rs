//! Limits reach the kernel, and a container over its memory is named so.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cais_proto::runtime::v1::{
    ContainerStatsRequest, HugepageLimit, LinuxContainerResources, PodSandboxStatsRequest,
    UpdateContainerResourcesRequest,
};

use crate::cgroup_files::Group;
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

fn megabytes(count: u64) -> u64 {
    count << 20
}

/// The controllers that the host has in its hierarchy of version 2, if there is one.
fn unified_controllers() -> String {
    let at = |root: &str| fs::read_to_string(format!("/sys/fs/cgroup{root}/cgroup.controllers"));
    at("").or_else(|_| at("/unified")).unwrap_or_default()
}

#[tokio::test]
async fn shares_processors_and_swap_reach_the_kernel_and_come_back_as_given() {
    let node = Node::boot().await;
    let pod = node.pod("more").run().await;
    let asked = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 512,
        cpuset_cpus: "0".to_owned(),
        cpuset_mems: "0".to_owned(),
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 96 << 20,
        ..Default::default()
    };
    let container = pod.container("main").command(["sleep", "1000"]);
    let container = container.resources(|resources| *resources = asked.clone()).start().await;
    let group = Group::of_container(&pod, &container);
    let text = |controller, v1, v2| {
        let text: Option<String> = group.text(controller, v1, v2);
        text.map(|text| text.trim().to_owned())
    };
    let shares = text("cpu", "cpu.shares", "cpu.weight").unwrap();
    assert!(["512", "59"].contains(&shares.as_str()), "{shares}");
    let quota = text("cpu", "cpu.cfs_quota_us", "cpu.max").unwrap();
    assert!(["-1", "max 100000"].contains(&quota.as_str()), "{quota}");
    assert_eq!(text("cpuset", "cpuset.cpus", "cpuset.cpus").unwrap(), "0");
    assert_eq!(text("cpuset", "cpuset.mems", "cpuset.mems").unwrap(), "0");
    let allowed = container.shell("grep Cpus_allowed_list: /proc/self/status | cut -f2").await;
    assert_eq!(allowed, "0");
    // v1 counts swap with the memory, v2 beside it; kernels without swap accounting have neither file.
    let swap = text("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    let expected = [megabytes(96), megabytes(32)].map(|bytes| bytes.to_string());
    assert!(swap.is_none_or(|swap| expected.contains(&swap)));
    let reported = container.status().await.resources.unwrap().linux.unwrap();
    assert_eq!(reported, asked);
}

#[tokio::test]
async fn a_limit_below_what_is_in_use_is_refused_and_nothing_changes() {
    let node = Node::boot().await;
    let pod = node.pod("shrink").run().await;
    let script = "head -c 50000000 /dev/zero > /dev/shm/file; echo full; exec sleep 1000";
    let container = pod.container("main").shell(script).memory_limit_mib(128);
    let container = container.resources(|resources| resources.cpu_shares = 512).start().await;
    container.wait_output("full").await;
    let group = Group::of_container(&pod, &container);
    let limit =
        || group.number("memory", "memory.limit_in_bytes", "memory.max").expect("a memory limit");
    let shares = || group.text("cpu", "cpu.shares", "cpu.weight");
    let (limit_before, shares_before) = (limit(), shares());
    assert_eq!(limit_before, megabytes(128));
    let update = async |memory: i64| {
        let linux = LinuxContainerResources {
            memory_limit_in_bytes: memory << 20,
            cpu_shares: 1024,
            ..Default::default()
        };
        let container_id = container.id.clone();
        let request = UpdateContainerResourcesRequest {
            container_id,
            linux: Some(linux),
            ..Default::default()
        };
        node.runtime().update_container_resources(request).await
    };
    let refused = update(16).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("memory_limit"), "{refused:?}");
    assert_eq!((limit(), shares()), (limit_before, shares_before.clone()));
    let reported = container.status().await.resources.unwrap().linux.unwrap();
    assert_eq!((reported.memory_limit_in_bytes, reported.cpu_shares), (128 << 20, 512));

    update(96).await.unwrap();
    assert_eq!(limit(), megabytes(96));
    assert_ne!(shares(), shares_before);
    assert_eq!(container.shell("wc -c < /dev/shm/file").await, "50000000");
}

/// What the host has no controller for is refused by the name of the file, and a limit of zero on pages of a size that the
/// host lacks holds already.
#[tokio::test]
async fn huge_pages_and_files_of_the_unified_hierarchy_are_set_or_refused_by_name() {
    let node = Node::boot().await;
    let pod = node.pod("files").run().await;
    let pages = |name: &str, size: &str, limit: u64| {
        let limit = HugepageLimit { page_size: size.to_owned(), limit };
        let container = pod.container(name).command(["sleep", "1000"]);
        container.resources(|resources| resources.hugepage_limits = vec![limit])
    };
    pages("none", "2MB", 0).start().await;
    pages("strange", "3MB", 0).start().await;
    let some = pages("some", "2MB", 4 << 20);
    let controllers = unified_controllers();
    let has = |name: &str| controllers.split_whitespace().any(|known| known == name);
    if has("hugetlb") || fs::exists("/sys/fs/cgroup/hugetlb").unwrap() {
        let group = Group::of_container(&pod, &some.start().await);
        let limit = group.number("hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max");
        assert_eq!(limit, Some(megabytes(4)));
    } else {
        let refused = some.try_create().await.err().expect("no controller for huge pages");
        assert!(refused.message().contains("hugetlb"), "{refused:?}");
    }
    let unified = |name: &str, file: &str, value: &str| {
        let pair = (file.to_owned(), value.to_owned());
        let container = pod.container(name).command(["sleep", "1000"]);
        container.resources(|resources| resources.unified.extend([pair]))
    };
    for (controller, file, value) in
        [("pids", "pids.max", "20"), ("hugetlb", "hugetlb.2MB.max", "2097152")]
    {
        let asked = unified(controller, file, value);
        if has(controller) {
            let container = asked.start().await;
            let group = Group::of_container(&pod, &container);
            assert_eq!(group.unified(file).unwrap().trim(), value);
            let reported = container.status().await.resources.unwrap().linux.unwrap();
            assert_eq!(reported.unified[file], value);
        } else {
            let refused = asked.try_create().await.err().expect("no controller in that hierarchy");
            assert!(refused.message().contains(file), "{refused:?}");
        }
    }
    let nonsense = unified("nonsense", "nothing.here", "1").try_create().await;
    let refused = nonsense.err().expect("there is no such file");
    assert!(refused.message().contains("nothing.here"), "{refused:?}");
}

#[tokio::test]
async fn a_pods_containers_are_below_the_parent_that_its_client_names() {
    let node = Node::boot().await;
    let parent = format!("/{}/besteffort/pod-1", node.name);
    let pod = node.pod("parent").linux(|linux| linux.cgroup_parent = parent.clone()).run().await;
    let container = pod.container("main").command(["sleep", "1000"]).env("MARK", &node.name);
    let container = container.start().await;
    let pid = container_pid(&container).await;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let below = format!("{parent}/");
    let own: Vec<&str> = groups.lines().filter(|line| line.contains(&node.name)).collect();
    assert!(!own.is_empty(), "{groups}");
    assert!(
        own.iter().all(|line| line.splitn(3, ':').nth(2).unwrap().starts_with(&below)),
        "{groups}"
    );
    pod.remove().await;
    let path = format!("*{parent}*");
    let left = Command::new("find").args(["/sys/fs/cgroup", "-path", &path]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

fn hard_limit_of_files() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// The daemon's own limits would differ from start to start.
#[tokio::test]
async fn limits_of_a_process_are_a_fixed_table_for_it_and_its_commands() {
    let node = Node::boot().await;
    let pod = node.pod("rlimits").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    for process in ["1", "self"] {
        let limits = container.shell(&format!("cat /proc/{process}/limits")).await;
        let of = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        // A daemon without CAP_SYS_RESOURCE cannot give more than it has.
        let most = hard_limit_of_files();
        let files = of("Max open files");
        assert!(files == ["1024", "524288"] || files == ["1024", most.as_str()], "{files:?}");
        assert_eq!(of("Max core file size"), ["0", "unlimited"]);
        assert_eq!(of("Max locked memory"), ["8388608", "8388608"]);
    }
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
