//! Network namespaces for tests: each lives on a thread of its own and dies with it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};

use nix::sched::{CloneFlags, unshare};

use super::netlink::Protocol;
use super::pod::PodSocket;

type Job = Box<dyn FnOnce() + Send>;

/// A fresh network namespace; what runs in it runs on its thread.
pub(crate) struct Netns {
    jobs: Sender<Job>,
    path: PathBuf,
}

impl Netns {
    /// Needs root.
    pub(crate) fn new() -> Self {
        let (jobs, queue) = channel::<Job>();
        let (ready, path) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests of the network need root");
            let pid = std::process::id();
            let tid = nix::unistd::gettid();
            ready.send(PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net"))).unwrap();
            for job in queue {
                job();
            }
        });
        let netns = Self { jobs, path: path.recv().unwrap() };
        netns.ip("link set lo up");
        netns
    }

    /// A namespace for a pod: nothing in it is up.
    pub(crate) fn for_pod() -> Self {
        let netns = Self::new();
        netns.ip("link set lo down");
        netns
    }

    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, answer) = channel();
        self.jobs
            .send(Box::new(move || {
                let _ = result.send(job());
            }))
            .unwrap();
        answer.recv().expect("the job in the namespace panicked")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(crate) fn fd(&self) -> OwnedFd {
        std::fs::File::open(&self.path).unwrap().into()
    }

    /// A netlink socket in the namespace, as a pod's monitor would pass it.
    pub(crate) fn netlink(&self) -> PodSocket {
        let fd = self.run(|| super::netlink::Socket::open(Protocol::Route).unwrap().into_fd());
        PodSocket::new(fd).unwrap()
    }

    /// Runs a command in the namespace and returns what it printed; it must succeed.
    pub(crate) fn command(&self, line: &str) -> String {
        let line = line.to_owned();
        self.run(move || {
            let mut words = line.split_whitespace();
            let output =
                Command::new(words.next().unwrap()).args(words).output().expect("run a command");
            assert!(output.status.success(), "{line}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.command(&format!("ip {arguments}"))
    }

    /// Joins two namespaces by a cable: `name` here with `address`, `peer` there.
    pub(crate) fn cable(&self, other: &Self, name: &str, addresses: [&str; 2]) {
        let tid = other.run(nix::unistd::gettid);
        self.ip(&format!("link add {name} type veth peer name {name} netns {tid}"));
        for (netns, address) in [(self, addresses[0]), (other, addresses[1])] {
            netns.ip(&format!("addr add {address} dev {name}"));
            netns.ip(&format!("link set {name} up"));
        }
        // Being asked makes the kernel finish what it put off (`Bridge::wake_up`).
        for netns in [self, other] {
            netns.ip(&format!("link show dev {name}"));
        }
    }

    /// The names of the interfaces.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        let links = self.ip("-o link");
        links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect()
    }
}
