//! The record of an exit, for a daemon that is away when it happens.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::pod::PodState;
use super::{Server, complain};
#[cfg(test)]
use crate::executor::procfs::read_all;
use crate::id::ContainerId;
use crate::monitor::protocol::Exit;

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
