//! CPU time of an engine and of everything it starts, by a cgroup of our own.
//!
//! ```text
//!   cais-bench/PID/daemon   the engine; what it starts is born here
//!   cais-bench/PID/pods     the parent that pods are asked to have
//! ```
//! The counter of `cais-bench/PID` holds both, also after the pods' groups are gone. What the kernel does later in
//! its own threads (freeing a network namespace, writing back pages) counts for nobody.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::Engine;
use crate::{Doing, Result};

const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "cais-bench";

pub(crate) fn parent_of_pods(engine: &Engine) -> String {
    format!("/{OURS}/{}/pods", engine.pid)
}

pub(crate) struct Usage {
    group: PathBuf,
    version: Version,
    /// The daemon's own group, to which it returns.
    before: PathBuf,
    pid: u32,
}

#[derive(Clone, Copy)]
enum Version {
    V1,
    V2,
}

impl Usage {
    /// Moves the daemon into a group of ours, with what it has started. Only what it starts from now on is counted.
    pub(crate) fn follow(engine: &Engine) -> Result<Self> {
        let v1 = Path::new(ROOT).join("cpuacct");
        let (hierarchy, version) = match v1.join("cpuacct.usage").exists() {
            true => (v1, Version::V1),
            false => (PathBuf::from(ROOT), Version::V2),
        };
        let before = hierarchy.join(group_of(engine.pid, version)?.trim_start_matches('/'));
        let group = hierarchy.join(OURS).join(engine.pid.to_string());
        let usage = Self { group, version, before, pid: engine.pid };
        let daemon = usage.group.join("daemon");
        fs::create_dir_all(&daemon).doing(daemon.display())?;
        for process in family(engine.pid) {
            move_to(&daemon, process)?;
        }
        Ok(usage)
    }

    /// CPU seconds since the group was made.
    pub(crate) fn seconds(&self) -> Result<f64> {
        match self.version {
            Version::V1 => {
                let text = fs::read_to_string(self.group.join("cpuacct.usage"))?;
                Ok(text.trim().parse::<f64>()? / 1e9)
            }
            Version::V2 => {
                let text = fs::read_to_string(self.group.join("cpu.stat"))?;
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Ok(usage.ok_or("no usage_usec in cpu.stat")?.trim().parse::<f64>()? / 1e6)
            }
        }
    }

    /// Every process in the group and below it: the engine, its helpers, the workloads.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let mut todo = vec![self.group.clone()];
        while let Some(directory) = todo.pop() {
            let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(members.lines().filter_map(|line| line.parse::<u32>().ok()));
            todo.extend(children(&directory));
        }
        Ok(found)
    }
}

impl Drop for Usage {
    /// Returns the daemon, and removes our groups from every hierarchy: engines made some of them.
    fn drop(&mut self) {
        for process in family(self.pid) {
            let _ = move_to(&self.before, process);
        }
        let Some(name) = self.group.file_name() else { return };
        let mut roots = vec![PathBuf::from(ROOT)];
        roots.extend(children(Path::new(ROOT)));
        for root in roots {
            remove_tree(&root.join(OURS).join(name));
            let _ = fs::remove_dir(root.join(OURS));
        }
    }
}

/// A process and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let processes: Vec<(u32, u32)> = children(Path::new("/proc"))
        .iter()
        .filter_map(|it| {
            let pid = it.file_name()?.to_str()?.parse().ok()?;
            Some((pid, parent(pid)?))
        })
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&of) = found.get(at) {
        at += 1;
        found.extend(processes.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
    }
    found
}

/// proc_pid_stat(5): the second field after the name in parentheses, which may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn group_of(pid: u32, version: Version) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).doing(format!("process {pid}"))?;
    let group = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let wanted = match version {
            Version::V1 => controllers.split(',').any(|controller| controller == "cpuacct"),
            Version::V2 => controllers.is_empty(),
        };
        wanted.then(|| path.to_owned())
    });
    Ok(group.ok_or("no cgroup that counts CPU time")?)
}

#[expect(clippy::disallowed_methods, reason = "a kernel file, written in place")]
fn move_to(group: &Path, pid: u32) -> Result<()> {
    let file = group.join("cgroup.procs");
    fs::write(&file, pid.to_string()).doing(format!("move {pid} to {}", file.display()))
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

pub(crate) fn remove_tree(directory: &Path) {
    for child in children(directory) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(directory);
}
