//! Commands in running containers.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use super::harness::{Pod, shell, within};
use crate::error::Kind;
use crate::executor::plan::{ExecPlan, TerminalSize};
use crate::id::{ContainerId, ExecId};
use crate::monitor::client::failure_of;
use crate::monitor::protocol::{ExitStatus, FailureKind, KillScope, Reply, Request};

fn plan(container: &ContainerId, script: &str) -> ExecPlan {
    ExecPlan {
        id: ExecId::generate().unwrap(),
        container: container.clone(),
        process: shell(script),
        stdin: false,
        stdout: true,
        stderr: false,
    }
}

async fn exec(pod: &Pod, plan: ExecPlan) -> (ExecId, Vec<OwnedFd>) {
    let id = plan.id.clone();
    let (reply, fds) =
        within(pod.client.call(Request::Exec(Box::new(plan)), vec![])).await.unwrap();
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    (id, fds)
}

async fn read_all(fd: OwnedFd) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // A terminal ends with an error.
        let _ = File::from(fd).read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    });
    within(read).await.unwrap()
}

async fn running(pod: &Pod, name: &str) -> ContainerId {
    let (id, _) = pod.create(pod.container(name, "sleep 600")).await;
    pod.start(&id).await;
    id
}

#[tokio::test]
async fn an_exec_is_inside_and_confined_like_the_container() {
    let Some(mut pod) = Pod::boot().await else { return };
    let container = running(&pod, "box").await;
    let script = "readlink /proc/1/ns/mnt /proc/1/ns/pid /proc/1/ns/cgroup | tr -d '\\n'; echo; \
        readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/cgroup | tr -d '\\n'; echo; \
        hostname; ls -l /proc/self/fd 2>/dev/null | grep -c -- '->'; grep CapBnd /proc/self/status; pwd; exit 9";
    let mut plan = plan(&container, script);
    plan.process.cwd = b"/tmp".to_vec().into();
    plan.process.capabilities.permitted |= 1 << 19;
    plan.process.capabilities.effective |= 1 << 19;
    plan.process.capabilities.bounding |= 1 << 19;
    let (id, fds) = exec(&pod, plan).await;
    assert_eq!(fds.len(), 1);
    let output = read_all(fds.into_iter().next().unwrap()).await;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2..], ["quay", "3", "CapBnd:\t00000000000800e1", "/tmp"]);
    assert_eq!(pod.wait_exec(&id).await, ExitStatus::Code(9));
}

#[tokio::test]
async fn an_exec_reads_its_input_and_ends_with_it() {
    let Some(mut pod) = Pod::boot().await else { return };
    let container = running(&pod, "box").await;
    let mut plan = plan(&container, "cat; echo end >&2");
    (plan.stdin, plan.stderr) = (true, true);
    let (id, fds) = exec(&pod, plan).await;
    let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds).unwrap();
    rustix::io::write(&stdin, b"hello").unwrap();
    drop(stdin);
    assert_eq!(read_all(stdout).await, "hello");
    assert_eq!(read_all(stderr).await, "end\n");
    assert_eq!(pod.wait_exec(&id).await, ExitStatus::Code(0));
}

#[tokio::test]
async fn an_exec_with_a_terminal_has_its_size_and_controls_its_jobs() {
    let Some(mut pod) = Pod::boot().await else { return };
    let container = running(&pod, "box").await;
    let mut plan = plan(&container, "stty size; tty; exec sleep 600");
    plan.process.terminal = Some(TerminalSize { width: 123, height: 45 });
    let (id, fds) = exec(&pod, plan).await;
    let [master] = <[OwnedFd; 1]>::try_from(fds).unwrap();
    let mut seen = Vec::new();
    let mut reader = File::from(master);
    while !seen.ends_with(b"/dev/pts/0\r\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    assert_eq!(String::from_utf8(seen).unwrap(), "45 123\r\n/dev/pts/0\r\n");
    // ^C reaches it because the terminal is its controlling one.
    rustix::io::write(&reader, b"\x03").unwrap();
    assert_eq!(pod.wait_exec(&id).await, ExitStatus::Signal(2));
}

#[tokio::test]
async fn a_missing_command_is_told_apart_from_a_missing_container() {
    let Some(pod) = Pod::boot().await else { return };
    let container = running(&pod, "box").await;
    let mut missing = plan(&container, "");
    missing.process.args = vec![b"nonesuch".to_vec().into()];
    let error = pod.call(Request::Exec(Box::new(missing))).await.unwrap_err();
    assert_eq!(failure_of(&error).unwrap().kind, FailureKind::CommandNotFound);
    let stranger = plan(&ContainerId::generate().unwrap(), "true");
    let error = pod.call(Request::Exec(Box::new(stranger))).await.unwrap_err();
    assert_eq!(failure_of(&error).unwrap().kind, FailureKind::NotFound);
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn killing_an_exec_kills_all_that_it_started() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("box", "sleep 600");
    if !pod.limit_memory(&mut planned, 64 << 20) {
        return;
    }
    let (container, _) = pod.create(planned).await;
    pod.start(&container).await;
    // A child, one in a session of its own, and one whose parent is gone.
    let script = "sleep 771 & setsid sleep 772 & (setsid sleep 773 &); echo ready; sleep 774";
    let (id, fds) = exec(&pod, plan(&container, script)).await;
    let mut reader = File::from(fds.into_iter().next().unwrap());
    reader.read_exact(&mut [0; 6]).unwrap();

    // A process of the container that is not the exec's stays.
    let (other, _other_fds) = exec(&pod, plan(&container, "exec sleep 775")).await;
    let kill = Request::KillExec { exec: id.clone(), signal: 9, scope: KillScope::All };
    pod.call(kill).await.unwrap();
    assert_eq!(pod.wait_exec(&id).await, ExitStatus::Signal(9));
    // Nobody holds the pipe any more.
    within(tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new())))
        .await
        .unwrap()
        .unwrap();
    let (_, fds) = exec(&pod, plan(&container, "ps | grep -v grep | grep -c 'sleep 77'")).await;
    assert_eq!(read_all(fds.into_iter().next().unwrap()).await, "1\n");
    let kill = Request::KillExec { exec: other, signal: 15, scope: KillScope::Init };
    pod.call(kill).await.unwrap();
}

#[tokio::test]
async fn an_exec_in_a_dead_container_is_refused() {
    let Some(mut pod) = Pod::boot().await else { return };
    let planned = pod.container("dead", "true");
    let id = planned.id.clone();
    pod.run(planned).await;
    let error = pod.call(Request::Exec(Box::new(plan(&id, "true")))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongState);
}

#[tokio::test]
async fn an_exec_dies_with_its_container() {
    let Some(mut pod) = Pod::boot().await else { return };
    let container = running(&pod, "box").await;
    let (id, _fds) = exec(&pod, plan(&container, "sleep 600")).await;
    let kill = Request::Kill { container: container.clone(), signal: 9, scope: KillScope::Init };
    pod.call(kill).await.unwrap();
    assert_eq!(pod.wait_exec(&id).await, ExitStatus::Signal(9));
}
