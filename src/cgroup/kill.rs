//! Who is in a group, and the end of them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::controller::Controller;
use super::hierarchy::Hierarchy;
use super::{Cgroup, file};
use crate::error::{Context, Error, Kind, Result};

impl Cgroup {
    /// Processes of the group and of all groups below it, as the daemon numbers them.
    pub(crate) fn processes(&self) -> Result<Vec<Pid>> {
        let mut found = BTreeSet::new();
        let Some((hierarchy, dir)) = self.census() else { return Ok(Vec::new()) };
        let mut waiting = vec![dir.try_clone().context("duplicate the cgroup's descriptor")?];
        while let Some(dir) = waiting.pop() {
            match processes_of(&dir, &mut waiting) {
                Ok(pids) => found.extend(pids),
                // A group that is being removed has no processes.
                Err(Errno::NODEV | Errno::NOENT) => {}
                Err(errno) => {
                    return Err(errno).context(self.what(hierarchy, "list the processes"));
                }
            }
        }
        Ok(found.into_iter().filter_map(Pid::from_raw).collect())
    }

    /// The hierarchy in which a process is earliest: it is born into the v2 group and moves itself
    /// into the v1 ones.
    fn census(&self) -> Option<(&Hierarchy, &OwnedFd)> {
        self.unified().or_else(|| self.controller(Controller::Pids)).or(self.directories().next())
    }

    /// Kills every process and waits, not longer than `patience`, until none is left.
    pub(crate) fn kill(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        self.release_holder()?;
        loop {
            self.signal_all()?;
            self.let_die();
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(Error::new(
                    Kind::Timeout,
                    format!("cgroup {}: {} processes do not die", self.record.path, left.len()),
                ));
            }
            wait_for_one(&left, deadline - now);
        }
    }

    /// One round of SIGKILL to everybody.
    fn signal_all(&self) -> Result<()> {
        if let Some((hierarchy, dir)) = self.unified() {
            match file::write(dir, "cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                // Older than Linux 5.14.
                Err(Errno::NOENT | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                Err(Errno::NODEV) => return Ok(()),
                Err(errno) => return Err(errno).context(self.what(hierarchy, "write cgroup.kill")),
            }
        }
        // Frozen processes cannot fork ahead of us; SIGKILL waits for them.
        let freezer = self.controller(Controller::Freezer);
        let frozen = freezer.is_some() && self.freeze().is_ok();
        for pid in self.processes()? {
            if !self.is_holder(pid)
                && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
                && self.processes()?.contains(&pid)
            {
                // Gone is as good as killed.
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
        if frozen { self.thaw() } else { Ok(()) }
    }
}

/// Reads one group's processes and adds its children to `waiting`.
fn processes_of(dir: &OwnedFd, waiting: &mut Vec<OwnedFd>) -> Result<Vec<i32>, Errno> {
    let list = file::read(dir, "cgroup.procs")?;
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
            match file::open_dir(dir, &name) {
                Ok(child) => waiting.push(child),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Waits until one of the processes ends; a zombie counts as ended for its pidfd but stays listed
/// until reaped, so the wait has an end of its own.
fn wait_for_one(pids: &[Pid], longest: Duration) {
    let pidfds: Vec<OwnedFd> =
        pids.iter().filter_map(|pid| pidfd_open(*pid, PidfdFlags::empty()).ok()).collect();
    let mut fds: Vec<PollFd<'_>> =
        pidfds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    let longest = longest.min(Duration::from_millis(100));
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(longest.subsec_nanos()) };
    let ended = poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0);
    if ended || pidfds.is_empty() {
        // Reaping is the parent's business and takes it a moment.
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
    }
}
