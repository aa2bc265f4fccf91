//! Removing a group, everything below it, and parents that were made for it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FileType, XattrFlags};
use rustix::io::Errno;

use super::hierarchy::Hierarchy;
use super::{Cgroup, file};
use crate::error::{Context, Error, Kind, Result};

/// For how long the kernel may still hold directories for processes that are ending.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE_MS: i64 = 5;
/// On directories that we made for others to be in.
const MARK: &str = "trusted.cais";
/// Deeper than anything a container has a use for; each level is a descriptor.
const DEPTH_MAX: u32 = 64;

impl Cgroup {
    /// Removes it from all hierarchies. What is gone already is no error; processes that are alive
    /// are: `kill` first.
    pub(crate) fn remove(&mut self) -> Result<()> {
        self.dirs.clear();
        let hierarchies = Arc::clone(&self.hierarchies);
        let deadline = Instant::now() + PATIENCE;
        let mut first = None;
        for hierarchy in hierarchies.iter() {
            if let Err(error) = self.remove_from(hierarchy, deadline) {
                first.get_or_insert(error);
            }
        }
        if first.is_none() {
            self.forget_unit();
        }
        first.map_or(Ok(()), Err)
    }

    /// Says that it is for others to be in: whoever leaves it last removes it.
    pub(crate) fn be_parent(&self) {
        self.dirs.iter().for_each(|dir| mark(&dir.fd));
    }

    fn remove_from(&self, hierarchy: &Hierarchy, deadline: Instant) -> Result<()> {
        let path = &self.record.path;
        let Some((parent_path, name)) = path.rsplit_once('/') else { return Ok(()) };
        let parent = match file::open_dir(&hierarchy.root, parent_path) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => {
                return Err(errno).context(format!("open cgroup {}", hierarchy.show(parent_path)));
            }
        };
        self.remove_until(deadline, hierarchy, &parent, name)?;
        self.remove_empty_parents(hierarchy, parent_path);
        Ok(())
    }

    /// From the innermost on, as long as they are ours and empty.
    fn remove_empty_parents(&self, hierarchy: &Hierarchy, innermost: &str) {
        let mut path = innermost;
        while !path.is_empty() {
            let is_ours = self.record.made_parents.iter().any(|made| made == path)
                || file::open_dir(&hierarchy.root, path).is_ok_and(|dir| is_marked(&dir));
            let relative = path.trim_start_matches('/');
            // Not empty, or gone: both mean that others are at it.
            if !is_ours
                || rustix::fs::unlinkat(&hierarchy.root, relative, AtFlags::REMOVEDIR).is_err()
            {
                return;
            }
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }

    fn remove_until(
        &self,
        deadline: Instant,
        hierarchy: &Hierarchy,
        parent: &OwnedFd,
        name: &str,
    ) -> Result<()> {
        loop {
            match remove_tree(parent, name, 0) {
                Ok(()) => return Ok(()),
                Err(Errno::BUSY) if Instant::now() < deadline => {}
                Err(Errno::BUSY) => {
                    let path = hierarchy.show(&self.record.path);
                    let text = format!("remove cgroup {path}: it is still in use");
                    return Err(Error::new(Kind::Busy, text));
                }
                Err(errno) => {
                    let what = format!("remove cgroup {}", hierarchy.show(&self.record.path));
                    return Err(errno).context(what);
                }
            }
            wait_for_change(parent, name);
        }
    }
}

/// Says of a parent that we made it: whoever leaves it last removes it.
pub(super) fn mark(dir: &OwnedFd) {
    // Kernels without attributes here leave it to the record of the group that made it.
    let _ = rustix::fs::fsetxattr(dir, MARK, b"1", XattrFlags::empty());
}

fn is_marked(dir: &OwnedFd) -> bool {
    rustix::fs::fgetxattr(dir, MARK, &mut [0_u8; 8]).is_ok()
}

/// Removes `name` and, when it has children, those first.
fn remove_tree(parent: &OwnedFd, name: &str, depth: u32) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY) if depth < DEPTH_MAX => {}
        Err(errno) => return Err(errno),
    }
    let dir = match file::open_dir(parent, name) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut children = 0;
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let child = entry.file_name().to_string_lossy();
        if entry.file_type() == FileType::Directory && child != "." && child != ".." {
            children += 1;
            remove_tree(&dir, &child, depth + 1)?;
        }
    }
    if children == 0 {
        return Err(Errno::BUSY);
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Returns when the group's population changes (v2), or after a moment.
fn wait_for_change(parent: &OwnedFd, name: &str) {
    let events = file::open_dir(parent, name).and_then(|dir| file::open_read(dir, "cgroup.events"));
    let timeout = Timespec { tv_sec: 0, tv_nsec: PAUSE_MS * 1_000_000 };
    let mut fds: Vec<PollFd<'_>> = Vec::new();
    if let Ok(events) = &events {
        fds.push(PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI));
    }
    // An interrupted wait is a short one.
    let _ = poll(&mut fds, Some(&timeout));
}
