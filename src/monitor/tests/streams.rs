//! Logs, rotation, attached clients and terminals.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::harness::{Pod, within};
use crate::error::Kind;
use crate::executor::plan::{Stdin, TerminalSize};
use crate::id::ContainerId;
use crate::monitor::protocol::{ExitStatus, KillScope, Reply, Request};

async fn attach(pod: &Pod, container: &ContainerId, stdin: bool) -> Vec<OwnedFd> {
    let request =
        Request::Attach { container: container.clone(), stdin, stdout: true, stderr: false };
    let (reply, fds) = within(pod.client.call(request, vec![])).await.unwrap();
    assert_eq!(reply, Reply::Attached);
    fds
}

async fn read_to_end(fd: OwnedFd) -> Vec<u8> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes).unwrap();
        bytes
    });
    within(read).await.unwrap()
}

/// The text of a log without its frame.
fn content(log: &[String]) -> String {
    let mut text = String::new();
    for line in log {
        let (tag, rest) = line.strip_prefix("stdout ").unwrap().split_once(' ').unwrap();
        text.push_str(rest);
        if tag == "F" {
            text.push('\n');
        }
    }
    text
}

#[tokio::test]
async fn a_line_over_16_kib_is_split_there() {
    let Some(mut pod) = Pod::boot().await else { return };
    let planned = pod.container("long", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo -n tail");
    pod.run(planned).await;
    let lengths: Vec<(String, usize)> = pod
        .log("long")
        .iter()
        .map(|line| (line[..8].to_owned(), line.len() - "stdout F ".len()))
        .collect();
    let expected = [("stdout P", 16384), ("stdout P", 16384), ("stdout F", 7232), ("stdout P", 4)];
    assert_eq!(lengths, expected.map(|(tag, length)| (tag.to_owned(), length)));
}

#[tokio::test]
async fn rotation_loses_and_doubles_no_line() {
    let Some(mut pod) = Pod::boot().await else { return };
    let (id, _) = pod.create(pod.container("rot", "seq 1 200000")).await;
    pod.start(&id).await;
    let mut files = vec!["rot".to_owned()];
    for number in 0..20 {
        let name = format!("rot{number}");
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(pod.log_path(&name), flags, Mode::from_raw_mode(0o600)).unwrap();
        files.push(name);
        let reopen = Request::ReopenLog { container: id.clone() };
        if pod.client.call(reopen, vec![file]).await.is_err() {
            break;
        }
    }
    pod.wait_exit(&id).await;
    let seen: String = files.iter().map(|name| content(&pod.log(name))).collect();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(seen == expected, "{} bytes of {}", seen.len(), expected.len());
}

#[tokio::test]
async fn every_attached_client_gets_everything_and_a_slow_one_loses_nothing() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("fan", "read go; seq 1 100000; read end");
    planned.plan.stdio.stdin = Stdin::Open;
    let (id, _) = pod.create(planned).await;
    let [slow] = <[OwnedFd; 1]>::try_from(attach(&pod, &id, false).await).unwrap();
    let [stdin, fast] = <[OwnedFd; 2]>::try_from(attach(&pod, &id, true).await).unwrap();
    let [gone] = <[OwnedFd; 1]>::try_from(attach(&pod, &id, false).await).unwrap();
    pod.start(&id).await;
    drop(gone);
    let mut stdin = File::from(stdin);
    stdin.write_all(b"go\n").unwrap();
    let fast = tokio::spawn(read_to_end(fast));
    let slow = tokio::spawn(read_to_end(slow));
    stdin.write_all(b"end\n").unwrap();
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(pod.wait_exit(&id).await.status, ExitStatus::Code(0));
    assert!(fast.await.unwrap() == expected.as_bytes());
    assert!(slow.await.unwrap() == expected.as_bytes());
    assert!(content(&pod.log("fan")) == expected);
}

#[tokio::test]
async fn input_stays_open_when_a_client_goes_unless_it_is_for_one_client() {
    let Some(mut pod) = Pod::boot().await else { return };
    for (name, mode) in [("open", Stdin::Open), ("once", Stdin::Once)] {
        let mut planned = pod.container(name, "while read line; do echo got $line; done; echo eof");
        planned.plan.stdio.stdin = mode;
        let (id, _) = pod.create(planned).await;
        pod.start(&id).await;
        let [stdin, _stdout] = <[OwnedFd; 2]>::try_from(attach(&pod, &id, true).await).unwrap();
        rustix::io::write(&stdin, b"one\n").unwrap();
        drop(stdin);
        pod.wait_log(name, "got one").await;
        if mode == Stdin::Open {
            let [stdin, _stdout] = <[OwnedFd; 2]>::try_from(attach(&pod, &id, true).await).unwrap();
            rustix::io::write(&stdin, b"two\n").unwrap();
            pod.wait_log(name, "got two").await;
            let kill = Request::Kill { container: id.clone(), signal: 9, scope: KillScope::Init };
            pod.call(kill).await.unwrap();
            pod.wait_exit(&id).await;
        } else {
            assert_eq!(pod.wait_exit(&id).await.status, ExitStatus::Code(0));
            assert_eq!(pod.log(name), ["stdout F got one", "stdout F eof"]);
        }
    }
}

#[tokio::test]
async fn more_input_than_fits_arrives_whole() {
    let Some(mut pod) = Pod::boot().await else { return };
    let mut planned = pod.container("big", "wc -c");
    planned.plan.stdio.stdin = Stdin::Once;
    let (id, _) = pod.create(planned).await;
    let [stdin, _stdout] = <[OwnedFd; 2]>::try_from(attach(&pod, &id, true).await).unwrap();
    let write = tokio::task::spawn_blocking(move || {
        File::from(stdin).write_all(&vec![b'x'; 3_000_000]).unwrap();
    });
    pod.start(&id).await;
    within(write).await.unwrap();
    pod.wait_exit(&id).await;
    assert_eq!(pod.log("big"), ["stdout F 3000000"]);
}

#[tokio::test]
async fn a_terminal_is_attached_resized_and_logged() {
    let Some(mut pod) = Pod::boot().await else { return };
    let script = "tty; stat -c %t:%T /dev/console >/dev/null && echo console; read x; stty size";
    let mut planned = pod.container("tty", script);
    planned.plan.stdio.stdin = Stdin::Open;
    planned.plan.process.terminal = Some(TerminalSize { width: 80, height: 24 });
    let (id, _) = pod.create(planned).await;
    let [socket] = <[OwnedFd; 1]>::try_from(attach(&pod, &id, true).await).unwrap();
    pod.start(&id).await;
    pod.wait_log("tty", "console").await;
    let size = TerminalSize { width: 99, height: 33 };
    pod.call(Request::Resize { container: id.clone(), size }).await.unwrap();
    rustix::io::write(&socket, b"\n").unwrap();
    assert_eq!(pod.wait_exit(&id).await.status, ExitStatus::Code(0));
    let seen = String::from_utf8(read_to_end(socket).await).unwrap();
    assert_eq!(seen, "/dev/pts/0\r\nconsole\r\n\r\n33 99\r\n");
    let log = pod.log("tty");
    assert_eq!(log.last().unwrap(), "stdout F 33 99");
}

#[tokio::test]
async fn resizing_what_has_no_terminal_is_refused() {
    let Some(pod) = Pod::boot().await else { return };
    let (id, _) = pod.create(pod.container("plain", "sleep 60")).await;
    let size = TerminalSize { width: 1, height: 1 };
    let error = pod.call(Request::Resize { container: id, size }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::WrongState);
}

#[tokio::test]
async fn an_exit_is_reported_though_somebody_else_keeps_the_pipe() {
    let Some(mut pod) = Pod::boot().await else { return };
    // With the host's PID namespace and no cgroup of its own, the child is nobody's to kill.
    let mut planned = pod.container("keep", "setsid sleep 20 & echo $!; exit 5");
    planned.plan.pid = crate::executor::plan::ContainerPid::Host;
    let before = std::time::Instant::now();
    let exit = pod.run(planned).await;
    assert_eq!(exit.status, ExitStatus::Code(5));
    assert!(before.elapsed() < std::time::Duration::from_secs(5));
    let pid: i32 = content(&pod.log("keep")).trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[tokio::test]
async fn output_of_other_containers_flows_while_one_is_being_made() {
    let Some(mut pod) = Pod::boot().await else { return };
    let (id, _) = pod.create(pod.container("busy", "while :; do echo tick; done")).await;
    pod.start(&id).await;
    for number in 0..5 {
        let planned = pod.container(&format!("other{number}"), "true");
        assert_eq!(pod.run(planned).await.status, ExitStatus::Code(0));
    }
    let kill = Request::Kill { container: id.clone(), signal: 9, scope: KillScope::All };
    pod.call(kill).await.unwrap();
    pod.wait_exit(&id).await;
    assert!(pod.log("busy").len() > 1000);
}
