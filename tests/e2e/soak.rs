//! What is done many times leaves nothing behind, already while the daemon runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::future::join_all;

use crate::node::{BUSYBOX, Container, Node, monitors_below};
use crate::scale::times;
use crate::wait::until;

/// What a process has taken from the machine.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    descriptors: usize,
    threads: usize,
    /// KiB of memory that is its own.
    private: u64,
}

impl Footprint {
    fn of(process: u32) -> Self {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{process}/{what}")).into_iter().flatten().count()
        };
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        Self { descriptors: count("fd"), threads: count("task"), private: field("RssAnon") }
    }
}

/// Waits until descriptors and threads are no more than before, and says how memory has grown (KiB).
async fn growth(what: &str, process: u32, before: Footprint) -> i64 {
    until(&format!("the descriptors and threads of {what} to be as before"), async || {
        let now = Footprint::of(process);
        now.descriptors <= before.descriptors && now.threads <= before.threads
    })
    .await;
    let now = Footprint::of(process);
    i64::try_from(now.private).unwrap() - i64::try_from(before.private).unwrap()
}

/// Children of a process, the dead among them that nobody has asked for.
fn children(process: u32) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let parent = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok();
    stats.filter(|stat| parent(stat) == Some(process)).count()
}

async fn execs(container: &Container<'_>, count: usize) {
    let lanes = (0..4).map(|_| async {
        for _ in 0..count / 4 {
            let done = container.exec(&["/bin/true"]).await;
            assert_eq!(done.exit_code, 0);
        }
    });
    join_all(lanes).await;
}

#[tokio::test]
async fn commands_leave_memory_descriptors_and_processes_as_they_were() {
    let node = Node::boot().await;
    let pod = node.pod("execs").run().await;
    let container = pod.container("main").command(["sleep", "1000000"]).start().await;
    let (daemon, monitor) = (node.daemon(), monitors_below(&node.state)[0]);
    execs(&container, times(400, 4000)).await;
    let before = [daemon, monitor].map(Footprint::of);
    let children_before = [daemon, monitor].map(children);
    let files_before = files_below(&node.state);

    let count = times(800, 100_000);
    execs(&container, count).await;

    let of_daemon = growth("the daemon", daemon, before[0]).await;
    let of_monitor = growth("the monitor", monitor, before[1]).await;
    eprintln!(
        "{count} execs: the daemon's memory grew by {of_daemon} KiB, the monitor's by {of_monitor} KiB"
    );
    assert!(of_daemon < 4096, "the daemon's memory grew by {of_daemon} KiB");
    assert!(of_monitor < 256, "the monitor's memory grew by {of_monitor} KiB");
    until("the children to be as before", async || {
        [daemon, monitor].map(children) == children_before
    })
    .await;
    assert_eq!(files_below(&node.state), files_before);
}

/// Everything that a pod may leave on its node.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    files: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
    mounts: Vec<String>,
    rules: String,
    ports: usize,
    children: usize,
}

impl Traces {
    fn of(node: &Node) -> Self {
        let mut files = files_below(&node.state);
        files.extend(files_below(&node.home.join("root")));
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = [node.state.to_str().unwrap(), node.home.to_str().unwrap()];
        let mounts = mounts.lines().filter(|line| ours.iter().any(|our| line.contains(our)));
        let ports = fs::read_dir(format!("/sys/class/net/{}/brif", node.bridge));
        Self {
            files,
            cgroups: roots.flat_map(|root| directories_below(&root.join(&node.name))).collect(),
            mounts: mounts.map(str::to_owned).collect(),
            rules: rules(&node.bridge),
            ports: ports.into_iter().flatten().count(),
            children: children(node.daemon()),
        }
    }
}

/// The tables of a bridge with all that is in them.
fn rules(bridge: &str) -> String {
    let nft = |words: &str| {
        let done = Command::new("nft").args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let tables = nft("list tables");
    let ours = tables.lines().filter(|table| table.split(' ').next_back() == Some(bridge));
    let rules: String = ours.map(|table| nft(&format!("list {table}"))).collect();
    assert!(!rules.is_empty(), "no table named {bridge} in {tables}");
    rules
}

fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    walk(directory, &|_| true)
}

fn directories_below(directory: &Path) -> BTreeSet<PathBuf> {
    walk(directory, &Path::is_dir)
}

fn walk(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(walk(&path, wanted));
        }
        if wanted(&path) {
            found.insert(path);
        }
    }
    found
}

async fn cycle(node: &Node, lane: usize) {
    let pod = node.pod(&format!("cycle-{lane}"));
    let port = 31_400 + u16::try_from(lane).unwrap();
    let pod = pod.publish(cais_proto::runtime::v1::Protocol::Tcp, port, 80).run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    container.stop(0).await;
    container.remove().await;
    pod.remove().await;
}

async fn cycles(node: &Node, count: usize) {
    let lanes = (0..4).map(|lane| async move {
        for _ in 0..count / 4 {
            cycle(node, lane).await;
        }
    });
    join_all(lanes).await;
}

#[tokio::test]
async fn pods_leave_nothing_behind() {
    let node = Node::boot().await;
    node.pull(BUSYBOX).await;
    cycles(&node, times(16, 400)).await;
    assert_eq!(monitors_below(&node.state), Vec::<u32>::new());
    // The interface and the address of a pod go a moment after the call that removed it.
    until("the first pods to be gone", async || {
        files_below(&node.state.join("leases")).is_empty() && Traces::of(&node).ports == 0
    })
    .await;
    let (traces, daemon) = (Traces::of(&node), Footprint::of(node.daemon()));

    let count = times(60, 5000);
    cycles(&node, count).await;

    let grown = growth("the daemon", node.daemon(), daemon).await;
    eprintln!("{count} pods: the daemon's memory grew by {grown} KiB");
    until("nothing to be left of the pods", async || Traces::of(&node) == traces).await;
    assert!(grown < 8192, "the daemon's memory grew by {grown} KiB");
    assert_eq!(monitors_below(&node.state), Vec::<u32>::new());
}
