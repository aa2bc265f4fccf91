//! What lies below some paths, and what became of it. The kernel only says that something happened (inotify); what it was is
//! seen by looking again, so nothing is missed that was too quick or too much for a queue.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::output;

/// An editor writes in several steps, a checkout many files: until nothing happens for so long, it goes on.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Where it never is quiet, it goes on nevertheless.
const LONGEST: Duration = Duration::from_secs(2);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        // What is in a directory is seen by itself.
        let is_directory = metadata.is_dir();
        Self {
            inode: if is_directory { 0 } else { metadata.ino() },
            mode: metadata.mode(),
            size: if is_directory { 0 } else { metadata.size() },
            changed: if is_directory { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) },
        }
    }
}

pub(super) struct Tree {
    roots: Vec<PathBuf>,
    /// Whether one need not look at something, and what is below it.
    is_ignored: Box<dyn Fn(&Path) -> bool>,
    inotify: OwnedFd,
    known: BTreeMap<PathBuf, Stamp>,
    /// What cannot be looked at, and was told of.
    unreadable: RefCell<BTreeSet<PathBuf>>,
}

impl Tree {
    pub(super) fn new(
        roots: Vec<PathBuf>,
        is_ignored: impl Fn(&Path) -> bool + 'static,
    ) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let is_ignored = Box::new(is_ignored);
        let (known, unreadable) = (BTreeMap::new(), RefCell::default());
        let mut tree = Self { roots, is_ignored, inotify, known, unreadable };
        tree.known = tree.look()?;
        Ok(tree)
    }

    /// All that is there.
    pub(super) fn all(&self) -> BTreeSet<PathBuf> {
        self.known.keys().cloned().collect()
    }

    /// Waits until something is another, new or gone.
    pub(super) fn changed(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        loop {
            self.poll(None)?;
            let began = Instant::now();
            while self.poll(Some(&QUIET))? && began.elapsed() < LONGEST {}
            let now = self.look()?;
            let is_other =
                |(path, stamp): &(&PathBuf, &Stamp)| self.known.get(*path) != Some(stamp);
            let changed = now.iter().filter(is_other).map(|(path, _)| path);
            let gone = self.known.keys().filter(|path| !now.contains_key(*path));
            let changed: BTreeSet<PathBuf> = changed.chain(gone).cloned().collect();
            self.known = now;
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    /// Whether anything happened in this time.
    fn poll(&self, limit: Option<&Timespec>) -> io::Result<bool> {
        let mut waiting = [PollFd::new(&self.inotify, PollFlags::IN)];
        let ready = poll(&mut waiting, limit)?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        // What it is does not count.
        while events.next().is_ok() {}
        Ok(ready > 0)
    }

    fn look(&self) -> io::Result<BTreeMap<PathBuf, Stamp>> {
        let mut found = BTreeMap::new();
        for root in &self.roots {
            self.visit(root, &mut found)?;
        }
        Ok(found)
    }

    fn visit(&self, path: &Path, found: &mut BTreeMap<PathBuf, Stamp>) -> io::Result<()> {
        if (self.is_ignored)(path) {
            return Ok(());
        }
        let Some(metadata) = self.there(path, fs::symlink_metadata(path))? else { return Ok(()) };
        found.insert(path.to_owned(), Stamp::of(&metadata));
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB;
        // Before one looks into it: what comes meanwhile is told of. A file is told of by its directory, unless it is a root.
        if metadata.is_dir() || self.roots.iter().any(|it| it == path) {
            let watched = inotify::add_watch(&self.inotify, path, what).map_err(io::Error::from);
            self.there(path, watched)?;
        }
        if !metadata.is_dir() {
            return Ok(());
        }
        let Some(entries) = self.there(path, fs::read_dir(path))? else { return Ok(()) };
        for entry in entries {
            self.visit(&entry?.path(), found)?;
        }
        Ok(())
    }

    /// What went away meanwhile is not there, and neither is what we may not see.
    fn there<T>(&self, path: &Path, outcome: io::Result<T>) -> io::Result<Option<T>> {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        match outcome {
            Ok(it) => Ok(Some(it)),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) if error.kind() == PermissionDenied => {
                if self.unreadable.borrow_mut().insert(path.to_owned()) {
                    output::notice(&format!("warning: {} is not watched: {error}", path.display()));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "who reads it meanwhile looks again")]
    fn write(path: PathBuf, text: &str) {
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_may_not_be_seen_is_told_of_once_and_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::new(vec![directory.path().to_owned()], |_| false).unwrap();
        let denied = || -> io::Result<()> { Err(io::ErrorKind::PermissionDenied.into()) };
        let path = directory.path().join("a");
        for _ in 0..2 {
            assert_eq!(tree.there(&path, denied()).unwrap(), None);
        }
        assert_eq!(*tree.unreadable.borrow(), BTreeSet::from([path.clone()]));
        let broken = || -> io::Result<()> { Err(io::Error::other("broken")) };
        assert!(tree.there(&path, broken()).is_err());
    }

    #[test]
    fn what_changes_is_told_and_what_is_ignored_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("skipped")).unwrap();
        write(at("old"), "1");
        let skipped = at("skipped");
        let mut tree =
            Tree::new(vec![directory.path().to_owned()], move |it| it == skipped).unwrap();
        assert_eq!(tree.all(), BTreeSet::from([directory.path().to_owned(), at("old")]));

        write(at("skipped/a"), "1");
        fs::create_dir(at("new")).unwrap();
        write(at("new/file"), "2");
        fs::remove_file(at("old")).unwrap();
        assert_eq!(tree.changed().unwrap(), BTreeSet::from([at("new"), at("new/file"), at("old")]));

        // In a directory that was not there before, too.
        write(at("new/file"), "longer");
        assert_eq!(tree.changed().unwrap(), BTreeSet::from([at("new/file")]));
    }
}
