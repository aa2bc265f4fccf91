//! Pods: their life, what is shared in them, and how they are found.

use std::collections::HashMap;
use std::fs;

use cais_proto::runtime::v1::{
    CgroupDriver, DnsConfig, LinuxContainerSecurityContext, ListPodSandboxRequest, NamespaceMode,
    NamespaceOption, NetworkConfig, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
    RemovePodSandboxRequest, RuntimeConfig, RuntimeConfigRequest, StatusRequest,
    StopPodSandboxRequest, UpdateRuntimeConfigRequest, VersionRequest,
};

use crate::node::Node;

#[tokio::test]
async fn the_runtime_says_what_it_is_and_can_and_how_it_is_configured() {
    let node = Node::boot().await;
    let version = node.runtime().version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));
    assert_eq!(version.runtime_name, "cais");
    assert_eq!(version.runtime_version, env!("CARGO_PKG_VERSION"));

    let status = node.runtime().status(StatusRequest { verbose: true }).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    let kinds: Vec<&str> = conditions.iter().map(|condition| condition.r#type.as_str()).collect();
    assert_eq!(kinds, ["RuntimeReady", "NetworkReady"]);
    assert!(conditions.iter().all(|condition| condition.status), "{conditions:?}");
    let [handler] = &status.runtime_handlers[..] else { panic!("{:?}", status.runtime_handlers) };
    assert_eq!(handler.name, "");
    assert!(handler.features.unwrap().recursive_read_only_mounts);
    let features = status.features.unwrap();
    assert!(features.supplemental_groups_policy && features.mount_options);
    let info: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    assert_eq!(info["stateDir"], node.state.to_str().unwrap());
    assert_eq!(info["rootDir"], node.home.join("root").to_str().unwrap());
    assert_eq!(info["sandboxImage"], "");
    assert_eq!(info["effective"]["network"]["bridge"], node.bridge.as_str());
    let brief = node.runtime().status(StatusRequest { verbose: false }).await.unwrap();
    assert!(brief.into_inner().info.is_empty());

    let config = node.runtime().runtime_config(RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
    let network = NetworkConfig { pod_cidr: "10.1.0.0/24".to_owned() };
    let told = RuntimeConfig { network_config: Some(network) };
    let told = UpdateRuntimeConfigRequest { runtime_config: Some(told) };
    node.runtime().update_runtime_config(told).await.unwrap();
    let nothing = UpdateRuntimeConfigRequest::default();
    let refused = node.runtime().update_runtime_config(nothing).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("runtime_config"), "{refused:?}");
}

#[tokio::test]
async fn a_pod_is_ready_until_it_is_stopped_and_gone_when_removed() {
    let node = Node::boot().await;
    let pod = node.pod("life").with(|config| {
        config.labels = HashMap::from([("app".to_owned(), "life".to_owned())]);
        config.annotations = HashMap::from([("note".to_owned(), "kept".to_owned())]);
    });
    let pod = pod.run().await;

    let status = pod.status().await;
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.metadata, pod.config.metadata);
    assert_eq!(status.labels, pod.config.labels);
    assert_eq!(status.annotations, pod.config.annotations);
    assert!(status.created_at > 1_700_000_000_000_000_000, "{}", status.created_at);

    pod.stop().await;
    assert!(!pod.is_ready().await);
    pod.stop().await;
    pod.remove().await;
    pod.remove().await;
    assert_eq!(pod.try_status().await.unwrap_err().code(), tonic::Code::NotFound);
    assert!(node.pod_ids().await.is_empty());
}

#[tokio::test]
async fn stopping_a_pod_ends_its_containers_and_removing_it_removes_them() {
    let node = Node::boot().await;
    let pod = node.pod("full").run().await;
    let stubborn =
        pod.container("stubborn").shell("trap '' TERM; sleep 1000 & wait; wait").start().await;
    let created = pod.container("created").command(["true"]).create().await;

    pod.stop().await;
    let exit = stubborn.wait_exit().await;
    assert_eq!(exit.code, 137);
    pod.remove().await;
    for container in [stubborn, created] {
        assert_eq!(container.try_status().await.unwrap_err().code(), tonic::Code::NotFound);
    }
}

#[tokio::test]
async fn a_running_pod_is_removed_without_being_stopped_first() {
    let node = Node::boot().await;
    let pod = node.pod("forced").run().await;
    pod.container("sleeper").command(["sleep", "1000"]).start().await;
    let request = RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    node.runtime().remove_pod_sandbox(request).await.unwrap();
    assert!(node.pod_ids().await.is_empty());
}

#[tokio::test]
async fn stopping_and_removing_an_unknown_pod_succeeds() {
    let node = Node::boot().await;
    let pod_sandbox_id = "0".repeat(64);
    let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    node.runtime().stop_pod_sandbox(stop).await.unwrap();
    node.runtime().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
}

#[tokio::test]
async fn pods_are_filtered_by_id_prefix_state_and_labels() {
    let node = Node::boot().await;
    let labelled = |name: &'static str| {
        node.pod(name).with(|config| {
            config.labels = HashMap::from([("name".to_owned(), name.to_owned())]);
        })
    };
    let one = labelled("one").run().await;
    let two = labelled("two").run().await;
    two.stop().await;
    let found = async |filter: PodSandboxFilter| {
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let listed = node.runtime().list_pod_sandbox(request).await.unwrap().into_inner();
        let mut ids: Vec<String> = listed.items.into_iter().map(|pod| pod.id).collect();
        ids.sort();
        ids
    };
    let state = |state: PodSandboxState| Some(PodSandboxStateValue { state: state.into() });

    let mut both = vec![one.id.clone(), two.id.clone()];
    both.sort();
    assert_eq!(found(PodSandboxFilter::default()).await, both);
    let by_id = PodSandboxFilter { id: one.id[..13].to_owned(), ..Default::default() };
    assert_eq!(found(by_id).await, [one.id.as_str()]);
    let by_state =
        PodSandboxFilter { state: state(PodSandboxState::SandboxNotready), ..Default::default() };
    assert_eq!(found(by_state).await, [two.id.as_str()]);
    let by_label = PodSandboxFilter {
        label_selector: HashMap::from([("name".to_owned(), "one".to_owned())]),
        ..Default::default()
    };
    assert_eq!(found(by_label).await, [one.id.as_str()]);
    let by_all = PodSandboxFilter {
        state: state(PodSandboxState::SandboxNotready),
        label_selector: HashMap::from([("name".to_owned(), "one".to_owned())]),
        ..Default::default()
    };
    assert!(found(by_all).await.is_empty());
}

#[tokio::test]
async fn a_repeated_request_finds_its_pod_and_another_of_that_name_is_refused() {
    let node = Node::boot().await;
    let pod = node.pod("twin").run().await;
    let repeated = node.pod("twin").run().await;
    assert_eq!(repeated.id, pod.id);
    let other = node.pod("twin").with(|config| config.hostname = "other".to_owned());
    let Err(refused) = other.try_run().await else { panic!("a second pod was made") };
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused:?}");
    assert!(refused.message().contains(&pod.id), "{refused:?}");
    assert_eq!(node.pod_ids().await, [pod.id.as_str()]);
    assert!(pod.is_ready().await);
}

#[tokio::test]
async fn hostname_dns_and_hosts_are_what_the_pod_asked_for() {
    let node = Node::boot().await;
    let pod = node.pod("named").with(|config| {
        config.dns_config = Some(DnsConfig {
            servers: vec!["10.96.0.10".to_owned()],
            searches: vec!["svc.cluster.local".to_owned(), "cluster.local".to_owned()],
            options: vec!["ndots:5".to_owned()],
        });
    });
    let pod = pod.run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    assert_eq!(container.shell("hostname").await, "named");
    assert_eq!(container.shell("cat /etc/hostname").await, "named");
    assert_eq!(container.shell("echo $HOSTNAME").await, "named");
    let resolv = container.shell("cat /etc/resolv.conf").await;
    let expected = "search svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&resolv), sorted(expected));
    let hosts = container.shell("cat /etc/hosts").await;
    assert!(hosts.contains("127.0.0.1"), "{hosts}");
    assert!(hosts.contains(&format!("{}\tnamed", pod.ip().await)), "{hosts}");
}

#[tokio::test]
async fn a_pod_without_dns_configuration_has_the_hosts_and_one_with_an_empty_one_has_none() {
    let node = Node::boot().await;
    let of = async |name: &str, dns: Option<DnsConfig>| {
        let pod = node.pod(name).with(|config| config.dns_config = dns).run().await;
        pod.container("main").shell("cat /etc/resolv.conf").output().await
    };
    let host = fs::read_to_string("/etc/resolv.conf").unwrap();
    // A cache on the host's loopback would not be reached from the pod's.
    let is_local = |line: &str| line.starts_with("nameserver 127.") || line == "nameserver ::1";
    let expected: Vec<&str> = host.lines().filter(|line| !is_local(line)).collect();
    assert_eq!(of("host", None).await.lines().collect::<Vec<_>>(), expected);
    assert_eq!(of("none", Some(DnsConfig::default())).await, "");
}

#[tokio::test]
async fn containers_share_the_pods_network_ipc_and_shm_but_not_processes() {
    let node = Node::boot().await;
    let pod = node.pod("shared").run().await;
    let one = pod.container("one").command(["sleep", "1000"]).start().await;
    let two = pod.container("two").command(["sleep", "1000"]).start().await;
    let namespace = |name: &str| format!("readlink /proc/self/ns/{name}");
    for shared in ["net", "ipc", "uts"] {
        assert_eq!(one.shell(&namespace(shared)).await, two.shell(&namespace(shared)).await);
    }
    for own in ["pid", "mnt"] {
        assert_ne!(one.shell(&namespace(own)).await, two.shell(&namespace(own)).await);
    }
    one.shell("echo hello > /dev/shm/note").await;
    assert_eq!(two.shell("cat /dev/shm/note").await, "hello");
    assert_eq!(one.shell("cat /proc/1/comm").await, "sleep");
}

#[tokio::test]
async fn a_shared_process_namespace_shows_the_other_container() {
    let node = Node::boot().await;
    let pod = node.pod("pids").namespaces(|n| n.pid = NamespaceMode::Pod.into()).run().await;
    let one = pod.container("one").security(pod_pids).command(["sleep", "1234"]).start().await;
    let two = pod.container("two").security(pod_pids).command(["sleep", "4321"]).start().await;
    let seen = two.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
    assert!(seen.contains("sleep 1234") && seen.contains("sleep 4321"), "{seen}");
    one.stop(0).await;
    two.stop(0).await;
}

#[tokio::test]
async fn a_debug_container_joins_the_processes_of_its_target() {
    let node = Node::boot().await;
    let pod = node.pod("debugged").run().await;
    let target = pod.container("target").command(["sleep", "1234"]).start().await;
    let bystander = pod.container("bystander").command(["sleep", "4321"]).start().await;
    let aimed_at = |id: &str| {
        let target_id = id.to_owned();
        move |context: &mut LinuxContainerSecurityContext| {
            let pid = NamespaceMode::Target.into();
            context.namespace_options =
                Some(NamespaceOption { pid, target_id, ..Default::default() });
        }
    };
    let debug = pod.container("debug").security(aimed_at(&target.id));
    let debug = debug.command(["sleep", "99"]).start().await;
    let namespace = "readlink /proc/self/ns/pid";
    assert_eq!(debug.shell(namespace).await, target.shell(namespace).await);
    assert_ne!(debug.shell(namespace).await, bystander.shell(namespace).await);
    assert_eq!(debug.shell("tr '\\0' ' ' < /proc/1/cmdline").await, "sleep 1234");
    // Its files are still its own image's.
    let mounts = "readlink /proc/self/ns/mnt";
    assert_ne!(debug.shell(mounts).await, target.shell(mounts).await);

    let elsewhere = node.pod("elsewhere").run().await;
    let refused = elsewhere.container("debug").security(aimed_at(&target.id)).command(["true"]);
    let refused = refused.try_create().await.err().expect("the target is in another pod");
    assert!(refused.message().contains(&target.id[..12]), "{refused:?}");
    // The namespace ends with its first process, and with it whoever joined.
    target.stop(0).await;
    assert_eq!(debug.wait_exit().await.code, 137);
    assert_eq!(bystander.shell("echo alive").await, "alive");
}

#[tokio::test]
async fn a_pod_on_the_hosts_processes_and_ipc_has_the_hosts() {
    let node = Node::boot().await;
    let to_host = |options: &mut NamespaceOption| {
        (options.pid, options.ipc) = (NamespaceMode::Node.into(), NamespaceMode::Node.into());
    };
    let pod = node.pod("host").namespaces(to_host).run().await;
    let container = pod.container("main").security(|context| {
        to_host(context.namespace_options.get_or_insert_default());
    });
    let container = container.command(["sleep", "1000"]).start().await;
    for (kind, is_hosts) in [("pid", true), ("ipc", true), ("net", false), ("uts", false)] {
        let inside = container.shell(&format!("readlink /proc/self/ns/{kind}")).await;
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(inside == ours.to_str().unwrap(), is_hosts, "{kind}: {inside}");
    }
    let note = format!("/dev/shm/{}", node.name);
    container.shell(&format!("echo seen > {note}")).await;
    assert_eq!(fs::read_to_string(&note).unwrap(), "seen\n");
    fs::remove_file(note).unwrap();
    assert_eq!(
        container.shell(&format!("test -d /proc/{} && echo there", std::process::id())).await,
        "there"
    );
}

fn pod_pids(context: &mut LinuxContainerSecurityContext) {
    context.namespace_options.get_or_insert_default().pid = NamespaceMode::Pod.into();
}

#[tokio::test]
async fn a_pod_on_the_hosts_network_has_its_interfaces_and_no_address_of_its_own() {
    let node = Node::boot().await;
    let pod = node.pod("host").with(|config| config.hostname.clear());
    let pod = pod.namespaces(|n| n.network = NamespaceMode::Node.into()).run().await;
    let on_host = |context: &mut LinuxContainerSecurityContext| {
        context.namespace_options.get_or_insert_default().network = NamespaceMode::Node.into();
    };
    let container =
        pod.container("main").security(on_host).command(["sleep", "1000"]).start().await;
    assert_eq!(pod.ip().await, "");
    let inside = container.shell("readlink /proc/self/ns/net").await;
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(inside, ours.to_str().unwrap());
}

#[tokio::test]
async fn namespaced_sysctls_are_set_for_the_pod_only() {
    let node = Node::boot().await;
    let sysctl = "net.ipv4.ip_unprivileged_port_start";
    let pod = node.pod("sysctl").linux(|linux| {
        linux.sysctls = HashMap::from([(sysctl.to_owned(), "80".to_owned())]);
    });
    let pod = pod.run().await;
    let file = format!("/proc/sys/{}", sysctl.replace('.', "/"));
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    assert_eq!(container.shell(&format!("cat {file}")).await, "80");
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), "1024");
}

#[tokio::test]
async fn a_pod_adds_no_entry_to_the_hosts_mount_table() {
    let node = Node::boot().await;
    let count = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let before = count();
    let pod = node.pod("mountless").run().await;
    pod.container("main").command(["sleep", "1000"]).start().await;
    assert_eq!(count(), before);
}
