//! The process itself: its session, its descriptors, its streams, and whom it dies with.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::ThreadNameSpaceType;

use super::failure::{About, Fault};
use super::handshake;
use super::steps::Init;
use crate::sys;

/// Closes what belongs to the monitor: other containers' logs and streams, clients, the loop.
pub(super) fn close_inherited(init: &mut Init<'_>) -> Result<(), Fault> {
    let around = init.around;
    // 0 to 2 are the monitor's /dev/null and stderr; kept, so that nothing opened meanwhile gets a
    // number that the streams will take.
    let mut keep = vec![0, 1, 2, around.proc.as_fd().as_raw_fd(), init.link()?.as_raw_fd()];
    keep.extend(around.cgroup.legacy.iter().map(AsRawFd::as_raw_fd));
    keep.extend(init.target.map(|target| target.as_raw_fd()));
    keep.extend(around.users.map(|users| users.namespace.as_raw_fd()));
    if let Some(stdio) = around.stdio {
        keep.extend([&stdio.stdin, &stdio.stdout, &stdio.stderr].map(AsRawFd::as_raw_fd));
    }
    if let Some(container) = init.container {
        keep.extend(container.fds.raw());
    }
    close_all_but(keep)
}

/// Keeps the standard streams, the way to the monitor, and the proof of the confinement.
pub(super) fn close_all_but_link(init: &mut Init<'_>) -> Result<(), Fault> {
    let mut keep = vec![0, 1, 2, init.link()?.as_raw_fd()];
    keep.extend(init.master.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend(init.status.as_ref().map(AsRawFd::as_raw_fd));
    close_all_but(keep)
}

pub(super) fn close_all_but(mut keep: Vec<i32>) -> Result<(), Fault> {
    keep.sort_unstable();
    let mut first = 0_u32;
    for fd in keep {
        let fd = fd.unsigned_abs();
        if fd > first {
            sys::process::close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    Ok(sys::process::close_range(first, u32::MAX)?)
}

pub(super) fn start(_: &mut Init<'_>) -> Result<(), Fault> {
    // The monitor ignores some signals, and what is ignored stays so over execve.
    sys::signal::reset()?;
    rustix::process::setsid().about("setsid")?;
    // Nodes and directories below get exactly the mode that is asked for.
    rustix::process::umask(Mode::empty());
    Ok(())
}

/// Enters what the container does not share with the monitor anyway. All at once, so that there is
/// no state between the two worlds.
pub(super) fn join_namespaces(init: &mut Init<'_>) -> Result<(), Fault> {
    let Some(target) = init.target else { return Ok(()) };
    let kinds = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::CONTROL_GROUP;
    Ok(rustix::thread::move_into_thread_name_spaces(target, kinds)?)
}

pub(super) fn connect_streams(init: &mut Init<'_>) -> Result<(), Fault> {
    let Some(stdio) = init.around.stdio else { return Ok(()) };
    match own_null(&stdio.stdin) {
        Some(null) => rustix::stdio::dup2_stdin(&null).about("stdin")?,
        None => rustix::stdio::dup2_stdin(&stdio.stdin).about("stdin")?,
    }
    rustix::stdio::dup2_stdout(&stdio.stdout).about("stdout")?;
    rustix::stdio::dup2_stderr(&stdio.stderr).about("stderr")
}

/// The container's own null device in place of the monitor's: what a process has open of another
/// mount namespace cannot be checkpointed. `None` when `stdin` leads somewhere, or when what the
/// image has at that place is something else.
fn own_null(stdin: &OwnedFd) -> Option<OwnedFd> {
    let is_null = |stat: &rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3)
    };
    if !is_null(&rustix::fs::fstat(stdin).ok()?) {
        return None;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()).ok()?;
    // Looked at before it is opened: opening a device can have effects.
    if !is_null(&rustix::fs::fstat(&found).ok()?) {
        return None;
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()).ok()
}

/// A program that is not the host's root opens `/dev/stdout` again by name, which needs it to own
/// the pipe. Devices such as `/dev/null` are shared and stay as they are.
pub(super) fn give_streams(init: &mut Init<'_>) -> Result<(), Fault> {
    let Some(stdio) = init.around.stdio else { return Ok(()) };
    let user = &init.process.user;
    let (uid, gid) = match init.around.users {
        Some(users) => users.on_host(user)?,
        None if user.uid == 0 => return Ok(()),
        None => (user.uid, user.gid),
    };
    for stream in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        let mode = rustix::fs::fstat(stream)?.st_mode;
        if FileType::from_raw_mode(mode) == FileType::Fifo {
            rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
    }
    Ok(())
}

/// When the monitor is killed nobody could reap, log or stop this process.
pub(super) fn die_with_monitor(init: &mut Init<'_>) -> Result<(), Fault> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if init.container.is_none() {
        // What an exec leaves behind when its intermediate processes are gone stays its own, so
        // that a timeout can find and kill all of it. It lasts only as long as the exec lives.
        sys::process::become_subreaper()?;
    }
    // It may have died before the line above.
    if handshake::is_orphaned(init.link()?.as_fd()) {
        return Err(Fault::from(Errno::CHILD).about("the monitor is gone"));
    }
    Ok(())
}
