//! Requests that make no sense: the code says so, and the message names the field.
#![expect(
    clippy::semicolon_if_nothing_returned,
    reason = "a table: a row is a name, a change, a word"
)]

use cais_proto::runtime::v1::*;
use tonic::{Code, Status};

use crate::node::Node;

pub(crate) type Change<T> = fn(&mut T);
/// What is wrong, how, and what the message must contain.
pub(crate) type Row<T> = (&'static str, Change<T>, &'static str);

fn pod_context(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn pod_options(config: &mut PodSandboxConfig) -> &mut NamespaceOption {
    pod_context(config).namespace_options.get_or_insert_default()
}

fn mapping(config: &mut PodSandboxConfig, host: i32, container: i32, protocol: i32, ip: &str) {
    config.port_mappings.push(PortMapping {
        protocol,
        container_port: container,
        host_port: host,
        host_ip: ip.to_owned(),
    });
}

const PODS: &[Row<PodSandboxConfig>] = &[
    ("no metadata", |c| c.metadata = None, "metadata"),
    ("no name", |c| c.metadata.as_mut().unwrap().name.clear(), "metadata.name"),
    ("no uid", |c| c.metadata.as_mut().unwrap().uid.clear(), "metadata.uid"),
    ("no namespace", |c| c.metadata.as_mut().unwrap().namespace.clear(), "metadata.namespace"),
    ("a long name", |c| c.metadata.as_mut().unwrap().name = "n".repeat(5000), "metadata.name"),
    ("a long hostname", |c| c.hostname = "h".repeat(65), "hostname"),
    ("a slash in the hostname", |c| c.hostname = "a/b".to_owned(), "hostname"),
    ("a relative log directory", |c| c.log_directory = "logs".to_owned(), "log_directory"),
    ("a log directory with ..", |c| c.log_directory = "/var/../etc".to_owned(), "log_directory"),
    (
        "a cgroup parent with ..",
        |c| c.linux.as_mut().unwrap().cgroup_parent = "/a/../..".to_owned(),
        "cgroup_parent",
    ),
    ("an unknown network mode", |c| pod_options(c).network = 99, "network"),
    ("an unknown pid mode", |c| pod_options(c).pid = -1, "pid"),
    ("a pod that targets", |c| pod_options(c).pid = 3, "pid"),
    ("an unknown ipc mode", |c| pod_options(c).ipc = 77, "ipc"),
    ("an ipc namespace for each container", |c| pod_options(c).ipc = 1, "namespace_options.ipc"),
    ("a network for each container", |c| pod_options(c).network = 1, "namespace_options.network"),
    ("a network that targets", |c| pod_options(c).network = 3, "namespace_options.network"),
    (
        "users of a container's own",
        |c| pod_options(c).userns_options = Some(UserNamespace { mode: 1, ..Default::default() }),
        "userns_options",
    ),
    (
        "users of an unknown mode",
        |c| pod_options(c).userns_options = Some(UserNamespace { mode: 8, ..Default::default() }),
        "userns_options",
    ),
    (
        "a group without user",
        |c| pod_context(c).run_as_group = Some(Int64Value { value: 1 }),
        "run_as_group",
    ),
    (
        "a negative user",
        |c| pod_context(c).run_as_user = Some(Int64Value { value: -1 }),
        "run_as_user",
    ),
    ("a negative group", |c| pod_context(c).supplemental_groups = vec![-7], "supplemental_groups"),
    (
        "an unknown policy for groups",
        |c| pod_context(c).supplemental_groups_policy = 5,
        "supplemental_groups_policy",
    ),
    (
        "an unknown kind of seccomp profile",
        |c| {
            pod_context(c).seccomp =
                Some(SecurityProfile { profile_type: 12, localhost_ref: String::new() })
        },
        "seccomp",
    ),
    (
        "an unknown kind of AppArmor profile",
        |c| {
            pod_context(c).apparmor =
                Some(SecurityProfile { profile_type: -3, localhost_ref: String::new() })
        },
        "apparmor",
    ),
    ("a long uid", |c| c.metadata.as_mut().unwrap().uid = "u".repeat(254), "metadata.uid"),
    (
        "a long namespace",
        |c| c.metadata.as_mut().unwrap().namespace = "n".repeat(254),
        "metadata.namespace",
    ),
    (
        "a line break in a name",
        |c| c.metadata.as_mut().unwrap().name = "a\nb".to_owned(),
        "metadata.name",
    ),
    ("a long log directory", |c| c.log_directory = "/l".repeat(3000), "log_directory"),
    (
        "a log directory with a long component",
        |c| c.log_directory = format!("/{}", "l".repeat(256)),
        "log_directory",
    ),
    (
        "a long cgroup parent",
        |c| c.linux.as_mut().unwrap().cgroup_parent = format!("/{}", "g".repeat(256)),
        "cgroup_parent",
    ),
    (
        "negative overhead",
        |c| {
            let limits =
                LinuxContainerResources { memory_limit_in_bytes: -9, ..Default::default() };
            c.linux.as_mut().unwrap().overhead = Some(limits);
        },
        "overhead.memory_limit_in_bytes",
    ),
    (
        "negative resources",
        |c| {
            let limits = LinuxContainerResources { cpu_shares: -9, ..Default::default() };
            c.linux.as_mut().unwrap().resources = Some(limits);
        },
        "resources.cpu_shares",
    ),
    (
        "a port published twice",
        |c| {
            mapping(c, 8080, 80, 0, "");
            mapping(c, 8080, 81, 0, "");
        },
        "host_port",
    ),
    ("a port over the top", |c| mapping(c, 70_000, 80, 0, ""), "host_port"),
    ("a negative port", |c| mapping(c, 8080, -1, 0, ""), "container_port"),
    ("an unknown protocol", |c| mapping(c, 8080, 80, 9, ""), "protocol"),
    ("a host ip that is none", |c| mapping(c, 8080, 80, 0, "localhost"), "host_ip"),
    (
        "a dns server with a line break",
        |c| {
            c.dns_config = Some(DnsConfig {
                servers: vec!["1.1.1.1\nsearch evil".to_owned()],
                ..Default::default()
            })
        },
        "dns_config",
    ),
    (
        "a sysctl of the node",
        |c| {
            c.linux.as_mut().unwrap().sysctls.insert("vm.swappiness".to_owned(), "1".to_owned());
        },
        "vm.swappiness",
    ),
    (
        "a sysctl with ..",
        |c| {
            c.linux
                .as_mut()
                .unwrap()
                .sysctls
                .insert("net/../vm/swappiness".to_owned(), "1".to_owned());
        },
        "sysctls",
    ),
];

pub(crate) fn check(what: &str, error: &Status, part: &str) -> Option<String> {
    let codes = [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition];
    let code_fits = codes.contains(&error.code());
    let names_it = error.message().contains(part);
    (!code_fits || !names_it)
        .then(|| format!("{what}: {:?} {:?} (no {part})", error.code(), error.message()))
}

#[tokio::test]
async fn senseless_pods_are_refused_by_field() {
    let node = Node::boot().await;
    let mut wrong = Vec::new();
    for &(what, change, part) in PODS {
        match node.pod("senseless").with(change).try_run().await {
            Ok(pod) => {
                wrong.push(format!("{what}: was made"));
                pod.remove().await;
            }
            Err(error) => wrong.extend(check(what, &error, part)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(node.pod_ids().await.is_empty());
    let empty = node.runtime().run_pod_sandbox(RunPodSandboxRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument, "{empty:?}");
    assert!(empty.message().contains("config"), "{empty:?}");
}

#[tokio::test]
async fn an_unknown_runtime_handler_is_refused() {
    let node = Node::boot().await;
    let request = RunPodSandboxRequest {
        config: Some(node.pod("handled").request()),
        runtime_handler: "no-such-handler".to_owned(),
    };
    let error = node.runtime().run_pod_sandbox(request).await.unwrap_err();
    assert!(matches!(error.code(), Code::InvalidArgument | Code::NotFound), "{error:?}");
    assert!(error.message().contains("no-such-handler"), "{error:?}");
}

#[tokio::test]
async fn empty_requests_are_refused_by_field() {
    let node = Node::boot().await;
    let pod = node.pod("sensible").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let create = CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: None,
        sandbox_config: None,
    };
    let update = |linux| UpdateContainerResourcesRequest {
        container_id: container.id.clone(),
        linux,
        ..Default::default()
    };
    let negative = LinuxContainerResources { cpu_shares: -1, ..Default::default() };
    let state =
        PodSandboxFilter { state: Some(PodSandboxStateValue { state: 9 }), ..Default::default() };
    let of_container =
        ContainerFilter { state: Some(ContainerStateValue { state: -1 }), ..Default::default() };
    let (mut runtime, mut images) = (node.runtime(), node.images());
    let refused = [
        ("config", runtime.create_container(create).await.err()),
        ("linux", runtime.update_container_resources(update(None)).await.err()),
        ("cpu_shares", runtime.update_container_resources(update(Some(negative))).await.err()),
        (
            "filter.state",
            runtime.list_pod_sandbox(ListPodSandboxRequest { filter: Some(state) }).await.err(),
        ),
        (
            "filter.state",
            runtime
                .list_containers(ListContainersRequest { filter: Some(of_container) })
                .await
                .err(),
        ),
        ("image", images.image_status(ImageStatusRequest::default()).await.err()),
        ("image", images.remove_image(RemoveImageRequest::default()).await.err()),
        ("pod", runtime.stop_pod_sandbox(StopPodSandboxRequest::default()).await.err()),
        ("pod", runtime.remove_pod_sandbox(RemovePodSandboxRequest::default()).await.err()),
        ("container", runtime.stop_container(StopContainerRequest::default()).await.err()),
        ("container", runtime.remove_container(RemoveContainerRequest::default()).await.err()),
    ];
    for (part, error) in refused {
        let error = error.unwrap_or_else(|| panic!("{part}: it was accepted"));
        assert_eq!(error.code(), Code::InvalidArgument, "{part}: {error:?}");
        assert!(error.message().contains(part), "{part}: {error:?}");
    }
    assert_eq!(container.shell("echo fine").await, "fine");
}

#[tokio::test]
async fn senseless_commands_and_stops_are_refused() {
    let node = Node::boot().await;
    let pod = node.pod("sensible").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let empty = container.try_exec(&[], 1).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument, "{empty:?}");
    assert!(empty.message().contains("cmd"), "{empty:?}");
    let negative = container.try_exec(&["true"], -1).await.unwrap_err();
    assert_eq!(negative.code(), Code::InvalidArgument, "{negative:?}");
    assert!(negative.message().contains("timeout"), "{negative:?}");
    let negative = container.try_stop(-1).await.unwrap_err();
    assert_eq!(negative.code(), Code::InvalidArgument, "{negative:?}");
    assert!(negative.message().contains("timeout"), "{negative:?}");

    let nothing = ExecRequest {
        container_id: container.id.clone(),
        cmd: vec!["sh".to_owned()],
        ..Default::default()
    };
    let nothing = node.runtime().exec(nothing).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument, "{nothing:?}");
    for number in [70_000, 0, -1] {
        let port = PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![number] };
        let port = node.runtime().port_forward(port).await.unwrap_err();
        assert_eq!(port.code(), Code::InvalidArgument, "{port:?}");
        assert!(port.message().contains("port"), "{port:?}");
    }
}

#[tokio::test]
async fn senseless_image_names_are_refused() {
    let node = Node::boot().await;
    let long = "a/".repeat(600) + "x";
    for name in
        ["", "busyBox", "a b", "busybox:", "busybox@sha256:1234", "../../x", "https://x/y", &long]
    {
        let error = node.try_pull(name).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{name:?}: {error:?}");
        assert!(error.message().contains("image") || error.message().contains(name), "{error:?}");
    }
    let none = node.images().pull_image(PullImageRequest::default()).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument, "{none:?}");
    assert!(none.message().contains("image"), "{none:?}");
}
