//! What is known of an exit besides its status: the OOM counter before it, the record after it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::pod::PodState;
use super::poller::{CHANGE, Key, Poller, READ, Source, Token};
use super::{Server, complain};
#[cfg(test)]
use crate::executor::procfs::read_all;
use crate::id::ContainerId;
use crate::monitor::protocol::Exit;

/// `memory.events` (v2) or `memory.oom_control` (v1): both have a line `oom_kill N`.
///
/// It counts the kills of all processes of the container. Those after which the first process lives
/// on are not what it ends of, so it is looked at again a moment after each.
#[derive(Debug)]
pub(super) struct OomCounter {
    file: OwnedFd,
    before: u64,
    /// What v1 says it with; `None`: the file itself.
    event: Option<OwnedFd>,
    /// `None`: nothing says when to look.
    token: Option<Token>,
    look_at: Option<Instant>,
    looks_left: u32,
}

/// The kernel counts a kill just before it sends the signal, and v1 tells of it just before it counts.
const A_MOMENT: Duration = Duration::from_millis(100);
/// It may take its time to find somebody to kill.
const LOOKS: u32 = 5;

impl OomCounter {
    pub(super) fn new(
        poller: &mut Poller,
        key: Key,
        file: OwnedFd,
        event: Option<OwnedFd>,
    ) -> Self {
        let before = read(&file).unwrap_or(0);
        let token = match &event {
            Some(event) => poller.add(event, READ, Source::Memory(key)),
            None => poller.add(&file, CHANGE, Source::Memory(key)),
        };
        Self { file, before, event, token: token.ok(), look_at: None, looks_left: 0 }
    }

    pub(super) fn close(self, poller: &mut Poller) {
        if let Some(token) = self.token {
            poller.remove(self.event.as_ref().unwrap_or(&self.file), token);
        }
    }

    /// The kernel said that the container is out of memory, or on v2 that some counter rose.
    pub(super) fn heard(&mut self) {
        if let Some(event) = &self.event {
            // Takes the event back; that it was there is all there is to know.
            let _ = rustix::io::read(event, &mut [0_u8; 8]);
        } else if !self.has_risen() {
            return;
        }
        self.look_at.get_or_insert_with(|| Instant::now() + A_MOMENT);
        self.looks_left = LOOKS;
    }

    /// When to look whether the first process lives.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// After a look at the first process.
    pub(super) fn looked_at(&mut self, lives: bool) {
        let now = read(&self.file).unwrap_or(self.before);
        if lives && now > self.before {
            self.before = now;
            self.looks_left = 0;
        }
        self.looks_left = self.looks_left.saturating_sub(1);
        self.look_at = (self.looks_left > 0).then(|| Instant::now() + A_MOMENT);
    }

    pub(super) fn has_risen(&self) -> bool {
        read(&self.file).is_some_and(|now| now > self.before)
    }
}

fn read(file: &OwnedFd) -> Option<u64> {
    let mut text = [0_u8; 512];
    let length = rustix::io::pread(file, &mut text, 0).ok()?;
    parse(std::str::from_utf8(text.get(..length)?).ok()?)
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

impl Server {
    /// Leaves the exit where a daemon that is away now will find it. Written beside and renamed:
    /// a record is there whole or not at all.
    pub(super) fn record(&self, id: &ContainerId, exit: &Exit) {
        let PodState::Ready(pod) = &self.pod else { return };
        if let Err(errno) = write_record(&pod.exits, id.as_str(), exit) {
            complain(&format!("record the exit of {id}: {errno}"));
        }
    }
}

fn write_record(directory: &OwnedFd, name: &str, exit: &Exit) -> Result<(), Errno> {
    let json = serde_json::to_vec(exit).map_err(|_| Errno::INVAL)?;
    let temporary = format!(".{name}");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(directory, &temporary, flags, Mode::from_raw_mode(0o600))?;
    let mut rest = &json[..];
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::renameat(directory, &temporary, directory, name)
}

/// What was left for a daemon, read back.
#[cfg(test)]
fn read_record(file: &OwnedFd) -> Result<Exit, Errno> {
    let mut json = Vec::new();
    read_all(std::os::fd::AsFd::as_fd(file), &mut json)?;
    serde_json::from_slice(&json).map_err(|_| Errno::BADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::protocol::ExitStatus;

    #[test]
    fn both_kinds_of_oom_counters_are_understood() {
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse("low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_leaves_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let fd: OwnedFd = std::fs::File::open(directory.path()).unwrap().into();
        let exit = Exit {
            status: ExitStatus::Signal(9),
            started_at: Some(5),
            finished_at: 7,
            oom_killed: true,
        };
        write_record(&fd, "abc", &exit).unwrap();
        let names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["abc"]);
        let file: OwnedFd = std::fs::File::open(directory.path().join("abc")).unwrap().into();
        assert_eq!(read_record(&file).unwrap(), exit);
    }
}
