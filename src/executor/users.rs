//! The pod's user namespace: made once, entered by every process of the pod's containers.
//!
//! The monitor stays outside with the host's privileges, which it needs for cgroups, logs, signals
//! and descriptors; so does its mount namespace. What the user namespace must own is made by
//! processes inside:
//!
//! ```text
//! monitor ─clone3─▶ founder  NEWUSER, NEWNET, NEWIPC, NEWUTS (NEWPID); becomes root inside,
//!    │ ◀─ setns ────┘        writes the sysctls, and ends or stays as the pod's PID 1
//!    │
//!    └─clone3─▶ child        NEWNS; still the host's root: cgroup, OOM score, stage.rs
//!                 │          setns to the user namespace, becomes root inside
//!                 └─clone3─▶ init  NEWNS, NEWCGROUP (NEWPID); a sibling of the child, which ends
//! ```
//!
//! An exec enters all of the container's namespaces at once. In a copy of a mount namespace that
//! another user namespace owns the kernel locks every mount: what the host gave read-only stays so
//! for every capability inside.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags};
use rustix::process::{Gid, Uid, WaitId, WaitIdOptions};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use super::failure::{About, Fault};
use super::handshake;
use super::plan::{ContainerPid, IdMapping, Namespace, PodPid, PodPlan, User, UserNamespace};
use super::pod::{self, PodInit};
use super::procfs::{Procfs, read_all};
use super::steps::Init;
use crate::sys::clone::{self, Forked, clone3, exit_child};
use crate::sys::process::pidfd_send_signal;

/// A user namespace of the pod's own, and how it counts.
#[derive(Debug)]
pub(crate) struct PodUsers {
    pub(crate) namespace: OwnedFd,
    pub(crate) map: UserNamespace,
    /// With the host's network the kernel refuses a sysfs of its own.
    pub(super) owns_network: bool,
    /// The namespace outside, which no process of the pod may be found in.
    outside: Identity,
}

/// Device and inode of a namespace, by which it is told from others.
type Identity = (u64, u64);

/// Makes the namespaces that the plan wants new, owned by a new user namespace, and moves the
/// calling process into all but that one.
pub(super) fn found(
    plan: &PodPlan,
    map: &UserNamespace,
    proc: &Procfs,
) -> Result<(PodUsers, Option<PodInit>), Fault> {
    let mut flags = clone::flag(libc::CLONE_NEWUSER);
    let mut ours = ThreadNameSpaceType::empty();
    for (namespace, flag, kind) in [
        (plan.network, libc::CLONE_NEWNET, ThreadNameSpaceType::NETWORK),
        (plan.ipc, libc::CLONE_NEWIPC, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        (plan.uts, libc::CLONE_NEWUTS, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ] {
        if namespace == Namespace::New {
            flags |= clone::flag(flag);
            ours |= kind;
        }
    }
    if plan.pid == PodPid::Shared {
        flags |= clone::flag(libc::CLONE_NEWPID);
    }
    let (link, theirs) = handshake::pair()?;
    let Forked::Parent { pid, pidfd } = clone3(flags, None).about("clone3")? else {
        drop(link);
        be_founder(plan, proc, &theirs)
    };
    drop(theirs);
    let follow = || -> Result<OwnedFd, Fault> {
        let namespace = map_ids(proc, pid.as_raw_pid(), map)?;
        if !ours.is_empty() {
            rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), ours).about("setns")?;
        }
        handshake::send_start(link.as_fd())?;
        handshake::wait_ready(link.as_fd())?;
        Ok(namespace)
    };
    let namespace = follow();
    if namespace.is_err() || plan.pid != PodPid::Shared {
        end(&pidfd);
    }
    let users = PodUsers {
        namespace: namespace?,
        map: map.clone(),
        owns_network: plan.network != Namespace::Host,
        outside: identity(proc, "self/ns/user")?,
    };
    let init = (plan.pid == PodPid::Shared).then_some(PodInit { pid, pidfd });
    Ok((users, init))
}

/// The life of the process that founds the namespaces: settings of namespaces that the user
/// namespace owns can be written by its root alone.
fn be_founder(plan: &PodPlan, proc: &Procfs, link: &OwnedFd) -> ! {
    let work = std::panic::AssertUnwindSafe(|| {
        handshake::wait_for_start(link.as_fd())?;
        become_root()?;
        pod::set_sysctls(plan, proc)?;
        handshake::report_ready(link.as_fd(), Vec::new(), None)
    });
    let outcome = std::panic::catch_unwind(work).unwrap_or_else(|_| Err(Fault::internal("panic")));
    if let Err(fault) = outcome {
        handshake::report_failure(link.as_fd(), fault.into_failure("found the namespaces"));
        exit_child(1);
    }
    if plan.pid == PodPid::Shared {
        pod::be_init();
    }
    exit_child(0)
}

/// A user namespace with nobody in it, for mounts that are mapped in a way of their own.
pub(crate) fn make_namespace(map: &UserNamespace, proc: &Procfs) -> Result<OwnedFd, Fault> {
    let (link, theirs) = handshake::pair()?;
    match clone3(clone::flag(libc::CLONE_NEWUSER), None).about("clone3")? {
        Forked::Child => {
            drop(link);
            // The end of the other side is all it waits for.
            let _ = handshake::wait_for_start(theirs.as_fd());
            exit_child(0)
        }
        Forked::Parent { pid, pidfd } => {
            let namespace = map_ids(proc, pid.as_raw_pid(), map);
            drop(link);
            end(&pidfd);
            namespace
        }
    }
}

fn map_ids(proc: &Procfs, pid: i32, map: &UserNamespace) -> Result<OwnedFd, Fault> {
    proc.write(&format!("{pid}/uid_map"), text(&map.uids).as_bytes())?;
    proc.write(&format!("{pid}/gid_map"), text(&map.gids).as_bytes())?;
    proc.open_link(&format!("{pid}/ns/user")).about("open the user namespace")
}

fn text(mappings: &[IdMapping]) -> String {
    mappings
        .iter()
        .map(|IdMapping { container, host, length }| format!("{container} {host} {length}\n"))
        .collect()
}

/// Kills a child and waits for it.
fn end(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    });
}

impl PodUsers {
    /// User and group as the host counts them.
    pub(super) fn on_host(&self, user: &User) -> Result<(u32, u32), Fault> {
        let &User { uid, gid, .. } = user;
        self.map.on_host(uid, gid).ok_or_else(|| {
            Fault::invalid(format!("{uid}:{gid} is not mapped in the pod's user namespace"))
        })
    }
}

/// From here on the process has power over what the user namespace owns, and over nothing else.
pub(super) fn enter(init: &mut Init<'_>) -> Result<(), Fault> {
    match init.target {
        // All at once, so that there is no state between the two worlds.
        Some(target) => {
            let kinds = ThreadNameSpaceType::USER
                | ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::CONTROL_GROUP;
            rustix::thread::move_into_thread_name_spaces(target, kinds)?;
        }
        None => {
            let kind = Some(LinkNameSpaceType::User);
            rustix::thread::move_into_link_name_space(init.users()?.namespace.as_fd(), kind)?;
        }
    }
    become_root()
}

/// The host's root has no name inside: what it made would belong to nobody there.
fn become_root() -> Result<(), Fault> {
    rustix::thread::set_thread_groups(&[]).about("setgroups")?;
    let gid = Gid::ROOT;
    rustix::thread::set_thread_res_gid(gid, gid, gid).about("setresgid")?;
    let uid = Uid::ROOT;
    rustix::thread::set_thread_res_uid(uid, uid, uid).about("setresuid")
}

/// Namespaces belong to the user namespace that their maker is in, so one more fork is needed. The
/// steps go on in the new process; this one tells the monitor whom it has to deal with, and ends.
pub(super) fn fork_inside(init: &mut Init<'_>) -> Result<(), Fault> {
    let plan = init.container()?.plan;
    let mut flags = clone::flag(libc::CLONE_NEWNS);
    if plan.cgroup_namespace {
        flags |= clone::flag(libc::CLONE_NEWCGROUP);
    }
    if plan.pid == ContainerPid::Own {
        flags |= clone::flag(libc::CLONE_NEWPID);
    }
    match clone::clone3_sibling(flags)? {
        Forked::Parent { pid: _, pidfd } => {
            handshake::report_forked(init.link()?, &pidfd)?;
            exit_child(0)
        }
        Forked::Child => {
            // It inherited the session of its maker.
            rustix::process::setsid().about("setsid")?;
            Ok(())
        }
    }
}

/// Reads back that the process is where it should be and that numbers mean what they should.
pub(super) fn verify(init: &mut Init<'_>) -> Result<(), Fault> {
    let users = init.users()?;
    let proc = init.around.proc;
    let own = identity(proc, "self/ns/user")?;
    let stat = rustix::fs::fstat(&users.namespace)?;
    if own != (stat.st_dev, stat.st_ino) || own == users.outside {
        return Err(Fault::internal("the process is not in the pod's user namespace"));
    }
    for (name, wanted) in [("self/uid_map", &users.map.uids), ("self/gid_map", &users.map.gids)] {
        let mut actual = Vec::new();
        read_all(proc.open(name, OFlags::RDONLY).about(name)?.as_fd(), &mut actual).about(name)?;
        let actual = String::from_utf8_lossy(&actual);
        if !is_map(&actual, wanted) {
            return Err(Fault::internal(format!("{name} is {actual:?}")));
        }
    }
    Ok(())
}

/// The kernel pads its columns.
fn is_map(actual: &str, wanted: &[IdMapping]) -> bool {
    let words = |text: &str| {
        text.lines()
            .map(|line| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    words(actual) == words(&text(wanted))
}

fn identity(proc: &Procfs, link: &str) -> Result<Identity, Fault> {
    let stat = rustix::fs::statat(proc.as_fd(), link, AtFlags::empty()).about(link)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: [IdMapping; 2] = [
        IdMapping { container: 0, host: 1000, length: 10 },
        IdMapping { container: 10, host: 5000, length: 5 },
    ];

    #[test]
    fn a_map_is_known_by_its_numbers() {
        assert!(is_map(
            "         0       1000         10\n        10       5000          5\n",
            &MAP
        ));
        assert!(!is_map("         0       1000         10\n", &MAP));
        assert!(!is_map("         0          0 4294967295\n", &MAP));
    }
}
