//! The kernel work: namespaces, mounts, confinement, `execve`. Synchronous, no tokio.
//!
//! Called by the monitor, a process of one thread. [`pod`] puts the monitor itself into the pod's
//! namespaces; [`create`] and [`exec`] fork a child that runs the steps of [`steps`] and becomes
//! the user's program. A child works on its own copy of the monitor's memory; what it needs from
//! outside it has as descriptors, and all it says goes through [`handshake`].
//!
//! | file | owns |
//! |---|---|
//! | `plan` | what is asked for |
//! | `pod` | the pod's namespaces, its private root, `/dev/shm`, sysctls, a shared PID 1 |
//! | `steps` | the order of everything between fork and `execve` |
//! | `users`, `stage` | the pod's user namespace, and what a container inside gets of the host |
//! | `handshake` | what parent and child say to each other |
//! | `criu` | dumping and restoring, by a program of the host's |
//! | `root`, `procfs` | paths under a root descriptor, and a proc of our own |
//! | the rest | one concern each, named as its step |

mod capabilities;
mod cgroup_view;
mod cgroups;
pub(crate) mod criu;
mod devices;
pub(crate) mod failure;
pub(crate) mod handshake;
mod hide;
mod limits;
mod lsm;
mod mounts;
pub(crate) mod plan;
pub(crate) mod pod;
pub(crate) mod procfs;
mod program;
mod root;
mod rootfs;
mod seccomp;
mod session;
mod stage;
mod steps;
mod terminal;
mod user;
pub(crate) mod users;
mod validate;
mod verify;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::ThreadNameSpaceType;

use crate::sys::clone::{self, Forked};
use failure::Fault;
use plan::{ContainerPid, ContainerPlan, Fd, Process, TerminalSize};
use procfs::Procfs;
use steps::Init;
use users::PodUsers;

/// The descriptors that came with a plan.
#[derive(Debug, Default)]
pub(crate) struct Fds(Vec<OwnedFd>);

impl Fds {
    pub(crate) fn new(fds: Vec<OwnedFd>) -> Self {
        Self(fds)
    }

    pub(crate) fn get(&self, index: Fd) -> Result<BorrowedFd<'_>, Fault> {
        usize::try_from(index.0)
            .ok()
            .and_then(|index| self.0.get(index))
            .map(AsFd::as_fd)
            .ok_or_else(|| Fault::invalid(format!("descriptor {} did not come along", index.0)))
    }

    /// A second owner of the same open file, for what outlives the message.
    pub(crate) fn duplicate(&self, index: Fd) -> Result<OwnedFd, Fault> {
        Ok(self.get(index)?.try_clone_to_owned().map_err(|_| Errno::MFILE)?)
    }

    fn raw(&self) -> impl Iterator<Item = i32> {
        self.0.iter().map(AsRawFd::as_raw_fd)
    }
}

/// The ends of the standard streams that the child gets; with a terminal it makes its own.
#[derive(Debug)]
pub(crate) struct ChildStdio {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// The cgroup a process is to be born in, as open descriptors.
#[derive(Debug, Default)]
pub(crate) struct CgroupFds {
    pub(crate) unified: Option<OwnedFd>,
    pub(crate) legacy: Vec<OwnedFd>,
}

/// What every child of a monitor gets from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) proc: &'a Procfs,
    pub(crate) cgroup: &'a CgroupFds,
    /// `None` with a terminal.
    pub(crate) stdio: Option<&'a ChildStdio>,
    /// For a process whose plan names none: the monitor's own is lowered and must not be inherited.
    pub(crate) oom_score_adj: i32,
    /// The pod's user namespace, when it has one of its own.
    pub(crate) users: Option<&'a PodUsers>,
    /// A process whose PID namespace is entered.
    pub(crate) pid_of: Option<BorrowedFd<'a>>,
}

/// A forked child on its way to the user's program.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) handshake: OwnedFd,
}

/// Forks the first process of a container. It reports when it waits for the start.
pub(crate) fn create(
    plan: &ContainerPlan,
    fds: &Fds,
    around: Surroundings<'_>,
) -> Result<Child, Fault> {
    validate::container(plan, fds)?;
    let mut flags = clone::flag(libc::CLONE_NEWNS);
    // With users of its own a process inside makes it, for them to own it.
    if plan.pid == ContainerPid::Own && around.users.is_none() {
        flags |= clone::flag(libc::CLONE_NEWPID);
    }
    fork(flags, around, Init::of_container(plan, fds, around))
}

/// Forks a process into a running container, whose first process `target` is.
pub(crate) fn exec(
    process: &Process,
    target: BorrowedFd<'_>,
    around: Surroundings<'_>,
) -> Result<Child, Fault> {
    validate::process(process)?;
    fork(0, around, Init::of_exec(process, target, around))
}

/// Tells a terminal how many rows and columns its viewer has.
pub(crate) fn resize(terminal: impl AsFd, size: TerminalSize) -> Result<(), Errno> {
    terminal::resize(terminal.as_fd(), size)
}

fn fork(flags: u64, around: Surroundings<'_>, mut init: Init<'_>) -> Result<Child, Fault> {
    let (parent_end, child_end) = handshake::pair()?;
    // Only children of a caller are put into a PID namespace by setns, not the caller itself:
    // enter, fork, and return to our own.
    let own_pid_namespace = match around.pid_of {
        Some(target) => {
            let own = around.proc.open_link("self/ns/pid")?;
            let kind = ThreadNameSpaceType::PROCESS_ID;
            rustix::thread::move_into_thread_name_spaces(target, kind)?;
            Some(own)
        }
        None => None,
    };
    let forked = clone::clone3(flags, around.cgroup.unified.as_ref().map(AsFd::as_fd));
    match forked {
        Ok(Forked::Child) => {
            drop(parent_end);
            init.link = Some(child_end);
            run_child(&mut init)
        }
        Ok(Forked::Parent { pid, pidfd }) => {
            return_to(own_pid_namespace.as_ref())?;
            Ok(Child { pid, pidfd, handshake: parent_end })
        }
        Err(errno) => {
            return_to(own_pid_namespace.as_ref())?;
            Err(Fault::from(errno).about("clone3"))
        }
    }
}

fn return_to(own: Option<&OwnedFd>) -> Result<(), Fault> {
    let Some(own) = own else { return Ok(()) };
    let kind = Some(rustix::thread::LinkNameSpaceType::ProcessID);
    Ok(rustix::thread::move_into_link_name_space(own.as_fd(), kind)?)
}

/// The child's whole life in this program. A panic must not unwind into the monitor's loop, which
/// this process is a copy of.
fn run_child(init: &mut Init<'_>) -> ! {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| steps::run(init)));
    let failure = match outcome {
        Ok(Ok(())) => clone::exit_child(0),
        Ok(Err(failure)) => failure,
        Err(_) => Fault::internal("panic").into_failure("run the steps"),
    };
    let code = failure.exit_code();
    if let Some(link) = &init.link {
        handshake::report_failure(link.as_fd(), failure);
    }
    clone::exit_child(code)
}
