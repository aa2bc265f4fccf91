//! The real program, when it lies beside the tests: `cargo build --bin cais-monitor`.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::harness::{Pod, within};
use crate::monitor::client::Client;
use crate::monitor::protocol::Request;
use crate::monitor::spawn::{self, Program, Spawned};

/// Another one to test, such as a release build.
const PROGRAM: &str = "CAIS_TEST_PROGRAM";

/// Killed when the test is over, however it ends.
struct Monitor(Spawned);

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = crate::sys::process::pidfd_send_signal(self.0.pidfd.as_fd(), libc::SIGKILL);
    }
}

fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM) {
        return Some(path.into());
    }
    let tests = std::env::current_exe().unwrap();
    let beside = tests.parent()?.parent()?.join("cais-monitor");
    beside.exists().then_some(beside)
}

#[tokio::test]
async fn a_spawned_monitor_is_sealed_small_and_ends_when_told() {
    let (Some(program), Some(mut pod)) = (program(), Pod::boot_bare().await) else { return };
    let memory = Program::load(Some(&program)).unwrap();
    let socket = pod.directory.path().join("real.sock");
    // The pages of the program belong to all who run it: with a second one they are not private.
    let other = pod.directory.path().join("other.sock");
    let _other =
        Monitor(memory.spawn(spawn::listen(&other).unwrap(), "test-pod", errors()).unwrap());
    (pod.client, pod.reports) = Client::connect(&other).await.unwrap();
    pod.set_up(|_| {}).await;
    run_something(&pod, "other").await;

    let spawned = memory.spawn(spawn::listen(&socket).unwrap(), "test-pod", errors()).unwrap();
    let own = PathBuf::from(format!("/proc/{}", spawned.pid));
    let spawned = Monitor(spawned);
    let (client, reports) = Client::connect(&socket).await.unwrap();
    (pod.client, pod.reports) = (client, reports);
    pod.set_up(|_| {}).await;

    assert!(std::fs::OpenOptions::new().write(true).open(own.join("exe")).is_err());
    let threads = std::fs::read_dir(own.join("task")).unwrap().count();
    assert_eq!(threads, 1);

    run_something(&pod, "idle").await;
    // Once it has noticed that nothing happens any more.
    let private = within(async {
        let mut private = private_kib(&own);
        for _ in 0..3 {
            let _ =
                tokio::time::timeout(std::time::Duration::from_secs(1), pod.reports.recv()).await;
            private = private.min(private_kib(&own));
        }
        private
    })
    .await;
    let limit = if std::env::var_os(PROGRAM).is_some() { 300 } else { 3000 };
    assert!(private <= limit, "{private} KiB are private to the monitor");
    #[expect(clippy::print_stdout, reason = "the figure is what the test is read for")]
    {
        println!("an idle monitor with one container: {private} KiB private");
    }

    pod.call(Request::Shutdown).await.unwrap();
    within(spawn::exited(spawned.0.pidfd.as_fd().try_clone_to_owned().unwrap())).await.unwrap();
    assert!(!own.exists());
}

/// A container that runs on after some output.
async fn run_something(pod: &Pod, name: &str) {
    let (id, _) = pod.create(pod.container(name, "seq 1 20000; exec sleep 600")).await;
    pod.start(&id).await;
    pod.wait_log(name, " 20000").await;
}

fn private_kib(process: &std::path::Path) -> u64 {
    let rollup = std::fs::read_to_string(process.join("smaps_rollup")).unwrap();
    rollup
        .lines()
        .filter_map(|line| line.strip_prefix("Private_")?.split_whitespace().nth(1))
        .map(|kib| kib.parse::<u64>().unwrap())
        .sum()
}

fn errors() -> Option<std::os::fd::OwnedFd> {
    Some(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap().into())
}
