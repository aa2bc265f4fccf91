//! Containers that make no sense: the code says so, and the message names the field.
#![expect(
    clippy::semicolon_if_nothing_returned,
    reason = "a table: a row is a name, a change, a word"
)]

use cais_proto::runtime::v1::*;

use crate::bad_requests::{Row, check};
use crate::node::Node;

fn options(config: &mut ContainerConfig) -> &mut NamespaceOption {
    context(config).namespace_options.get_or_insert_default()
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

const CONTAINERS: &[Row<ContainerConfig>] = &[
    ("no metadata", |c| c.metadata = None, "metadata"),
    ("no name", |c| c.metadata.as_mut().unwrap().name.clear(), "metadata.name"),
    ("a long name", |c| c.metadata.as_mut().unwrap().name = "n".repeat(254), "metadata.name"),
    (
        "a zero byte in a name",
        |c| c.metadata.as_mut().unwrap().name = "a\0b".to_owned(),
        "metadata.name",
    ),
    ("no image", |c| c.image = None, "image"),
    ("an empty image", |c| c.image = Some(ImageSpec::default()), "image"),
    ("an absolute log path", |c| c.log_path = "/etc/passwd".to_owned(), "log_path"),
    ("a log path with ..", |c| c.log_path = "../../x".to_owned(), "log_path"),
    ("a long log path", |c| c.log_path = "l".repeat(256), "log_path"),
    ("a mount target with ..", |c| mount(c, "/data/../etc", "/tmp"), "container_path"),
    ("a mount source with ..", |c| mount(c, "/data", "/tmp/../etc"), "host_path"),
    ("a long mount target", |c| mount(c, &"/d".repeat(3000), "/tmp"), "container_path"),
    ("a long mount source", |c| mount(c, "/data", &"/d".repeat(3000)), "host_path"),
    ("a mount over the root", |c| mount(c, "/", "/tmp"), "container_path"),
    ("a mount over a process's own files", |c| mount(c, "/proc/self", "/tmp"), "container_path"),
    (
        "two mounts at one place",
        |c| {
            mount(c, "/data", "/tmp");
            mount(c, "/data/", "/var");
        },
        "container_path",
    ),
    ("a mount target below a file", |c| mount(c, "/etc/passwd/below", "/tmp"), "/etc/passwd/below"),
    ("a directory mounted on a file", |c| mount(c, "/etc/passwd", "/tmp"), "/etc/passwd"),
    (
        "a mount source below a file",
        |c| mount(c, "/data", "/etc/passwd/below"),
        "/etc/passwd/below",
    ),
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
        "a device with .. in its path",
        |c| {
            c.devices.push(Device {
                container_path: "/dev/../etc/x".to_owned(),
                host_path: "/dev/null".to_owned(),
                permissions: "rwm".to_owned(),
            })
        },
        "devices[0].container_path",
    ),
    (
        "a device that is a file",
        |c| {
            c.devices.push(Device {
                container_path: "/dev/x".to_owned(),
                host_path: "/etc/passwd".to_owned(),
                permissions: "rwm".to_owned(),
            })
        },
        "/etc/passwd",
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
    ("a huge negative limit", |c| resources(c).memory_limit_in_bytes = i64::MIN, "memory_limit"),
    (
        "negative swap",
        |c| resources(c).memory_swap_limit_in_bytes = -2,
        "memory_swap_limit_in_bytes",
    ),
    (
        "less memory and swap than memory",
        |c| {
            resources(c).memory_limit_in_bytes = 64 << 20;
            resources(c).memory_swap_limit_in_bytes = 32 << 20;
        },
        "memory_swap_limit_in_bytes",
    ),
    ("a negative quota", |c| resources(c).cpu_quota = -2, "cpu_quota"),
    ("a quota below the least", |c| resources(c).cpu_quota = 5, "cpu_quota"),
    ("a period over the top", |c| resources(c).cpu_period = 2_000_000, "cpu_period"),
    (
        "memory nodes that are no list",
        |c| resources(c).cpuset_mems = "0-".to_owned(),
        "cpuset_mems",
    ),
    ("processors that are not there", |c| resources(c).cpuset_cpus = "9999".to_owned(), "cpuset"),
    ("an oom score below the bottom", |c| resources(c).oom_score_adj = -1001, "oom_score_adj"),
    (
        "pages of no size",
        |c| {
            let limit = HugepageLimit { page_size: "../2MB".to_owned(), limit: 1 };
            resources(c).hugepage_limits.push(limit);
        },
        "hugepage_limits",
    ),
    (
        "a unified file that steers the group",
        |c| {
            resources(c).unified.insert("cgroup.procs".to_owned(), "1".to_owned());
        },
        "unified",
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
        "a profile with ..",
        |c| {
            let localhost_ref = "/etc/../etc/passwd".to_owned();
            context(c).seccomp = Some(SecurityProfile { profile_type: 2, localhost_ref });
        },
        "seccomp.localhost_ref",
    ),
    (
        "a profile without a name",
        |c| {
            context(c).seccomp =
                Some(SecurityProfile { profile_type: 2, localhost_ref: String::new() })
        },
        "seccomp.localhost_ref",
    ),
    (
        "an unknown kind of AppArmor profile",
        |c| {
            context(c).apparmor =
                Some(SecurityProfile { profile_type: 9, localhost_ref: String::new() })
        },
        "apparmor",
    ),
    (
        "an unknown policy for groups",
        |c| context(c).supplemental_groups_policy = 2,
        "supplemental_groups_policy",
    ),
    (
        "a group over the top",
        |c| context(c).supplemental_groups = vec![1 << 40],
        "supplemental_groups",
    ),
    (
        "a masked path with ..",
        |c| context(c).masked_paths = vec!["/a/..".to_owned()],
        "masked_paths",
    ),
    (
        "a relative read-only path",
        |c| context(c).readonly_paths = vec!["proc".to_owned()],
        "readonly_paths",
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
    ("an unknown pid mode", |c| options(c).pid = 42, "pid"),
    ("an unknown network mode", |c| options(c).network = -42, "network"),
    ("an ipc namespace of its own", |c| options(c).ipc = 1, "namespace_options.ipc"),
    ("an ipc namespace that targets", |c| options(c).ipc = 3, "namespace_options.ipc"),
    ("the host's ipc in a pod that has its own", |c| options(c).ipc = 2, "namespace_options.ipc"),
    (
        "the host's network in a pod that has its own",
        |c| options(c).network = 2,
        "namespace_options.network",
    ),
    ("a target without a name", |c| options(c).pid = 3, "target_id"),
    (
        "a target that is not there",
        |c| {
            options(c).pid = 3;
            options(c).target_id = "nobody".to_owned();
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
    (
        "a working directory below a file",
        |c| c.working_dir = "/etc/passwd/x".to_owned(),
        "/etc/passwd/x",
    ),
    (
        "a working directory that is a file",
        |c| c.working_dir = "/etc/passwd".to_owned(),
        "/etc/passwd",
    ),
    (
        "a device below a file",
        |c| {
            c.devices.push(Device {
                container_path: "/etc/passwd/x".to_owned(),
                host_path: "/dev/null".to_owned(),
                permissions: "rwm".to_owned(),
            })
        },
        "/etc/passwd/x",
    ),
    ("a variable without a name", |c| c.envs.push(KeyValue::default()), "envs"),
    ("a working directory with ..", |c| c.working_dir = "/a/../b".to_owned(), "working_dir"),
    ("a zero byte in a command", |c| c.command = vec!["a\0b".to_owned()], "command"),
];

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
