//! Running CRIU for a container, as a child of the monitor.
//!
//! The child inherits the pod's network, IPC and UTS namespaces, enters the container's cgroup
//! namespace, and executes CRIU among the host's mounts. So CRIU takes all of these for its own
//! and leaves them alone; what it dumps and restores of namespaces is the container's PID
//! namespace and its mounts.
//!
//! For a restore the container's first process waits, made as any other and not started. The child
//! copies each of its mounts into a stage that only it sees, for CRIU to bind from: what a restored
//! container sees is what the request says, whatever the checkpoint says. The child is in the
//! container's cgroup too, and what CRIU forks stays there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use super::failure::{About, Failure, Fault};
use super::plan::{CriuPlan, CriuTask, FIRST_STREAM, RestorePlan};
use super::procfs::Procfs;
use super::root::Root;
use super::session::close_all_but;
use super::{CgroupFds, Child, Fds, handshake, mounts, program};
use crate::sys;
use crate::sys::clone::{self, Forked};
use crate::sys::mount::{Change, Reach, mount_setattr};

/// What the child needs of the monitor and of the container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CriuSurroundings<'a> {
    pub(crate) proc: &'a Procfs,
    /// The container's first process.
    pub(crate) target: BorrowedFd<'a>,
    pub(crate) target_pid: i32,
    pub(crate) cgroup: &'a CgroupFds,
    /// The monitor's own score is lowered and must not be inherited.
    pub(crate) oom_score_adj: i32,
}

/// Forks the process that becomes CRIU. Until then it tells its failure through the handshake.
pub(crate) fn run(
    plan: &CriuPlan,
    fds: &Fds,
    around: CriuSurroundings<'_>,
) -> Result<Child, Fault> {
    if plan.args.is_empty() {
        return Err(Fault::invalid("no command"));
    }
    let (parent_end, child_end) = handshake::pair()?;
    let cgroup = match plan.task {
        // The container's own is frozen.
        CriuTask::Dump { .. } => None,
        CriuTask::Restore(_) => around.cgroup.unified.as_ref().map(AsFd::as_fd),
    };
    match clone::clone3(0, cgroup)? {
        Forked::Parent { pid, pidfd } => Ok(Child { pid, pidfd, handshake: parent_end }),
        Forked::Child => {
            drop(parent_end);
            let become_criu = || become_criu(plan, fds, around, child_end.as_fd());
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(become_criu));
            let fault = outcome.unwrap_or_else(|_| Err(Fault::internal("panic")));
            let Err(fault) = fault;
            let failure: Failure = fault.into_failure("run criu");
            let code = failure.exit_code();
            handshake::report_failure(child_end.as_fd(), failure);
            clone::exit_child(code)
        }
    }
}

fn become_criu(
    plan: &CriuPlan,
    fds: &Fds,
    around: CriuSurroundings<'_>,
    link: BorrowedFd<'_>,
) -> Result<std::convert::Infallible, Fault> {
    let restore = match &plan.task {
        CriuTask::Dump { .. } => None,
        CriuTask::Restore(restore) => Some(restore),
    };
    keep_what_is_needed(fds, around, link)?;
    sys::signal::reset()?;
    rustix::process::setsid().about("setsid")?;
    let score = around.oom_score_adj.to_string();
    // Raising is always allowed; where lowering is not, the monitor's was never lowered.
    let _ = around.proc.write("self/oom_score_adj", score.as_bytes());
    if restore.is_some() {
        for hierarchy in &around.cgroup.legacy {
            rustix::io::write(hierarchy, b"0").about("join the cgroup")?;
        }
    }
    let kind = ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(around.target, kind)
        .about("enter the cgroup namespace")?;
    let streams = open_streams(around, restore.map_or(&[], |restore| &restore.streams))?;
    let copies = match restore {
        Some(restore) => copy_mounts(around.target, restore).about("copy the mounts")?,
        None => Vec::new(),
    };
    let kind = Some(LinkNameSpaceType::Mount);
    rustix::thread::move_into_link_name_space(fds.get(plan.host_mounts)?, kind)
        .about("enter the host's mounts")?;
    sys::namespace::unshare(UnshareFlags::NEWNS)?;
    // What is mounted here must not travel back to the host.
    let private = Change { propagation: libc::MS_PRIVATE, ..Change::default() };
    mount_setattr(CWD, c"/", Reach::Recursive, private).about("make mounts private")?;
    if let Some(restore) = restore {
        lay_out(restore, copies).about("lay out the mounts")?;
    }
    let output = fds.get(plan.output)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(output)?;
    hand_over(&streams)?;
    Err(program::become_host_program(&plan.args, &plan.env))
}

fn keep_what_is_needed(
    fds: &Fds,
    around: CriuSurroundings<'_>,
    link: BorrowedFd<'_>,
) -> Result<(), Fault> {
    let mut keep = vec![0, 1, 2, link.as_raw_fd()];
    keep.extend([around.proc.as_fd().as_raw_fd(), around.target.as_raw_fd()]);
    keep.extend(around.cgroup.legacy.iter().map(AsRawFd::as_raw_fd));
    keep.extend(fds.raw());
    close_all_but(keep)
}

/// The pipes of the process that waits. Opened again: it has written nothing and reads nothing.
fn open_streams(around: CriuSurroundings<'_>, streams: &[i32]) -> Result<Vec<OwnedFd>, Fault> {
    let open = |stream: &i32| {
        let path = format!("{}/fd/{stream}", around.target_pid);
        let flags = if *stream == 0 { OFlags::RDONLY } else { OFlags::WRONLY };
        let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let stream =
            rustix::fs::openat(around.proc.as_fd(), &path, flags, Mode::empty()).about(&path)?;
        let flags = rustix::fs::fcntl_getfl(&stream)?.difference(OFlags::NONBLOCK);
        rustix::fs::fcntl_setfl(&stream, flags)?;
        Ok(stream)
    };
    streams.iter().map(open).collect()
}

/// In the container's mount namespace: only from there can its mounts be copied.
fn copy_mounts(
    target: BorrowedFd<'_>,
    restore: &RestorePlan,
) -> Result<Vec<(OwnedFd, FileType)>, Fault> {
    rustix::thread::move_into_thread_name_spaces(target, ThreadNameSpaceType::MOUNT)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let copy = |path: &serde_bytes::ByteBuf| {
        let place = Root::new(root.as_fd()).find(path).about_path(path)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
        Ok((mounts::clone_tree(place.as_fd(), "").about_path(path)?, kind))
    };
    restore.mounts.iter().map(copy).collect()
}

fn lay_out(restore: &RestorePlan, copies: Vec<(OwnedFd, FileType)>) -> Result<(), Fault> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let stage = mounts::make("tmpfs", &[("mode", Some("700"))], attributes)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place =
        rustix::fs::open(&restore.stage[..], flags, Mode::empty()).about_path(&restore.stage)?;
    mounts::attach(stage.as_fd(), place.as_fd())?;
    for (number, (copy, kind)) in copies.into_iter().enumerate() {
        let name = number.to_string();
        let mode = Mode::from_raw_mode(0o700);
        if kind == FileType::Directory {
            rustix::fs::mkdirat(&stage, &name, mode)?;
        } else {
            rustix::fs::mknodat(&stage, &name, FileType::RegularFile, mode, 0)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&copy, "", &stage, &name, flags).about(&name)?;
    }
    Ok(())
}

/// Gives the streams the numbers that CRIU was told, to be kept over `execve`.
fn hand_over(streams: &[OwnedFd]) -> Result<(), Fault> {
    for (number, stream) in (FIRST_STREAM..).zip(streams) {
        let given = rustix::io::fcntl_dupfd_cloexec(stream, number)?;
        rustix::io::fcntl_setfd(&given, rustix::io::FdFlags::empty())?;
        if given.as_raw_fd() != number {
            return Err(Fault::from(Errno::BUSY).about(format!("descriptor {number}")));
        }
        std::mem::forget(given);
    }
    Ok(())
}
