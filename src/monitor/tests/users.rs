//! Pods with a user namespace of their own.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use super::harness::{Planned, Pod, open, shell, within};
use crate::executor::plan::{
    ContainerPid, ExecPlan, IdMapping, Mount, MountSource, Namespace, PodPid, PodPlan, Rlimit,
    TargetKind, TerminalSize, User, UserNamespace,
};
use crate::id::ExecId;
use crate::monitor::protocol::{ExitStatus, Reply, Request};
use crate::sys::mount::{Change, Reach, idmap, mount_setattr};

const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;

fn map(host: u32) -> UserNamespace {
    let range = vec![IdMapping { container: 0, host, length: 65536 }];
    UserNamespace { uids: range.clone(), gids: range }
}

async fn boot(change: impl FnOnce(&mut PodPlan)) -> Option<Pod> {
    Pod::boot_with(|plan| {
        plan.user = Some(map(200_000));
        change(plan);
    })
    .await
}

async fn users_of(pod: &Pod, map: UserNamespace) -> std::os::fd::OwnedFd {
    let request = Request::OpenUserNamespace(map);
    let (reply, mut fds) = within(pod.client.call(request, vec![])).await.unwrap();
    assert_eq!(reply, Reply::UserNamespace);
    fds.remove(0)
}

/// A container on the root that all share, with its owners mapped.
async fn container(pod: &Pod, name: &str, script: &str) -> Planned {
    let planned = pod.container(name, script);
    let users = users_of(pod, map(200_000)).await;
    idmap(planned.fds[0].as_fd(), Reach::This, users.as_fd()).unwrap();
    planned
}

fn give(planned: &mut Planned, capabilities: u64) {
    let sets = &mut planned.plan.process.capabilities;
    sets.bounding |= capabilities;
    sets.permitted |= capabilities;
    sets.effective |= capabilities;
}

#[tokio::test]
async fn a_container_is_root_inside_and_nobody_outside() {
    let Some(mut pod) = boot(|_| {}).await else { return };
    let script = "echo $$; id -u; tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; \
        stat -c %u:%g /dev /dev/shm /bin/busybox; echo x > /dev/null && echo null; \
        head -c 1 /dev/zero | wc -c; stat -f -c %T /proc /sys; ls -d /sys/fs/cgroup/memory; \
        echo 0 > /proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward; hostname; \
        echo again > /dev/stdout; wc -l < /proc/self/mountinfo; touch /made /dev/shm/made; ls /";
    let mut planned = container(&pod, "who", script).await;
    give(&mut planned, NET_ADMIN);
    let (id, pid) = pod.create(planned).await;
    let links = |of: &str| {
        ["user", "mnt", "pid", "cgroup", "net", "ipc", "uts"]
            .map(|kind| std::fs::read_link(format!("/proc/{of}/ns/{kind}")).unwrap())
    };
    let (ours, theirs) = (links("self"), links(&pid.to_string()));
    assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| ours != theirs), "{ours:?} {theirs:?}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("\nUid:\t200000\t200000\t200000\t200000\n"), "{status}");
    pod.start(&id).await;
    assert_eq!(pod.wait_exit(&id).await.status, ExitStatus::Code(0), "{:?}", pod.log("who"));
    let lines: Vec<_> = pod.log("who").iter().map(|line| line.replace("stdout F ", "")).collect();
    assert_eq!(
        lines,
        [
            "1",
            "0",
            " 0 200000 65536",
            " 0 200000 65536",
            "0:0",
            "0:0",
            "0:0",
            "null",
            "1",
            "proc",
            "sysfs",
            "/sys/fs/cgroup/memory",
            "0",
            "quay",
            "again",
            // As without users, and one for each of five devices.
            "14",
            "bin",
            "dev",
            "etc",
            "made",
            "proc",
            "sys",
            "tmp",
        ]
    );
    // Through the mapped mount, root inside is root on disk.
    assert_eq!(std::fs::metadata(pod.root().join("made")).unwrap().uid(), 0);
}

#[tokio::test]
async fn the_pods_namespaces_belong_to_its_users_and_the_monitor_stays_outside() {
    let Some(mut pod) = boot(|_| {}).await else { return };
    let monitor = pod.monitor();
    let read = |name: &str| std::fs::read_to_string(monitor.join(name)).unwrap();
    assert!(read("status").contains("\nUid:\t0\t0\t0\t0\n"));
    let own = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_eq!(std::fs::read_link(monitor.join("ns/user")).unwrap(), own);
    // Only whoever has the power over a network namespace may rename, and over UTS, name it.
    let script = "hostname other && hostname; mount -t tmpfs x /tmp && echo mounted; \
        mount -t proc x /tmp && echo proc";
    let mut planned = container(&pod, "admin", script).await;
    give(&mut planned, SYS_ADMIN);
    assert_eq!(pod.output_of("admin", planned).await, ["other", "mounted", "proc"]);
}

#[tokio::test]
async fn power_inside_is_none_over_the_host() {
    let Some(mut pod) = boot(|_| {}).await else { return };
    let script = "mknod /tmp/d b 7 0 2>/dev/null || echo no-node; \
        (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo no-sysctl; \
        (echo x > /proc/sysrq-trigger) 2>/dev/null || echo no-sysrq; \
        mount -t ext4 /dev/null /tmp 2>/dev/null || echo no-disk; kill -0 -1; \
        mount -o remount,bind,rw /data 2>/dev/null || echo locked; touch /data/x 2>/dev/null || echo read-only; \
        stat -c %u /data";
    let volume = pod.directory.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut planned = container(&pod, "power", script).await;
    give(&mut planned, u64::MAX);
    let tree = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
        | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(rustix::fs::CWD, &volume, tree).unwrap();
    let change = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
    mount_setattr(mount.as_fd(), c"", Reach::This, change).unwrap();
    let mount = planned.add_fd(mount);
    planned.plan.mounts.push(Mount {
        target: b"/data".to_vec().into(),
        source: MountSource::Attach { mount, kind: TargetKind::Directory },
    });
    let lines = pod.output_of("power", planned).await;
    // The volume is not mapped, so its owner has no name inside.
    let wanted = ["no-node", "no-sysctl", "no-sysrq", "no-disk", "locked", "read-only", "65534"];
    assert_eq!(lines.iter().filter(|line| !line.starts_with("stderr")).collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn users_groups_and_limits_are_those_of_the_container() {
    let Some(mut pod) = boot(|_| {}).await else { return };
    let script = "id -u; id -g; id -G; ulimit -n; echo again > /dev/stdout";
    let mut planned = container(&pod, "who", script).await;
    let process = &mut planned.plan.process;
    process.user = User { uid: 1000, gid: 1001, groups: vec![2000, 3000], umask: None };
    process.rlimits = vec![Rlimit { resource: 7, soft: 100, hard: 200 }];
    let lines = pod.output_of("who", planned).await;
    assert_eq!(lines, ["1000", "1001", "1001 2000 3000", "100", "again"]);
    let mut planned = container(&pod, "outside", "true").await;
    planned.plan.process.user.uid = 70_000;
    let error = pod.try_create(planned).await.unwrap_err();
    assert!(error.chain().contains("70000:0 is not mapped"), "{}", error.chain());
}

#[tokio::test]
async fn an_exec_is_in_the_same_namespaces_also_with_a_terminal() {
    let Some(mut pod) = boot(|_| {}).await else { return };
    let (id, pid) = pod.create(container(&pod, "box", "sleep 600").await).await;
    pod.start(&id).await;
    let script = "tr -s ' ' < /proc/self/uid_map; for kind in user mnt pid cgroup; do \
        readlink /proc/self/ns/$kind; done; stat -c %u /dev/pts/0; tty; exit 9";
    let mut process = shell(script);
    process.terminal = Some(TerminalSize { width: 80, height: 24 });
    let plan = ExecPlan {
        id: ExecId::generate().unwrap(),
        container: id,
        process,
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let exec = plan.id.clone();
    let (_, fds) = within(pod.client.call(Request::Exec(Box::new(plan)), vec![])).await.unwrap();
    let terminal = File::from(fds.into_iter().next().unwrap());
    let read = tokio::task::spawn_blocking(move || {
        let (mut bytes, mut terminal) = (Vec::new(), terminal);
        // A terminal ends with an error.
        let _ = terminal.read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    });
    let text = within(read).await.unwrap();
    let link = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        link.to_str().unwrap().to_owned()
    };
    let mut wanted = vec![" 0 200000 65536".to_owned()];
    wanted.extend(["user", "mnt", "pid", "cgroup"].map(link));
    wanted.extend(["0", "/dev/pts/0"].map(str::to_owned));
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(pod.wait_exec(&exec).await, ExitStatus::Code(9));
}

#[tokio::test]
async fn a_shared_pid_namespace_belongs_to_the_users_as_well() {
    let Some(mut pod) = boot(|plan| plan.pid = PodPid::Shared).await else { return };
    let mut first = container(&pod, "first", "(sleep 0 &); sleep 61").await;
    first.plan.pid = ContainerPid::Pod;
    let (first, _) = pod.create(first).await;
    pod.start(&first).await;
    let script = "cat /proc/1/comm; grep ^Uid /proc/1/status | tr -d '\\t'; \
        until ps | grep -v grep | grep -q 'sleep 61'; do :; done; ls /proc/1/root 2>/dev/null || echo hidden; \
        kill -9 1; while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; exit 4";
    let mut second = container(&pod, "second", script).await;
    second.plan.pid = ContainerPid::Pod;
    give(&mut second, 1 << 19);
    assert_eq!(pod.run(second).await.status, ExitStatus::Code(4));
    assert_eq!(
        pod.log("second"),
        ["cais-init", "Uid:0000", "hidden"].map(|it| format!("stdout F {it}"))
    );
    let mut debug = container(&pod, "debug", "tr '\\0' ' ' < /proc/$(ps | grep -m 1 'sleep 61' | tr -s ' ' | tr -d '\\n' | head -c 2 | tr -d ' ')/cmdline").await;
    debug.plan.pid = ContainerPid::Target(first);
    pod.run(debug).await;
}

#[tokio::test]
async fn with_the_hosts_network_sys_is_the_hosts_and_read_only() {
    let change = |plan: &mut PodPlan| {
        (plan.network, plan.uts) = (Namespace::Host, Namespace::Host);
        (plan.hostname, plan.sysctls) = (None, vec![]);
    };
    let Some(mut pod) = boot(change).await else { return };
    let script = "ls -d /sys/class/net/lo; readlink /proc/self/ns/net; hostname other 2>/dev/null || echo kept; \
        mount -o remount,bind,rw /sys 2>/dev/null || echo locked";
    let mut planned = container(&pod, "net", script).await;
    give(&mut planned, SYS_ADMIN);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let lines = pod.output_of("net", planned).await;
    assert_eq!(lines, ["/sys/class/net/lo", own.to_str().unwrap(), "kept", "locked"]);
}

#[tokio::test]
async fn a_mapping_of_its_own_is_made_for_a_mount() {
    let Some(pod) = boot(|_| {}).await else { return };
    let users = users_of(&pod, map(300_000)).await;
    let tree = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
        | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(rustix::fs::CWD, pod.root(), tree).unwrap();
    idmap(mount.as_fd(), Reach::This, users.as_fd()).unwrap();
    assert_eq!(rustix::fs::fstat(&mount).unwrap().st_uid, 300_000);
}

#[tokio::test]
async fn a_sysctl_of_the_host_fails_the_pod_with_its_name() {
    let Some(pod) = Pod::boot_bare().await else { return };
    let exits = pod.directory.path().join("exits");
    std::fs::create_dir(&exits).unwrap();
    let plan = PodPlan {
        network: Namespace::New,
        ipc: Namespace::New,
        uts: Namespace::New,
        pid: PodPid::PerContainer,
        user: Some(map(200_000)),
        hostname: None,
        domainname: None,
        sysctls: vec![("kernel.panic".to_owned(), "7".to_owned())],
        shm_size: None,
        shm: None,
        exits: crate::executor::plan::Fd(0),
    };
    let request = Request::SetUpPod(Box::new(plan));
    let error = within(pod.client.call(request, vec![open(&exits)])).await.unwrap_err();
    assert!(error.chain().contains("sysctl kernel.panic"), "{}", error.chain());
}

/// The process that makes a container's first one may be held up until that has come to its end.
#[tokio::test]
async fn a_start_is_answered_however_soon_the_program_ends() {
    let Some(mut pod) = boot(|_| {}).await else { return };
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let is_over = is_over.clone();
            std::thread::spawn(move || {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    for number in 0..60 {
        let planned = container(&pod, &format!("short{number}"), "true").await;
        assert_eq!(pod.run(planned).await.status, ExitStatus::Code(0));
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.into_iter().for_each(|it| it.join().unwrap());
}
