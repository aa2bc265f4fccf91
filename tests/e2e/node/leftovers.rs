//! What a node may leave on its host: nothing.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, interval};

use super::Node;

/// Looks until there is nothing, for a while: the kernel takes some things down late.
pub(super) async fn of(node: &Node) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        let found = look(node);
        if found.is_empty() || Instant::now() > deadline {
            remove_parents(node);
            let _ = fs::remove_dir_all(&node.state);
            return found;
        }
    }
}

fn look(node: &Node) -> Vec<String> {
    let mut found: Vec<String> = holders_of(&sockets_below(&node.state))
        .into_iter()
        .map(|(pid, name)| format!("process {pid} {name}"))
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = [node.state.to_str().unwrap(), node.home.to_str().unwrap()];
    let mount_points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    found.extend(
        mount_points
            .filter(|point| ours.iter().any(|our| point.starts_with(our)))
            .map(|point| format!("mount {point}")),
    );
    for parent in cgroup_parents(node) {
        found.extend(subdirectories(&parent).map(|child| format!("cgroup {}", child.display())));
    }
    let bridge = Path::new("/sys/class/net").join(&node.bridge);
    if bridge.exists() {
        found.push(format!("bridge {}", node.bridge));
    }
    found.extend(
        subdirectories(&bridge.join("brif")).map(|port| format!("veth {}", port.display())),
    );
    found.extend(tables(node).into_iter().map(|table| format!("nft {table}")));
    let directories = ["pods", "containers", "making", "leases", "networks", "cni", "checkpoints"]
        .map(|name| node.state.join(name));
    let kept = [
        "containers",
        "checkpoints",
        "standalone",
        "volumes",
        "volume-records",
        "networks",
        "images/building",
    ];
    let kept = kept.map(|name| node.home.join("root").join(name));
    for directory in directories.into_iter().chain(kept) {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        // A record that a test damaged is kept for the operator.
        let ours = entries.map(|entry| entry.path()).filter(|path| !is_damaged(path));
        found.extend(ours.map(|path| format!("file {}", path.display())));
    }
    found
}

/// `table FAMILY NAME`, as nft lists those of the node.
pub(super) fn tables(node: &Node) -> Vec<String> {
    let tables = Command::new("nft").args(["list", "tables"]).output().expect("nft");
    let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
    let named = |table: &&str| table.split(' ').next_back() == Some(&node.bridge);
    tables.lines().filter(named).map(str::to_owned).collect()
}

/// Everything that listens for the node, and everything in its containers.
pub(super) fn processes(node: &Node) -> Vec<i32> {
    let listening =
        holders_of(&sockets_below(&node.state)).into_iter().map(|(pid, _)| pid.cast_signed());
    let mut all: Vec<i32> = listening.collect();
    for parent in cgroup_parents(node) {
        processes_in(&parent, &mut all);
    }
    all
}

fn processes_in(group: &Path, all: &mut Vec<i32>) {
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    all.extend(listed.lines().filter_map(|it| it.parse::<i32>().ok()).filter(|it| *it > 0));
    subdirectories(group).for_each(|it| processes_in(&it, all));
}

fn is_damaged(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "damaged")
}

pub(super) fn cgroup_parents(node: &Node) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = subdirectories(root).chain([root.to_owned()]);
    hierarchies
        .map(|hierarchy| hierarchy.join(&node.name))
        .filter(|parent| parent.exists())
        .collect()
}

/// The parent itself is like `/cais` on a real node: it may stay. Not after a test.
fn remove_parents(node: &Node) {
    for parent in cgroup_parents(node) {
        let _ = fs::remove_dir(parent);
    }
}

pub(super) fn subdirectories(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.path())
}

/// Inodes of the Unix sockets bound below a directory. They are listed here even when their process moved into another
/// network namespace, as monitors do.
fn sockets_below(directory: &Path) -> HashSet<String> {
    let prefix = format!("{}/", directory.display());
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(6);
            let (inode, path) = (fields.next()?, fields.next()?);
            path.starts_with(&prefix).then(|| format!("socket:[{inode}]"))
        })
        .collect()
}

/// Process numbers and names of those that hold one of the sockets.
fn holders_of(sockets: &HashSet<String>) -> Vec<(u32, String)> {
    if sockets.is_empty() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != std::process::id() && holds(pid, sockets))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim_end().to_owned())
        })
        .collect()
}

fn holds(pid: u32, sockets: &HashSet<String>) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
}

/// The monitors that listen below a directory.
pub(crate) fn monitors_below(directory: &Path) -> Vec<u32> {
    let held = holders_of(&sockets_below(directory));
    held.into_iter().filter(|(_, name)| name == "cais-monitor").map(|(pid, _)| pid).collect()
}
