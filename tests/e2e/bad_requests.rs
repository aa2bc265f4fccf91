//! Requests that make no sense: the code says so, and the message names the field.
#![expect(
    clippy::semicolon_if_nothing_returned,
    reason = "a table: a row is a name, a change, a word"
)]

use cais_proto::runtime::v1::*;
use tonic::{Code, Status};

use crate::node::Node;

type Change<T> = fn(&mut T);
/// What is wrong, how, and what the message must contain.
type Row<T> = (&'static str, Change<T>, &'static str);

fn pod_context(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn context(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

fn mount(config: &mut ContainerConfig, container_path: &str, host_path: &str) {
    config.mounts.push(Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_owned(),
        ..Default::default()
    });
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
    (
        "an unknown network mode",
        |c| pod_context(c).namespace_options.as_mut().unwrap().network = 99,
        "network",
    ),
    ("an unknown pid mode", |c| pod_context(c).namespace_options.as_mut().unwrap().pid = -1, "pid"),
    ("a pod that targets", |c| pod_context(c).namespace_options.as_mut().unwrap().pid = 3, "pid"),
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

const CONTAINERS: &[Row<ContainerConfig>] = &[
    ("no metadata", |c| c.metadata = None, "metadata"),
    ("no name", |c| c.metadata.as_mut().unwrap().name.clear(), "metadata.name"),
    ("no image", |c| c.image = None, "image"),
    ("an empty image", |c| c.image = Some(ImageSpec::default()), "image"),
    ("an absolute log path", |c| c.log_path = "/etc/passwd".to_owned(), "log_path"),
    ("a log path with ..", |c| c.log_path = "../../x".to_owned(), "log_path"),
    ("a relative mount target", |c| mount(c, "data", "/tmp"), "container_path"),
    ("a relative mount source", |c| mount(c, "/data", "tmp"), "host_path"),
    ("no mount source", |c| mount(c, "/data", ""), "mounts"),
    (
        "an unknown propagation",
        |c| {
            mount(c, "/data", "/tmp");
            c.mounts[0].propagation = 7;
        },
        "propagation",
    ),
    (
        "recursive read-only without read-only",
        |c| {
            mount(c, "/data", "/tmp");
            c.mounts[0].recursive_read_only = true;
        },
        "recursive_read_only",
    ),
    (
        "a device that is not there",
        |c| {
            c.devices.push(Device {
                container_path: "/dev/x".to_owned(),
                host_path: "/dev/no-such".to_owned(),
                permissions: "rwm".to_owned(),
            })
        },
        "/dev/no-such",
    ),
    (
        "device permissions that are none",
        |c| {
            c.devices.push(Device {
                container_path: "/dev/x".to_owned(),
                host_path: "/dev/null".to_owned(),
                permissions: "xyz".to_owned(),
            })
        },
        "permissions",
    ),
    (
        "a negative memory limit",
        |c| resources(c).memory_limit_in_bytes = -5,
        "memory_limit_in_bytes",
    ),
    ("a negative cpu period", |c| resources(c).cpu_period = -1, "cpu_period"),
    ("a negative share", |c| resources(c).cpu_shares = -1, "cpu_shares"),
    ("an oom score over the top", |c| resources(c).oom_score_adj = 1001, "oom_score_adj"),
    ("cpus that are no list", |c| resources(c).cpuset_cpus = "zero".to_owned(), "cpuset_cpus"),
    (
        "a unified file with ..",
        |c| {
            resources(c).unified.insert("../x".to_owned(), "1".to_owned());
        },
        "unified",
    ),
    (
        "a capability that is none",
        |c| {
            context(c).capabilities =
                Some(Capability { add_capabilities: vec!["FLY".to_owned()], ..Default::default() })
        },
        "FLY",
    ),
    (
        "a group without user",
        |c| context(c).run_as_group = Some(Int64Value { value: 1 }),
        "run_as_group",
    ),
    (
        "an unknown profile type",
        |c| {
            context(c).seccomp =
                Some(SecurityProfile { profile_type: 9, localhost_ref: String::new() })
        },
        "seccomp",
    ),
    (
        "a relative profile",
        |c| {
            context(c).seccomp =
                Some(SecurityProfile { profile_type: 2, localhost_ref: "profile.json".to_owned() })
        },
        "seccomp",
    ),
    (
        "a profile that is not there",
        |c| {
            context(c).seccomp =
                Some(SecurityProfile { profile_type: 2, localhost_ref: "/no/such.json".to_owned() })
        },
        "/no/such.json",
    ),
    ("an unknown pid mode", |c| context(c).namespace_options.as_mut().unwrap().pid = 42, "pid"),
    (
        "a target that is not there",
        |c| {
            let options = context(c).namespace_options.as_mut().unwrap();
            options.pid = 3;
            options.target_id = "nobody".to_owned();
        },
        "nobody",
    ),
    ("an unknown stop signal", |c| c.stop_signal = 99, "stop_signal"),
    (
        "an environment name with =",
        |c| c.envs.push(KeyValue { key: "A=B".to_owned(), value: "c".into() }),
        "envs",
    ),
    ("a relative working directory", |c| c.working_dir = "here".to_owned(), "working_dir"),
    ("a terminal's half", |c| c.command = vec!["a\0b".to_owned()], "command"),
];

fn check(what: &str, error: &Status, part: &str) -> Option<String> {
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
async fn senseless_containers_are_refused_by_field() {
    let node = Node::boot().await;
    let pod = node.pod("sensible").run().await;
    node.pull(crate::node::BUSYBOX).await;
    let mut wrong = Vec::new();
    for &(what, change, part) in CONTAINERS {
        let made = pod.container("senseless").command(["true"]).with(change).try_create().await;
        match made {
            // Some can only be known when the process is made; then the start must say so.
            Ok(container) => {
                match container.start().await {
                    Ok(()) => wrong.push(format!("{what}: was made and started")),
                    Err(error) => wrong.extend(check(what, &error, part)),
                }
                container.remove().await;
            }
            Err(error) => wrong.extend(check(what, &error, part)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(pod.container("fine").shell("echo fine").output().await, "fine\n");
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
    let port = PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![70_000] };
    let port = node.runtime().port_forward(port).await.unwrap_err();
    assert_eq!(port.code(), Code::InvalidArgument, "{port:?}");
    assert!(port.message().contains("port"), "{port:?}");
}

#[tokio::test]
async fn senseless_image_names_are_refused() {
    let node = Node::boot().await;
    for name in ["", "busyBox", "a b", "busybox:", "busybox@sha256:1234", "../../x", "https://x/y"]
    {
        let error = node.try_pull(name).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{name:?}: {error:?}");
        assert!(error.message().contains("image") || error.message().contains(name), "{error:?}");
    }
    let none = node.images().pull_image(PullImageRequest::default()).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument, "{none:?}");
    assert!(none.message().contains("image"), "{none:?}");
}
