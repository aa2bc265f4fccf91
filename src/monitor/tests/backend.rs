//! What the stream server gets from a real monitor: execs, attached streams, connections.

use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{Planned, Pod, shell, within};
use crate::error::Kind;
use crate::executor::plan::{ExecPlan, Stdin, TerminalSize};
use crate::id::{ContainerId, ExecId, PodId};
use crate::streaming::backend::{Attach, Backend, Exec, PortForward, Process, Wanted, WindowSize};
use crate::streaming::monitors::Monitors;
use crate::streaming::stdio::Pipe;

const PIPES: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: Wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };

async fn run(pod: &Pod, planned: Planned) -> ContainerId {
    let (id, _) = pod.create(planned).await;
    pod.start(&id).await;
    id
}

async fn exec(pod: &Pod, container: &ContainerId, script: &str, wanted: Wanted) -> Process {
    let mut process = shell(script);
    process.terminal = wanted.tty.then_some(TerminalSize { width: 80, height: 24 });
    let plan = ExecPlan {
        id: ExecId::generate().unwrap(),
        container: container.clone(),
        process,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    let monitor = pod.directory.path().join("monitor.sock");
    let plan = rmp_serde::to_vec_named(&plan).unwrap();
    let exec = Exec { monitor, container: container.clone(), plan, wanted };
    within(Monitors.exec(exec)).await.unwrap()
}

async fn read_all(end: Option<OwnedFd>) -> String {
    let mut text = String::new();
    within(Pipe::new(end.unwrap()).unwrap().read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test]
async fn an_exec_has_its_pipes_and_its_exit_code() {
    let Some(pod) = Pod::boot().await else { return };
    let container = run(&pod, pod.container("main", "sleep 60")).await;
    let process = exec(&pod, &container, "cat; echo oops >&2; exit 5", PIPES).await;

    let mut stdin = Pipe::new(process.stdio.stdin.unwrap()).unwrap();
    stdin.write_all(b"typed").await.unwrap();
    drop(stdin);

    assert_eq!(read_all(process.stdio.stdout).await, "typed");
    assert_eq!(read_all(process.stdio.stderr).await, "oops\n");
    assert_eq!(within(process.exit).await.unwrap(), 5);
}

#[tokio::test]
async fn an_exec_with_a_terminal_can_be_resized() {
    let Some(pod) = Pod::boot().await else { return };
    let container = run(&pod, pod.container("main", "sleep 60")).await;
    let mut process = exec(&pod, &container, "read line; stty size", TERMINAL).await;

    (process.resize)(WindowSize { columns: 111, rows: 33 }).await.unwrap();
    let master = process.stdio.terminal.unwrap();
    let mut keyboard = Pipe::new(master.try_clone().unwrap()).unwrap();
    keyboard.write_all(b"\n").await.unwrap();

    let screen = read_all(Some(master)).await;
    assert!(screen.ends_with("33 111\r\n"), "{screen:?}");
    assert_eq!(within(process.exit).await.unwrap(), 0);
}

#[tokio::test]
async fn attach_joins_the_streams_and_ends_with_the_container() {
    let Some(pod) = Pod::boot().await else { return };
    let mut planned = pod.container("main", "read line; echo \"got $line\"; exit 4");
    planned.plan.stdio.stdin = Stdin::Open;
    let container = run(&pod, planned).await;
    let monitor = pod.directory.path().join("monitor.sock");
    let attach = Attach { monitor, container: container.clone(), wanted: PIPES };
    let process = within(Monitors.attach(attach.clone())).await.unwrap();

    let mut stdin = Pipe::new(process.stdio.stdin.unwrap()).unwrap();
    stdin.write_all(b"hello\n").await.unwrap();

    assert_eq!(read_all(process.stdio.stdout).await, "got hello\n");
    assert_eq!(within(process.exit).await.unwrap(), 0);
    let again = within(Monitors.attach(attach)).await.map(|_| ()).unwrap_err();
    assert_eq!(again.kind(), Kind::WrongState);
}

#[tokio::test]
async fn an_attached_terminal_carries_both_directions_and_sizes() {
    let Some(pod) = Pod::boot().await else { return };
    let mut planned = pod.container("main", "read line; stty size; echo \"got $line\"");
    planned.plan.stdio.stdin = Stdin::Open;
    planned.plan.process.terminal = Some(TerminalSize { width: 80, height: 24 });
    let container = run(&pod, planned).await;
    let monitor = pod.directory.path().join("monitor.sock");
    let attach = Attach { monitor, container, wanted: TERMINAL };
    let mut process = within(Monitors.attach(attach)).await.unwrap();

    (process.resize)(WindowSize { columns: 99, rows: 11 }).await.unwrap();
    let terminal = process.stdio.terminal.unwrap();
    let mut keyboard = Pipe::new(terminal.try_clone().unwrap()).unwrap();
    keyboard.write_all(b"hello\n").await.unwrap();

    let screen = read_all(Some(terminal)).await;
    assert!(screen.ends_with("11 99\r\ngot hello\r\n"), "{screen:?}");
}

/// A pod that echoes on port 7001 of its loopback interface.
async fn echoing(pod: &Pod) -> PortForward {
    const NET_ADMIN: u64 = 1 << 12;
    let script = "busybox ip link set lo up; exec busybox nc -ll -p 7001 -e cat";
    let mut planned = pod.container("main", script);
    let capabilities = &mut planned.plan.process.capabilities;
    capabilities.bounding |= NET_ADMIN;
    capabilities.permitted |= NET_ADMIN;
    capabilities.effective |= NET_ADMIN;
    run(pod, planned).await;
    let monitor = pod.directory.path().join("monitor.sock");
    PortForward { monitor, pod: PodId::generate().unwrap(), ports: Vec::new() }
}

async fn assert_echo(target: &PortForward) {
    let mut connection = dial_soon(target, 7001).await;
    connection.write_all(b"hello").await.unwrap();
    connection.shutdown().await.unwrap();
    let mut heard = String::new();
    within(connection.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "hello");
}

#[tokio::test]
async fn connections_are_dialled_inside_the_pod() {
    let Some(pod) = Pod::boot().await else { return };
    let target = echoing(&pod).await;

    assert_echo(&target).await;

    let refused = within(Monitors.dial(&target, 7002)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.chain().contains("127.0.0.1: Connection refused"), "{}", refused.chain());
}

#[tokio::test]
async fn a_program_that_listens_on_ipv6_only_is_found() {
    let v6_only = ("net.ipv6.bindv6only".to_owned(), "1".to_owned());
    let Some(pod) = Pod::boot_with(|plan| plan.sysctls.push(v6_only)).await else { return };
    assert_echo(&echoing(&pod).await).await;
}

/// The listener comes up a moment after its program.
async fn dial_soon(target: &PortForward, port: u16) -> tokio::net::TcpStream {
    within(async {
        loop {
            if let Ok(connection) = Monitors.dial(target, port).await {
                return connection;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_monitor_that_dies_ends_its_sessions_with_an_error() {
    let Some(mut pod) = Pod::boot().await else { return };
    let container = run(&pod, pod.container("main", "sleep 60")).await;
    let process = exec(&pod, &container, "sleep 60", PIPES).await;

    pod.process.kill().unwrap();

    assert_eq!(within(process.exit).await.unwrap_err().kind(), Kind::Unavailable);
}
