//! Creating, starting, exiting, killing, deleting.

use super::harness::{Pod, within};
use crate::error::Kind;
use crate::monitor::client::failure_of;
use crate::monitor::protocol::{
    ExitStatus, FailureKind, KillScope, Reply, Request, SocketKind, State,
};

#[tokio::test]
async fn a_container_runs_logs_and_leaves_its_exit_code() {
    let Some(mut pod) = Pod::boot().await else { return };
    let planned = pod.container("one", "echo out; echo err >&2; exit 7");
    let id = planned.id.clone();
    let exit = pod.run(planned).await;

    assert_eq!(exit.status, ExitStatus::Code(7));
    assert!(exit.started_at.is_some_and(|at| at <= exit.finished_at));
    assert!(!exit.oom_killed);
    let mut log = pod.log("one");
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out"]);

    let record = pod.directory.path().join("exits").join(id.as_str());
    assert_eq!(super::harness::exit_record(&record), exit);
    let reply = pod.call(Request::List).await.unwrap();
    let Reply::Containers(list) = reply else { panic!("{reply:?}") };
    assert_eq!(list[0].state, State::Exited(exit));
    pod.call(Request::Delete { container: id.clone() }).await.unwrap();
    let again = pod.call(Request::Delete { container: id }).await.unwrap_err();
    assert_eq!(again.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_signal_ends_a_container_and_the_second_one_finds_it_dead() {
    let Some(mut pod) = Pod::boot().await else { return };
    let (id, _) = pod.create(pod.container("loop", "while :; do sleep 60; done")).await;
    pod.start(&id).await;
    let kill = |signal, scope| Request::Kill { container: id.clone(), signal, scope };

    let error = pod.call(kill(0, KillScope::Init)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    pod.call(kill(9, KillScope::All)).await.unwrap();
    assert_eq!(pod.wait_exit(&id).await.status, ExitStatus::Signal(9));
    let error = pod.call(kill(9, KillScope::Init)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongState);
}

#[tokio::test]
async fn a_missing_command_fails_the_start_with_127_and_a_directory_with_126() {
    let Some(mut pod) = Pod::boot().await else { return };
    for (command, kind, code) in [
        ("nonesuch", FailureKind::CommandNotFound, 127),
        ("/nonesuch", FailureKind::CommandNotFound, 127),
        ("/bin", FailureKind::CommandNotExecutable, 126),
    ] {
        let mut planned = pod.container("missing", "");
        planned.plan.process.args = vec![command.as_bytes().to_vec().into()];
        let (id, _) = pod.create(planned).await;
        let error = pod.call(Request::Start { container: id.clone() }).await.unwrap_err();
        assert_eq!(failure_of(&error).unwrap().kind, kind, "{}", error.chain());
        let exit = pod.wait_exit(&id).await;
        assert_eq!((exit.status, exit.started_at), (ExitStatus::Code(code), None));
    }
}

#[tokio::test]
async fn a_container_that_was_never_started_is_killed_by_delete() {
    let Some(pod) = Pod::boot().await else { return };
    let (id, pid) = pod.create(pod.container("idle", "true")).await;
    pod.call(Request::Delete { container: id }).await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(pod.call(Request::List).await.unwrap(), Reply::Containers(vec![]));
}

#[tokio::test]
async fn a_running_container_is_not_deleted_and_a_second_of_its_name_is_refused() {
    let Some(pod) = Pod::boot().await else { return };
    let planned = pod.container("a", "sleep 60");
    let mut twin = pod.container("b", "sleep 60");
    twin.id = planned.id.clone();
    let (id, _) = pod.create(planned).await;
    pod.start(&id).await;
    assert_eq!(pod.try_create(twin).await.unwrap_err().kind(), Kind::WrongState);
    let error = pod.call(Request::Delete { container: id }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongState);
}

#[tokio::test]
async fn bad_plans_are_refused_with_the_reason() {
    let Some(pod) = Pod::boot().await else { return };
    type Damage = fn(&mut super::harness::Planned);
    let broken: [(&str, Damage); 5] = [
        ("descriptor 99", |planned| planned.plan.rootfs = crate::executor::plan::Fd(99)),
        ("no command", |planned| planned.plan.process.args.clear()),
        ("not an absolute path", |planned| {
            planned.plan.process.cwd = b"tmp".to_vec().into();
        }),
        ("NUL", |planned| planned.plan.process.args[0] = b"a\0b".to_vec().into()),
        ("no PID namespace to share", |planned| {
            planned.plan.pid = crate::executor::plan::ContainerPid::Pod;
        }),
    ];
    for (reason, damage) in broken {
        let mut planned = pod.container("bad", "true");
        damage(&mut planned);
        let error = pod.try_create(planned).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{}", error.chain());
        assert!(error.chain().contains(reason), "{}", error.chain());
    }
    // The monitor is none the worse for it.
    assert_eq!(pod.call(Request::List).await.unwrap(), Reply::Containers(vec![]));
}

#[tokio::test]
async fn a_mount_that_the_kernel_refuses_names_itself_and_leaves_nothing() {
    let Some(pod) = Pod::boot().await else { return };
    let mut planned = pod.container("bad", "true");
    planned.plan.mounts.push(crate::executor::plan::Mount {
        target: b"/mnt/x".to_vec().into(),
        source: crate::executor::plan::MountSource::New {
            fstype: "tmpfs".to_owned(),
            options: vec![("size".to_owned(), Some("lots".to_owned()))],
            attributes: crate::executor::plan::MountAttributes::default(),
        },
    });
    let error = pod.try_create(planned).await.unwrap_err();
    assert!(error.chain().contains("mount /mnt/x: option size"), "{}", error.chain());
    assert_eq!(pod.call(Request::List).await.unwrap(), Reply::Containers(vec![]));
}

#[tokio::test]
async fn requests_out_of_order_are_refused() {
    let Some(pod) = Pod::boot_bare().await else { return };
    let error = pod.try_create(pod.container("early", "true")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongState);
    let error = pod.call(Request::OpenSocket(SocketKind::Route)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongState);
}

#[tokio::test]
async fn a_socket_of_the_pod_sees_the_pods_network_only() {
    let Some(pod) = Pod::boot().await else { return };
    let (reply, fds) =
        within(pod.client.call(Request::OpenSocket(SocketKind::TcpV4), vec![])).await.unwrap();
    assert_eq!((reply, fds.len()), (Reply::Socket, 1));
    // Loopback is down in a fresh namespace, and up on any host.
    let address = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9);
    let error = rustix::net::connect(&fds[0], &address).unwrap_err();
    assert_eq!(error, rustix::io::Errno::NETUNREACH);
}

#[tokio::test]
async fn containers_outlive_every_client_and_a_new_one_finds_them() {
    let Some(mut pod) = Pod::boot().await else { return };
    let (id, pid) = pod.create(pod.container("lone", "sleep 60")).await;
    pod.start(&id).await;
    let socket = pod.directory.path().join("monitor.sock");
    let (client, reports) = crate::monitor::client::Client::connect(&socket).await.unwrap();
    pod.client = client;
    pod.reports = reports;
    let reply = pod.call(Request::List).await.unwrap();
    let Reply::Containers(list) = reply else { panic!("{reply:?}") };
    assert!(matches!(list[0].state, State::Running { pid: p, .. } if p == pid));
}

#[tokio::test]
async fn a_killed_monitor_takes_its_containers_along() {
    let Some(mut pod) =
        Pod::boot_with(|plan| plan.pid = crate::executor::plan::PodPid::Shared).await
    else {
        return;
    };
    let mut shared = pod.container("shared", "sleep 60");
    shared.plan.pid = crate::executor::plan::ContainerPid::Pod;
    let (shared, pid_of_shared) = pod.create(shared).await;
    let (own, pid_of_own) = pod.create(pod.container("own", "sleep 60")).await;
    pod.start(&shared).await;
    pod.start(&own).await;
    pod.process.kill().unwrap();
    within(pod.client.closed()).await;
    within(async {
        for pid in [pid_of_shared, pid_of_own] {
            while is_running(pid) {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

/// A zombie, whose reaper is not us, counts as dead.
fn is_running(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

#[tokio::test]
async fn shutdown_kills_everything_records_it_and_ends_the_monitor() {
    let Some(mut pod) = Pod::boot().await else { return };
    let (id, _) = pod.create(pod.container("loop", "sleep 60")).await;
    pod.start(&id).await;
    pod.call(Request::Shutdown).await.unwrap();
    within(pod.client.closed()).await;
    assert!(pod.process.wait().unwrap().success());
    let record = pod.directory.path().join("exits").join(id.as_str());
    let exit = super::harness::exit_record(&record);
    assert_eq!(exit.status, ExitStatus::Signal(9));
}

#[tokio::test]
async fn a_container_over_its_memory_limit_is_reported_so() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("hog", "head -c 60000000 /dev/zero | tail -c 50000000 | wc -c");
    if !pod.limit_memory(&mut planned, 8 << 20) {
        return;
    }
    planned.plan.process.args[2] = b"exec tail -c 50000000 /dev/zero".to_vec().into();
    let exit = pod.run(planned).await;
    assert_eq!((exit.status, exit.oom_killed), (ExitStatus::Signal(9), true));

    let mut planned = pod.container("modest", "true");
    assert!(pod.limit_memory(&mut planned, 32 << 20));
    let exit = pod.run(planned).await;
    assert_eq!((exit.status, exit.oom_killed), (ExitStatus::Code(0), false));
}

#[tokio::test]
async fn what_a_container_without_its_own_pid_namespace_leaves_behind_is_killed() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("host", "setsid sleep 1234 & echo $!; exit 3");
    planned.plan.pid = crate::executor::plan::ContainerPid::Host;
    if !pod.limit_memory(&mut planned, 64 << 20) {
        return;
    }
    let exit = pod.run(planned).await;
    assert_eq!(exit.status, ExitStatus::Code(3));
    let left: i32 = pod.log("host")[0].trim_start_matches("stdout F ").parse().unwrap();
    within(async {
        while is_running(left) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
