//! Removing trees that foreign programs made.
//!
//! Such a tree may be deeper than a stack is high, and deeper than a process may have descriptors. So
//! nothing here goes down: directories that are not empty are moved up, to below the root of what is
//! removed, and are emptied there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// Removes a directory with all below it, following no link. One that is not there is removed already.
/// What is mounted below is an error, and so is a file that is immutable.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match remove(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("remove {}", path.display())),
    }
}

fn remove(path: &Path) -> Result<(), Errno> {
    let root = open(CWD, path)?;
    Removal { root: root.as_fd(), moved: 0 }.empty(root.as_fd())?;
    rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

struct Removal<'a> {
    root: BorrowedFd<'a>,
    /// How many directories were moved up.
    moved: u64,
}

impl Removal<'_> {
    /// Looks until nothing is found: names come and go while the root is read.
    fn empty(&mut self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        loop {
            let mut is_empty = true;
            for name in Dir::read_from(root)?.filter_map(name) {
                let name = name?;
                is_empty = false;
                if is_removed(root, &name)? {
                    continue;
                }
                let directory = open(root, name.as_c_str())?;
                for below in Dir::read_from(&directory)?.filter_map(self::name) {
                    let below = below?;
                    if !is_removed(directory.as_fd(), &below)? {
                        self.move_up(directory.as_fd(), &below)?;
                    }
                }
            }
            if is_empty {
                return Ok(());
            }
        }
    }

    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let free = format!("cais-{}", self.moved);
            match rustix::fs::renameat(parent, name, self.root, free) {
                // Something of the tree's own is called so.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                other => return other,
            }
        }
    }
}

/// False for a directory that is not empty.
fn is_removed(parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(errno),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(errno),
    }
}

fn open(parent: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path, flags, Mode::empty())
}

/// None for the two that lead elsewhere.
fn name(entry: Result<rustix::fs::DirEntry, Errno>) -> Option<Result<CString, Errno>> {
    match entry {
        Ok(entry) if [c".", c".."].contains(&entry.file_name()) => None,
        Ok(entry) => Some(Ok(entry.file_name().to_owned())),
        Err(errno) => Some(Err(errno)),
    }
}

/// A directory in a directory, so many times; for tests.
#[cfg(test)]
pub(crate) fn make_deep(root: &Path, depth: usize) {
    let mut here = open(CWD, root).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o755)).unwrap();
        here = open(&here, "d").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tree_of_any_depth_is_removed_and_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, outside) = (directory.path().join("tree"), directory.path().join("outside"));
        std::fs::create_dir_all(tree.join("cais-1/x/y")).unwrap();
        File::create(tree.join("cais-2")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        File::create(outside.join("canary")).unwrap().write_all(b"alive").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("cais-1/x/link")).unwrap();
        make_deep(&tree, 5_000);
        make_deep(&tree.join("cais-1/x/y"), 100);

        // A stack on which nothing goes down five thousand times.
        let path = tree.clone();
        let removing = std::thread::Builder::new().stack_size(256 << 10);
        removing.spawn(move || remove_tree(&path).unwrap()).unwrap().join().unwrap();

        assert!(!tree.exists());
        assert_eq!(std::fs::read_to_string(outside.join("canary")).unwrap(), "alive");
        remove_tree(&tree).unwrap();
        assert!(remove_tree(&outside.join("canary")).is_err());
    }
}
