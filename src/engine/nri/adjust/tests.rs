use cais_proto::nri::v1alpha1::{
    CdiDevice, Hook, Hooks, KeyValue, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxMemory,
    LinuxSeccomp, LinuxSyscall, OptionalInt, OptionalInt64, PosixRlimit,
};
use oci_spec::runtime::PosixRlimitType;

use super::*;
use crate::cgroup::{DeviceAccess, DeviceRule, DeviceType, Resources};

fn bundle() -> Bundle {
    let text = r#"{"ociVersion":"1.3.0","root":{"path":"/"},
        "linux":{"namespaces":[{"type":"pid"},{"type":"cgroup"},{"type":"network"}],
            "devices":[{"path":"/dev/null","type":"c","major":1,"minor":3}]},
        "process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/",
            "rlimits":[{"type":"RLIMIT_NOFILE","soft":1,"hard":2}]},
        "mounts":[{"destination":"/proc","type":"proc"},
            {"destination":"/data","type":"bind","source":"/old","options":["rbind"]}]}"#;
    Bundle {
        spec: serde_json::from_str(text).unwrap(),
        env: vec![b"PATH=/bin".to_vec(), b"RAW=\xff".to_vec()],
        pid: ContainerPid::Own,
        resources: Resources { memory_limit: Some(1 << 20), ..Resources::default() },
        devices: Some(Vec::new()),
        filter: None,
    }
}

fn adjusted(adjust: ContainerAdjustment) -> Result<Bundle> {
    let mut bundle = bundle();
    apply(adjust, &mut bundle, &Cache::default()).map(|()| bundle)
}

fn of_linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment { linux: Some(linux), ..Default::default() }
}

fn refusal(adjust: ContainerAdjustment) -> String {
    let error = adjusted(adjust).unwrap_err();
    assert!(matches!(error.kind(), Kind::Unsupported | Kind::InvalidArgument), "{error:?}");
    error.chain()
}

#[test]
fn mounts_are_added_replaced_and_removed_parents_first() {
    let mount = |destination: &str, source: &str| MountMessage {
        destination: destination.into(),
        source: source.into(),
        options: vec!["bind".into(), "ro".into()],
        ..Default::default()
    };
    let mounts = vec![mount("-/proc", ""), mount("/data/more", "/m"), mount("/data", "/new")];
    let bundle = adjusted(ContainerAdjustment { mounts, ..Default::default() }).unwrap();
    let told: Vec<(String, String)> = bundle.spec.mounts().as_ref().unwrap().iter().map(|mount| {
        let source = mount.source().as_ref().unwrap().display().to_string();
        assert_eq!(mount.typ().as_deref(), Some("bind"));
        (mount.destination().display().to_string(), source)
    }).collect();
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(told, [pair("/data", "/new"), pair("/data/more", "/m")]);
    for (destination, source) in [("data", "/m"), ("/a/../b", "/m"), ("/data", "m")] {
        let mounts = vec![mount(destination, source)];
        let text = refusal(ContainerAdjustment { mounts, ..Default::default() });
        assert!(text.starts_with("mounts"), "{text}");
    }
}

#[test]
fn the_environment_keeps_bytes_that_no_plugin_sees() {
    let set = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
    let env = vec![set("PATH", "/sbin"), set("NEW", "1"), set("-GONE", "")];
    let bundle = adjusted(ContainerAdjustment { env, ..Default::default() }).unwrap();
    assert_eq!(bundle.env, [&b"PATH=/sbin"[..], b"RAW=\xff", b"NEW=1"]);
    let env = vec![set("-PATH", "")];
    let bundle = adjusted(ContainerAdjustment { env, ..Default::default() }).unwrap();
    assert_eq!(bundle.env, [b"RAW=\xff"]);
}

#[test]
fn limits_of_the_process_and_of_the_group_are_laid_over() {
    let resources = LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(OptionalInt64 { value: 2 << 20 }),
            ..Default::default()
        }),
        cpu: Some(LinuxCpu { cpus: "0".into(), ..Default::default() }),
        ..Default::default()
    };
    let linux = LinuxContainerAdjustment {
        resources: Some(resources),
        oom_score_adj: Some(OptionalInt { value: 7 }),
        ..Default::default()
    };
    let rlimits = vec![PosixRlimit { r#type: "RLIMIT_NOFILE".into(), hard: 20, soft: 10 }];
    let adjust = ContainerAdjustment { rlimits, args: vec!["true".into()], ..of_linux(linux) };
    let bundle = adjusted(adjust).unwrap();
    assert_eq!(bundle.resources.memory_limit, Some(2 << 20));
    assert_eq!(bundle.resources.cpuset_cpus.as_deref(), Some("0"));
    let process = bundle.spec.process().as_ref().unwrap();
    assert_eq!(process.oom_score_adj(), Some(7));
    assert_eq!(process.args().as_deref(), Some(&["true".to_owned()][..]));
    let [limit] = process.rlimits().as_deref().unwrap() else { panic!("{process:?}") };
    assert_eq!((limit.typ(), limit.soft(), limit.hard()), (PosixRlimitType::RlimitNofile, 10, 20));
}

#[test]
fn a_device_comes_with_its_rule() {
    let device = |path: &str| LinuxDevice {
        path: path.into(),
        r#type: "c".into(),
        major: 10,
        minor: 229,
        ..Default::default()
    };
    let devices = vec![device("/dev/fuse"), device("-/dev/null")];
    let rule = LinuxDeviceCgroup {
        allow: true,
        r#type: "b".into(),
        major: Some(OptionalInt64 { value: 8 }),
        access: "r".into(),
        ..Default::default()
    };
    let resources = LinuxResources { devices: vec![rule], ..Default::default() };
    let linux = LinuxContainerAdjustment {
        devices,
        resources: Some(resources),
        ..Default::default()
    };
    let bundle = adjusted(of_linux(linux)).unwrap();
    let nodes = bundle.spec.linux().as_ref().unwrap().devices().clone().unwrap();
    let [fuse] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!(fuse.path(), Path::new("/dev/fuse"));
    let expected = [
        DeviceRule {
            device: DeviceType::Character,
            major: Some(10),
            minor: Some(229),
            access: DeviceAccess::ALL,
        },
        DeviceRule {
            device: DeviceType::Block,
            major: Some(8),
            minor: None,
            access: DeviceAccess { read: true, write: false, mknod: false },
        },
    ];
    assert_eq!(bundle.devices.as_deref(), Some(&expected[..]));
}

#[test]
fn a_seccomp_policy_becomes_a_filter() {
    let policy = |action: &str| LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        architectures: vec!["SCMP_ARCH_X86_64".into()],
        syscalls: vec![LinuxSyscall {
            names: vec!["chmod".into()],
            action: action.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let asked = |policy| {
        of_linux(LinuxContainerAdjustment { seccomp_policy: Some(policy), ..Default::default() })
    };
    let bundle = adjusted(asked(policy("SCMP_ACT_ERRNO"))).unwrap();
    assert!(!bundle.filter.unwrap().filter.is_empty());
    assert!(refusal(asked(policy("SCMP_ACT_NONSENSE"))).starts_with("linux.seccomp_policy: "));
}

#[test]
fn processes_and_cgroups_are_the_namespaces_that_can_change() {
    let asked = |kind: &str, path: &str| {
        let namespaces = vec![NamespaceMessage { r#type: kind.into(), path: path.into() }];
        of_linux(LinuxContainerAdjustment { namespaces, ..Default::default() })
    };
    let bundle = adjusted(asked("-pid", "")).unwrap();
    assert_eq!(bundle.pid, ContainerPid::Host);
    let kinds: Vec<_> = bundle.spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap()
        .iter().map(LinuxNamespace::typ).collect();
    assert_eq!(kinds, [LinuxNamespaceType::Cgroup, LinuxNamespaceType::Network]);
    assert!(refusal(asked("network", "")).contains("network"));
    assert!(refusal(asked("pid", "/proc/1/ns/pid")).contains("/proc/1/ns/pid"));
}

#[test]
fn what_the_executor_cannot_do_is_refused_by_name() {
    let linux = |change: fn(&mut LinuxContainerAdjustment)| {
        let mut linux = LinuxContainerAdjustment::default();
        change(&mut linux);
        of_linux(linux)
    };
    let hooks = Hooks { prestart: vec![Hook::default()], ..Default::default() };
    for (field, adjust) in [
        ("hooks", ContainerAdjustment { hooks: Some(hooks), ..Default::default() }),
        (
            "CDI_devices",
            ContainerAdjustment { cdi_devices: vec![CdiDevice::default()], ..Default::default() },
        ),
        ("linux.cgroups_path", linux(|it| it.cgroups_path = "/x".into())),
        ("linux.sysctl", linux(|it| drop(it.sysctl.insert("net.x".into(), "1".into())))),
        (
            "linux.net_devices",
            linux(|it| drop(it.net_devices.insert("eth1".into(), Default::default()))),
        ),
        ("linux.rdt", linux(|it| it.rdt.get_or_insert_default().clos_id = Some(Default::default()))),
        ("linux.resources.devices", linux(|it| {
            it.resources.get_or_insert_default().devices.push(LinuxDeviceCgroup::default());
        })),
    ] {
        assert!(refusal(adjust).contains(field), "{field}");
    }
    // As a runtime that sets nothing in these ways has it.
    assert!(adjusted(linux(|it| it.rdt.get_or_insert_default().remove = true)).is_ok());
    assert!(adjusted(ContainerAdjustment { hooks: Some(Hooks::default()), ..Default::default() }).is_ok());
}
