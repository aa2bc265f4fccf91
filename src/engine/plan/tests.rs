use std::fs::File;

use super::*;
use crate::cgroup::Resources;
use crate::executor::plan::{
    ContainerPid, MountSource, Process, Seccomp, TargetKind, TerminalSize,
};

fn bundle(mounts: &str) -> Bundle {
    let text = format!(
        r#"{{"ociVersion":"1.3.0","root":{{"path":"/","readonly":true}},"linux":{{
            "namespaces":[{{"type":"cgroup"}}],
            "devices":[{{"path":"/dev/x","type":"b","major":8,"minor":1,"fileMode":438}}]}},
            "process":{{"user":{{"uid":7,"gid":8}},"args":["sh"],"cwd":"/","terminal":true,
            "capabilities":{{"bounding":["CAP_CHOWN","CAP_KILL"]}},
            "rlimits":[{{"type":"RLIMIT_NOFILE","soft":1,"hard":2}}]}},"mounts":[{mounts}]}}"#
    );
    Bundle {
        spec: serde_json::from_str(&text).unwrap(),
        env: vec![b"A=\xff".to_vec()],
        pid: ContainerPid::Own,
        resources: Resources::default(),
        devices: None,
        filter: Some(Seccomp { filter: ByteBuf::from(vec![6, 0, 0, 0, 0, 0, 255, 127]), flags: 0 }),
    }
}

fn choices() -> Choices {
    Choices { stdin: Stdin::Open, hierarchies: vec!["memory".into()] }
}

fn tree(path: &std::path::Path) -> OwnedFd {
    use rustix::mount::{OpenTreeFlags, open_tree};

    open_tree(rustix::fs::CWD, path, OpenTreeFlags::OPEN_TREE_CLONE).unwrap()
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn the_process_arrives_whole() {
    let plan = draft(&bundle(""), &choices()).unwrap().plan;
    let process = &plan.process;
    assert_eq!(process.env, [ByteBuf::from(b"A=\xff")]);
    assert_eq!((process.user.uid, process.user.gid), (7, 8));
    assert_eq!(process.capabilities.bounding, 0b10_0001);
    assert_eq!((process.rlimits[0].resource, process.rlimits[0].hard), (7, 2));
    assert_eq!(process.seccomp.as_ref().unwrap().filter.len(), 8);
    assert!(process.terminal.is_some() && plan.readonly_rootfs && plan.cgroup_namespace);
    assert_eq!((plan.devices[0].kind, plan.devices[0].major), (DeviceKind::Block, 8));
}

#[test]
fn options_are_told_from_attributes() {
    let mounts = r#"
        {"destination":"/dev","type":"tmpfs","options":["nosuid","strictatime","mode=755","size=1k"]},
        {"destination":"/dev/pts","type":"devpts","options":["newinstance","gid=5"]},
        {"destination":"/sys/fs/cgroup","type":"cgroup","options":["ro"]},
        {"destination":"/dev/shm","type":"pod-shm"}"#;
    let plan = draft(&bundle(mounts), &choices()).unwrap().plan;
    let [dev, pts, cgroup, shm] = plan.mounts.as_slice() else { panic!("{:?}", plan.mounts) };
    let MountSource::New { options, attributes, .. } = &dev.source else { panic!("{dev:?}") };
    assert_eq!(options[1], ("size".to_owned(), Some("1k".to_owned())));
    assert!(options.len() == 2 && attributes.no_suid && attributes.strict_atime);
    let MountSource::New { options, .. } = &pts.source else { panic!("{pts:?}") };
    assert_eq!(options.len(), 1);
    let MountSource::Cgroup { read_only, hierarchies } = &cgroup.source else { panic!() };
    assert!(*read_only && hierarchies == &["memory"]);
    assert!(matches!(shm.source, MountSource::PodShm));
}

#[test]
fn what_the_executor_has_no_way_to_do_is_refused() {
    for mount in [
        r#"{"destination":"/x","type":"ext4","source":"/dev/vda"}"#,
        r#"{"destination":"/x","type":"bind","source":"/tmp","options":["bind","size=1"]}"#,
        r#"{"destination":"/x","type":"bind"}"#,
    ] {
        let error = draft(&bundle(mount), &choices()).unwrap_err();
        assert!(error.chain().contains("/x"), "{}", error.chain());
    }
}

#[test]
fn every_descriptor_has_its_number() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    File::create(&file).unwrap();
    let mounts = format!(
        r#"{{"destination":"/a","type":"bind","source":{directory:?},"options":["rbind"]}},
           {{"destination":"/proc","type":"proc"}},
           {{"destination":"/v","type":"image","source":"i","options":["ro","noexec"]}},
           {{"destination":"/b","type":"bind","source":{file:?},"options":["bind","ro"]}}"#,
        directory = directory.path(),
    );
    let part = ByteBuf::from("etc/hosts");
    let volume = Volume {
        target: "//v/".into(),
        tree: tree(directory.path()),
        part: Some(part.clone()),
        kind: TargetKind::File,
    };
    let parts = Parts {
        rootfs: null(),
        owners: Vec::new(),
        volumes: vec![volume],
        cgroup: Join {
            unified: Some(null()),
            legacy: vec![null(), null()],
            oom_counter: Some(null()),
            oom_event: None,
        },
        log: Some(null()),
    };
    let draft = draft(&bundle(&mounts), &choices()).unwrap();
    let (plan, descriptors) = draft.complete(parts).unwrap();
    assert_eq!(descriptors.len(), 9);
    assert_eq!(plan.rootfs, Fd(0));
    let kinds: Vec<_> = plan
        .mounts
        .iter()
        .filter_map(|mount| match mount.source {
            MountSource::Attach { mount, kind } => Some((mount, kind)),
            MountSource::AttachPart { mount, ref path, kind } => {
                assert_eq!((mount, path, kind), (Fd(3), &part, TargetKind::File));
                None
            }
            MountSource::New { .. } | MountSource::Cgroup { .. } | MountSource::PodShm => None,
        })
        .collect();
    assert_eq!(kinds, [(Fd(1), TargetKind::Directory), (Fd(2), TargetKind::File)]);
    assert_eq!(plan.cgroup.unified, Some(Fd(4)));
    assert_eq!(plan.cgroup.legacy, [Fd(5), Fd(6)]);
    assert_eq!(plan.cgroup.oom_counter, Some(Fd(7)));
    assert_eq!(plan.stdio.log, Some(Fd(8)));
}

#[test]
fn an_exec_is_confined_like_the_first_process_and_has_its_own_command() {
    let first = draft(&bundle(""), &choices()).unwrap().plan.process;
    let process = exec(&first, &["ls", "-l"], None).unwrap();
    assert_eq!(process.args, [ByteBuf::from(b"ls"), ByteBuf::from(b"-l")]);
    assert!(process.terminal.is_none());
    assert_eq!(Process { args: first.args.clone(), terminal: first.terminal, ..process }, first);
    let with_terminal = exec(&first, &["sh"], Some(TerminalSize::default())).unwrap();
    assert!(with_terminal.env.contains(&ByteBuf::from(b"TERM=xterm")));
    for bad in [&[][..], &[""][..], &["a\0b"][..]] {
        assert!(exec(&first, bad, None).unwrap_err().to_string().starts_with("cmd: "));
    }
}
