//! What a container can and cannot see and do.

use super::harness::{Pod, open};
use crate::executor::plan::{
    Capabilities, ContainerPid, Fd, Mount, MountAttributes, MountSource, PodPid, Rlimit, Seccomp,
    TargetKind, User,
};
use crate::monitor::protocol::ExitStatus;

#[tokio::test]
async fn a_container_sees_itself_only() {
    let Some(mut pod) = Pod::boot().await else { return };
    let script = "echo $$; hostname; ls /proc > /dev/shm/l; grep -c '^[0-9]*$' /dev/shm/l; ls /; cat /proc/sys/net/ipv4/ip_forward; \
        ls -l /proc/self/fd 2>/dev/null | grep -c -- '->'; wc -l < /proc/self/mountinfo; stat -f -c %T /dev/shm; \
        cat /proc/self/oom_score_adj";
    let planned = pod.container("look", script);
    let lines = pod.output_of("look", planned).await;
    let pid = &lines[0];
    assert_eq!(pid, "1");
    assert_eq!(lines[1], "quay");
    // The shell and ls.
    assert_eq!(lines[2], "2", "{lines:?}");
    assert_eq!(lines[3..9], ["bin", "dev", "etc", "proc", "sys", "tmp"]);
    assert_eq!(lines[9], "1");
    assert_eq!(lines[10], "3", "descriptors beside the streams");
    // The root, seven mounts, and the memory hierarchy inside the cgroup view.
    assert_eq!(lines[11], "9");
    assert_eq!(lines[12], "tmpfs");
    // The monitor's lowered score is not inherited.
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(lines[13], own.trim());
}

#[tokio::test]
async fn the_host_keeps_its_mount_table() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let Some(mut pod) = Pod::boot().await else { return };
    let (id, _) = pod.create(pod.container("mounts", "sleep 60")).await;
    pod.start(&id).await;
    let path = pod.directory.path().display().to_string();
    assert!(!mounts().contains(&path));
    let count = mounts().lines().count();
    pod.call(crate::monitor::protocol::Request::Shutdown).await.unwrap();
    pod.process.wait().unwrap();
    assert_eq!(mounts().lines().count(), count);
}

#[tokio::test]
async fn user_groups_capabilities_and_limits_are_as_planned() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container(
        "who",
        "id -u; id -g; id -G; grep -E '^(Cap|NoNew)' /proc/self/status | tr -d '\\t'; \
         umask; ulimit -n; pwd; echo again > /dev/stdout",
    );
    let process = &mut planned.plan.process;
    process.user = User { uid: 1000, gid: 1001, groups: vec![2000, 3000], umask: Some(0o027) };
    process.capabilities = Capabilities {
        bounding: 0x400,
        effective: 0x400,
        permitted: 0x400,
        inheritable: 0x400,
        ambient: 0x400,
    };
    process.rlimits = vec![Rlimit { resource: 7, soft: 100, hard: 200 }];
    process.cwd = b"/made/here".to_vec().into();
    let lines = pod.output_of("who", planned).await;
    assert_eq!(
        lines,
        [
            "1000",
            "1001",
            "1001 2000 3000",
            "CapInh:0000000000000400",
            "CapPrm:0000000000000400",
            "CapEff:0000000000000400",
            "CapBnd:0000000000000400",
            "CapAmb:0000000000000400",
            "NoNewPrivs:1",
            "0027",
            "100",
            "/made/here",
            "again",
        ]
    );
}

#[tokio::test]
async fn a_user_without_capabilities_has_none() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned =
        pod.container("none", "grep -E '^(Cap|NoNew)' /proc/self/status | tr -d '\\t'");
    planned.plan.process.user.uid = 65534;
    planned.plan.process.capabilities.ambient = 0;
    planned.plan.process.no_new_privileges = false;
    let lines = pod.output_of("none", planned).await;
    assert_eq!(
        lines,
        [
            "CapInh:0000000000000000",
            "CapPrm:0000000000000000",
            "CapEff:0000000000000000",
            "CapBnd:00000000000000e1",
            "CapAmb:0000000000000000",
            "NoNewPrivs:0",
        ]
    );
}

#[tokio::test]
async fn masked_paths_are_empty_and_readonly_paths_refuse_writes() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container(
        "mask",
        "wc -c < /proc/filesystems; wc -c < /proc/version; ls /proc/bus | wc -l; \
         touch /proc/bus/x 2>&1; echo 1 > /proc/sys/net/ipv4/ip_forward; echo $?; \
         touch /etc/x 2>&1; echo hi > /dev/null && echo ok",
    );
    let paths = |paths: &[&str]| {
        paths.iter().map(|path| path.as_bytes().to_vec().into()).collect::<Vec<_>>()
    };
    planned.plan.masked_paths = paths(&[
        "/proc/filesystems",
        "/proc/version",
        "/proc/bus",
        "/proc/no-such",
        "/proc/stat/x",
    ]);
    planned.plan.readonly_paths = paths(&["/proc/sys", "/etc", "/no/such"]);
    let lines = pod.output_of("mask", planned).await;
    let lines: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| !line.starts_with("stderr")).collect();
    assert_eq!(
        lines,
        [
            "0",
            "0",
            "0",
            "touch: /proc/bus/x: Read-only file system",
            "1",
            "touch: /etc/x: Read-only file system",
            "ok"
        ]
    );
}

#[tokio::test]
async fn a_read_only_root_refuses_writes_and_its_mounts_do_not() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned =
        pod.container("ro", "touch /x 2>&1; touch /dev/shm/y && echo shm; pwd; mkdir /z 2>&1");
    planned.plan.readonly_rootfs = true;
    planned.plan.process.cwd = b"/work".to_vec().into();
    let lines = pod.output_of("ro", planned).await;
    assert_eq!(
        lines,
        [
            "touch: /x: Read-only file system",
            "shm",
            "/work",
            "mkdir: can't create directory '/z': Read-only file system"
        ]
    );
}

#[tokio::test]
async fn attached_mounts_lie_where_links_inside_the_root_lead() {
    let Some(mut pod) = Pod::boot().await else { return };
    let outside = pod.directory.path().join("volume");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(pod.root().join("real")).unwrap();
    std::os::unix::fs::symlink("/../../real", pod.root().join("link")).unwrap();
    let mut planned =
        pod.container("vol", "echo data > /link/data/file; cat /real/data/file; cat /etc/hosts");
    for (source, target, kind) in [
        (outside.clone(), "/link/data", TargetKind::Directory),
        (outside.join("hosts"), "/etc/hosts", TargetKind::File),
    ] {
        if kind == TargetKind::File {
            std::fs::copy("/proc/self/comm", &source).unwrap();
        }
        let tree = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
            | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(rustix::fs::CWD, &source, tree).unwrap();
        let mount = planned.add_fd(mount);
        planned.plan.mounts.push(Mount {
            target: target.as_bytes().to_vec().into(),
            source: MountSource::Attach { mount, kind },
        });
    }
    let lines = pod.output_of("vol", planned).await;
    assert_eq!(lines[0], "data");
    assert_eq!(lines.len(), 2);
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "data\n");
    assert!(!pod.directory.path().join("real").exists());
}

/// `mkdir` (83) and `mkdirat` (258) answer ENOSPC, all else is allowed.
fn no_directories() -> Seccomp {
    const LOAD_NUMBER: (u16, u8, u8, u32) = (0x20, 0, 0, 0);
    let program = [
        LOAD_NUMBER,
        (0x15, 1, 0, 83),
        (0x15, 0, 1, 258),
        (0x06, 0, 0, 0x0005_0000 | 28),
        (0x06, 0, 0, 0x7fff_0000),
    ];
    let mut filter = Vec::new();
    for (code, yes, no, value) in program {
        filter.extend_from_slice(&code.to_ne_bytes());
        filter.extend_from_slice(&[yes, no]);
        filter.extend_from_slice(&value.to_ne_bytes());
    }
    Seccomp { filter: filter.into(), flags: 0 }
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn the_filter_holds_with_and_without_no_new_privs() {
    let Some(mut pod) = Pod::boot().await else { return };
    for (name, no_new_privileges) in [("late", true), ("early", false)] {
        let mut planned = pod
            .container(name, "mkdir /tmp/d 2>&1; grep ^Seccomp: /proc/self/status | tr -d '\\t'");
        planned.plan.process.seccomp = Some(no_directories());
        planned.plan.process.no_new_privileges = no_new_privileges;
        let lines = pod.output_of(name, planned).await;
        assert_eq!(
            lines,
            ["mkdir: can't create directory '/tmp/d': No space left on device", "Seccomp:2"]
        );
    }
}

#[tokio::test]
async fn a_broken_filter_fails_the_start() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("broken", "true");
    planned.plan.process.seccomp = Some(Seccomp { filter: vec![0xff; 8].into(), flags: 0 });
    let (id, _) = pod.create(planned).await;
    let start = crate::monitor::protocol::Request::Start { container: id.clone() };
    let error = pod.call(start).await.unwrap_err();
    assert!(error.chain().contains("load the seccomp filter"), "{}", error.chain());
    assert_eq!(pod.wait_exit(&id).await.started_at, None);
}

#[tokio::test]
async fn containers_of_a_shared_pid_namespace_see_each_other_and_orphans_are_reaped() {
    let Some(mut pod) = Pod::boot_with(|plan| plan.pid = PodPid::Shared).await else { return };
    let mut first = pod.container("first", "(sleep 0 &); sleep 61");
    first.plan.pid = ContainerPid::Pod;
    let (first, _) = pod.create(first).await;
    pod.start(&first).await;
    let script = "cat /proc/1/comm; until ps | grep -v grep | grep -q 'sleep 61'; do :; done; \
        while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; echo clean; exit 4";
    let mut second = pod.container("second", script);
    second.plan.pid = ContainerPid::Pod;
    let exit = pod.run(second).await;
    assert_eq!(exit.status, ExitStatus::Code(4));
    assert_eq!(pod.log("second"), ["stdout F cais-init", "stdout F clean"]);
}

#[tokio::test]
async fn a_container_can_join_the_processes_of_another() {
    let Some(mut pod) = Pod::boot().await else { return };
    let (target, _) = pod.create(pod.container("target", "exec sleep 62")).await;
    pod.start(&target).await;
    let mut planned =
        pod.container("debug", "tr '\\0' ' ' < /proc/1/cmdline; ls /proc/1/root/bin | wc -l");
    const SYS_PTRACE: u64 = 1 << 19;
    planned.plan.pid = ContainerPid::Target(target);
    planned.plan.process.capabilities.effective |= SYS_PTRACE;
    planned.plan.process.capabilities.permitted |= SYS_PTRACE;
    planned.plan.process.capabilities.bounding |= SYS_PTRACE;
    let lines = pod.output_of("debug", planned).await;
    assert!(lines[0].starts_with("sleep 62 "), "{lines:?}");
}

#[tokio::test]
async fn processes_on_the_hosts_pid_namespace_have_the_hosts_numbers() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("hostpid", "echo $$");
    planned.plan.pid = ContainerPid::Host;
    // A proc of the host's namespace.
    let (id, pid) = pod.create(planned).await;
    pod.start(&id).await;
    pod.wait_exit(&id).await;
    assert_eq!(pod.log("hostpid"), [format!("stdout F {pid}")]);
}

#[tokio::test]
async fn namespaces_are_joined_by_descriptor() {
    let Some(mut first) = Pod::boot().await else { return };
    let net = first.monitor().join("ns/net");
    let own = std::fs::read_link(&net).unwrap();
    assert_ne!(own, std::fs::read_link("/proc/self/ns/net").unwrap());

    let second = Pod::boot_bare().await.unwrap();
    let exits = second.directory.path().join("exits");
    std::fs::create_dir(&exits).unwrap();
    let plan = crate::executor::plan::PodPlan {
        network: crate::executor::plan::Namespace::Join(Fd(1)),
        ipc: crate::executor::plan::Namespace::Host,
        uts: crate::executor::plan::Namespace::Host,
        pid: PodPid::PerContainer,
        user: None,
        hostname: None,
        domainname: None,
        sysctls: vec![],
        shm_size: None,
        shm: None,
        exits: Fd(0),
    };
    let request = crate::monitor::protocol::Request::SetUpPod(Box::new(plan));
    let fds = vec![open(&exits), open(&net)];
    second.client.call(request, fds).await.unwrap();
    let joined = std::fs::read_link(second.monitor().join("ns/net")).unwrap();
    assert_eq!(joined, own);
    first.process.kill().unwrap();
}

#[tokio::test]
async fn mount_attributes_are_applied() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("attr", "grep ' /data ' /proc/self/mountinfo");
    planned.plan.mounts.push(Mount {
        target: b"/data".to_vec().into(),
        source: MountSource::New {
            fstype: "tmpfs".to_owned(),
            options: vec![("size".to_owned(), Some("1m".to_owned()))],
            attributes: MountAttributes {
                read_only: true,
                no_suid: true,
                no_dev: true,
                no_exec: true,
                no_atime: true,
                rel_atime: false,
                strict_atime: false,
            },
        },
    });
    let lines = pod.output_of("attr", planned).await;
    assert!(lines[0].contains(" ro,nosuid,nodev,noexec,noatime "), "{lines:?}");
    assert!(lines[0].contains("size=1024k"), "{lines:?}");
}
