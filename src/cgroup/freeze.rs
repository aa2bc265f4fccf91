//! Stopping and resuming all processes of a group at once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::controller::{Controller, Version};
use super::{Cgroup, file};
use crate::error::{Context, Error, Kind, Result};

/// A process in an uninterruptible wait can hold a freeze up for long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What stops and resumes a group, for another program to use.
#[derive(Debug)]
pub(crate) struct Freezer {
    /// The group's directory in the hierarchy that can freeze it.
    pub(crate) directory: PathBuf,
    /// Open for writing.
    pub(crate) switch: OwnedFd,
    /// What is to be written to resume.
    pub(crate) thawed: &'static str,
}

impl Cgroup {
    pub(crate) fn freezer(&self) -> Result<Freezer> {
        let (found, file, thawed) = match self.unified() {
            Some(unified) => (Some(unified), "cgroup.freeze", "0"),
            None => (self.controller(Controller::Freezer), "freezer.state", "THAWED"),
        };
        let (hierarchy, dir) = found.ok_or_else(no_freezer)?;
        let switch = file::open_write(dir, file).with_context(|| self.what(hierarchy, file))?;
        let directory = hierarchy.show(&self.record.path).into();
        Ok(Freezer { directory, switch, thawed })
    }

    /// Returns when every process has stopped.
    pub(crate) fn freeze(&self) -> Result<()> {
        let frozen = self.set_frozen(true);
        if frozen.is_err() {
            // Half-frozen would be worse than running.
            let _ = self.set_frozen(false);
        }
        frozen
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Lets frozen processes act on a SIGKILL. Only v1 needs it, and this does not wait. A group that
    /// is frozen from above stays so: that is for whoever froze it.
    pub(crate) fn let_die(&self) {
        let v1 = self.controller(Controller::Freezer);
        if let Some((_, dir)) = v1.filter(|(hierarchy, _)| hierarchy.version == Version::V1) {
            // Where it fails there is nobody left to thaw.
            let _ = file::write(dir, "freezer.state", "THAWED");
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        if let Some((hierarchy, dir)) = self.unified() {
            file::write(dir, "cgroup.freeze", if frozen { "1" } else { "0" })
                .with_context(|| self.what(hierarchy, "write cgroup.freeze"))?;
            return self.wait_until(dir, frozen, |dir| {
                let events = file::read(dir, "cgroup.events")?;
                Ok(file::keyed(&events, "frozen") == Some(u64::from(frozen)))
            });
        }
        let Some((hierarchy, dir)) = self.controller(Controller::Freezer) else {
            return Err(no_freezer());
        };
        let state = if frozen { "FROZEN" } else { "THAWED" };
        self.wait_until(dir, frozen, |dir| {
            // Written again each time: a process that forks while freezing escapes one attempt.
            file::write(dir, "freezer.state", state)?;
            Ok(file::read(dir, "freezer.state")?.trim() == state)
        })
        .with_context(|| self.what(hierarchy, "write freezer.state"))
    }

    fn wait_until(
        &self,
        dir: &OwnedFd,
        frozen: bool,
        reached: impl Fn(&OwnedFd) -> Result<bool, rustix::io::Errno>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let events = file::open_read(dir, "cgroup.events").ok();
        let mut pause_ns = 100_000;
        loop {
            if reached(dir).context("read the cgroup's state")? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let verb = if frozen { "freeze" } else { "thaw" };
                let text = format!("{verb} cgroup {}: some process did not stop", self.record.path);
                return Err(Error::new(Kind::Timeout, text));
            }
            let mut fds: Vec<PollFd<'_>> = Vec::new();
            if let Some(events) = &events {
                fds.push(PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI));
            }
            // The event may have come before the wait began, hence never for long.
            let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: pause_ns }));
            pause_ns = (pause_ns * 2).min(20_000_000);
        }
    }
}

fn no_freezer() -> Error {
    Error::new(Kind::Unsupported, "cgroup: no freezer on this machine")
}
