//! Paths inside a container, resolved under a descriptor of its root.
//!
//! The tree belongs to the image, so every link in it may be hostile: resolution never leaves the
//! root and never follows a magic link, and what is made is made by name in a parent that is held
//! open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::failure::{About, Fault};
use super::plan::TargetKind;

/// A rename inside the root during a resolution makes the kernel ask for another try.
const TRIES: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(super) struct Root<'a>(BorrowedFd<'a>);

impl<'a> Root<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self(root)
    }

    pub(super) fn as_fd(self) -> BorrowedFd<'a> {
        self.0
    }

    /// A handle to what is there, following links inside the root.
    pub(super) fn find(self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH)
    }

    /// The same, or `None` when there is nothing.
    pub(super) fn find_existing(self, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        match self.find(path) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn open(self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            let opened =
                rustix::fs::openat2(self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
            match opened {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Finds a directory, making what is missing of it.
    pub(super) fn make_directory(self, path: &[u8]) -> Result<OwnedFd, Fault> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(in_the_way),
        }
        let mut end = 0;
        let mut parent = self.find(b"/")?;
        for component in path.split(|byte| *byte == b'/') {
            // The slash before this component; the first has none before it.
            end += component.len();
            if !component.is_empty() && component != b"." {
                if component == b".." {
                    return Err(Fault::invalid("the path has a `..`"));
                }
                let prefix = path.get(..end).unwrap_or(path);
                parent = self.enter_or_make(parent.as_fd(), prefix, component)?;
            }
            end += 1;
        }
        Ok(parent)
    }

    fn enter_or_make(
        self,
        parent: BorrowedFd<'_>,
        prefix: &[u8],
        name: &[u8],
    ) -> Result<OwnedFd, Fault> {
        match self.find(prefix) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(in_the_way).about_path(prefix),
        }
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            // EXIST is a link that points nowhere, or somebody else's quicker hand.
            Ok(()) | Err(Errno::EXIST) => self.find(prefix).map_err(in_the_way).about_path(prefix),
            Err(errno) => Err(in_the_way(errno).about_path(prefix)),
        }
    }

    /// The parent directory of `path`, made if missing, and the last component.
    pub(super) fn make_parent(self, path: &[u8]) -> Result<(OwnedFd, &[u8]), Fault> {
        let (directory, name) = split(path);
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Fault::invalid("the path has no name at its end"));
        }
        Ok((self.make_directory(directory)?, name))
    }

    /// A place to mount on: what is there, or a new directory or empty file.
    pub(super) fn make_target(self, path: &[u8], kind: TargetKind) -> Result<OwnedFd, Fault> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(in_the_way),
        }
        match kind {
            TargetKind::Directory => self.make_directory(path),
            TargetKind::File => {
                let (parent, name) = self.make_parent(path)?;
                let mode = Mode::from_raw_mode(0o644);
                match rustix::fs::mknodat(&parent, name, FileType::RegularFile, mode, 0) {
                    Ok(()) | Err(Errno::EXIST) => self.find(path).map_err(in_the_way),
                    Err(errno) => Err(in_the_way(errno)),
                }
            }
        }
    }
}

/// Why nothing can be made at a path: what the image has there is no fault of ours.
pub(super) fn in_the_way(errno: Errno) -> Fault {
    match errno {
        // It could not be made either.
        Errno::NOENT => Fault::invalid("a link there leads nowhere"),
        Errno::EXIST => Fault::invalid("there is something already"),
        Errno::NOTDIR => Fault::invalid("there is a file where a directory is needed"),
        Errno::LOOP => Fault::invalid("the links there lead in a circle"),
        other => Fault::from(other),
    }
}

/// Directory and last component; trailing slashes do not count.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let trailing = path.iter().rev().take_while(|byte| **byte == b'/').count();
    let path = path.get(..path.len() - trailing).unwrap_or_default();
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            let (directory, name) = path.split_at(slash);
            let directory = if directory.is_empty() { b"/" } else { directory };
            (directory, name.get(1..).unwrap_or_default())
        }
        None => (b"/", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::failure::FailureKind;
    use std::os::unix::fs::symlink;

    fn with_root(test: impl FnOnce(Root<'_>, &std::path::Path)) {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        test(Root::new(root.as_fd()), directory.path());
    }

    #[test]
    fn links_that_point_outside_stay_inside() {
        with_root(|root, path| {
            symlink("/", path.join("up")).unwrap();
            symlink("../../..", path.join("dots")).unwrap();
            root.make_directory(b"/up/a/b").unwrap();
            root.make_directory(b"/dots/c").unwrap();
            assert!(path.join("a/b").is_dir());
            assert!(path.join("c").is_dir());
        });
    }

    #[test]
    fn a_missing_file_target_is_made_with_its_parents() {
        with_root(|root, path| {
            root.make_target(b"/etc/conf/hosts", TargetKind::File).unwrap();
            assert_eq!(std::fs::read(path.join("etc/conf/hosts")).unwrap(), b"");
        });
    }

    #[test]
    fn a_dangling_link_is_not_written_through() {
        with_root(|root, path| {
            symlink("/nowhere/file", path.join("link")).unwrap();
            assert!(root.make_target(b"/link", TargetKind::File).is_err());
            assert!(!path.join("nowhere").exists());
        });
    }

    #[test]
    fn what_the_image_has_in_the_way_is_named_and_no_fault_of_ours() {
        with_root(|root, path| {
            symlink("/nowhere", path.join("dangling")).unwrap();
            symlink("round", path.join("round")).unwrap();
            std::fs::File::create(path.join("file")).unwrap();
            for (target, why) in [
                (&b"/dangling/x"[..], "leads nowhere"),
                (b"/round/x", "in a circle"),
                (b"/file/x", "there is a file"),
            ] {
                for kind in [TargetKind::Directory, TargetKind::File] {
                    let fault = root.make_target(target, kind).unwrap_err().into_failure("mount");
                    assert_eq!(fault.kind, FailureKind::Invalid, "{fault:?}");
                    assert!(fault.detail.contains(why), "{fault:?}");
                }
            }
        });
    }

    #[test]
    fn dots_are_refused_when_something_is_to_be_made() {
        with_root(|root, _| {
            assert!(root.make_directory(b"/a/../b").is_err());
            assert!(root.make_parent(b"/").is_err());
        });
    }

    #[test]
    fn a_path_splits_at_its_last_component() {
        assert_eq!(split(b"/dev/null"), (&b"/dev"[..], &b"null"[..]));
        assert_eq!(split(b"/dev//"), (&b"/"[..], &b"dev"[..]));
        assert_eq!(split(b"dev"), (&b"/"[..], &b"dev"[..]));
    }
}
