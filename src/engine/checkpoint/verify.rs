//! The proof that what was restored is what a container of this request may be.
//!
//! CRIU believes its images, and a checkpoint may come from anywhere. So every restored process,
//! still stopped, is compared with the request and with the process that waited in its place:
//! mounts, namespaces, capabilities, and the locks on privileges. Credentials need not be equal, a
//! program may have dropped some; they must not be more.

use std::path::PathBuf;

use super::mountinfo::{self, Mounts};
use crate::engine::Shared;
use crate::engine::container::Container;
use crate::engine::container::exec::template;
use crate::error::{Context, Error, Result};
use crate::executor::plan::Process;

/// Those that are the pod's or made by us. A PID namespace is the restored container's own.
const NAMESPACES: [&str; 5] = ["net", "ipc", "uts", "cgroup", "user"];

/// What a container made from the request has.
pub(super) struct Expected {
    /// Being killed when the others are looked at.
    waiting: i32,
    mounts: Mounts,
    namespaces: Vec<PathBuf>,
    process: Process,
}

impl Expected {
    /// As the first process has it, which waits for the start.
    pub(super) fn of(shared: &Shared, container: &Container, waiting: i32) -> Result<Self> {
        Ok(Self {
            waiting,
            mounts: mountinfo::of_process(waiting)?,
            namespaces: namespaces(waiting)?,
            process: template(shared, container)?,
        })
    }

    pub(super) fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// # Errors
    /// `InvalidArgument`, naming the first thing that is not as it must be.
    pub(super) fn check(&self, shared: &Shared, container: &Container, first: i32) -> Result<()> {
        let own = [namespace(first, "mnt")?, namespace(first, "pid")?];
        let mounts = mountinfo::of_process(first)?;
        if let Some(other) = mounts.difference(&self.mounts) {
            return Err(refused(&format!("its mount {other:?} is not one of the request's")));
        }
        if mounts.len() != self.mounts.len() {
            return Err(refused("a mount of the request is missing"));
        }
        let processes = shared.cgroups.open(&container.record().cgroup)?.processes()?;
        let processes: Vec<i32> = processes.iter().map(|pid| pid.as_raw_pid()).collect();
        if !processes.contains(&first) {
            return Err(refused("its first process is not in the container's cgroup"));
        }
        for pid in processes.into_iter().filter(|pid| *pid != self.waiting) {
            if namespaces(pid)? != self.namespaces {
                return Err(refused("a process is in other namespaces"));
            }
            if [namespace(pid, "mnt")?, namespace(pid, "pid")?] != own {
                return Err(refused("a process has namespaces of its own"));
            }
            let path = format!("/proc/{pid}/status");
            let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            check_status(&status, &self.process)?;
            check_label(pid, &self.process)?;
        }
        Ok(())
    }
}

fn namespaces(pid: i32) -> Result<Vec<PathBuf>> {
    NAMESPACES.iter().map(|kind| namespace(pid, kind)).collect()
}

fn namespace(pid: i32, kind: &str) -> Result<PathBuf> {
    let path = format!("/proc/{pid}/ns/{kind}");
    std::fs::read_link(&path).with_context(|| format!("read {path}"))
}

fn check_status(status: &str, process: &Process) -> Result<()> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or_else(|| Error::internal(format!("the status has no {name}")))
    };
    let bound = process.capabilities.bounding;
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let mask = u64::from_str_radix(field(name)?, 16).context("read the capabilities")?;
        if mask & !bound != 0 {
            return Err(refused(&format!("a process has {name} {mask:016x}")));
        }
    }
    if process.no_new_privileges && field("NoNewPrivs")? != "1" {
        return Err(refused("a process lacks no_new_privs"));
    }
    if process.seccomp.is_some() && field("Seccomp")? != "2" {
        return Err(refused("a process lacks the seccomp filter"));
    }
    Ok(())
}

fn check_label(pid: i32, process: &Process) -> Result<()> {
    let Some(profile) = &process.apparmor else { return Ok(()) };
    let path = format!("/proc/{pid}/attr/apparmor/current");
    let label = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let name = label.trim().split(" (").next().unwrap_or_default();
    if name == profile { Ok(()) } else { Err(refused("a process lacks the AppArmor profile")) }
}

fn refused(why: &str) -> Error {
    Error::invalid(format!("the checkpoint does not fit the request: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::plan::{Capabilities, Seccomp, User};

    const STATUS: &str = "Name:\tx\nState:\tT (stopped)\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000400\nCapEff:\t0000000000000400\nCapBnd:\t0000000000000400\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    fn process() -> Process {
        Process {
            args: vec![],
            env: vec![],
            cwd: b"/".to_vec().into(),
            user: User { uid: 5, gid: 6, groups: vec![], umask: None },
            capabilities: Capabilities { bounding: 0xc00, ..Capabilities::default() },
            rlimits: vec![],
            no_new_privileges: true,
            seccomp: Some(Seccomp { filter: vec![].into(), flags: 0 }),
            apparmor: None,
            selinux: None,
            oom_score_adj: None,
            terminal: None,
        }
    }

    #[test]
    fn less_than_the_request_allows_passes_and_more_does_not() {
        check_status(STATUS, &process()).unwrap();
        for (from, to) in [
            ("CapPrm:\t0000000000000400", "CapPrm:\t0000000000200400"),
            ("CapBnd:\t0000000000000400", "CapBnd:\t000001ffffffffff"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
        ] {
            let status = STATUS.replace(from, to);
            assert_ne!(status, STATUS);
            assert!(check_status(&status, &process()).is_err(), "{to}");
        }
    }
}
