//! What the engine makes in a root file system to mount things on, and what is not there before: it
//! is no part of the layer.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};

use crate::engine::files::{below_root, open_below};
use crate::error::{Context, Result};

/// Where every container has something mounted.
const MOUNTED: [&str; 6] = ["proc", "sys", "dev", "etc/hosts", "etc/resolv.conf", "etc/hostname"];

/// Names that are missing before a command runs.
pub(super) struct Stubs {
    root: OwnedFd,
    /// Deeper ones last.
    missing: Vec<PathBuf>,
}

impl Stubs {
    /// `targets` are mounted for this command alone.
    pub(super) fn before<'a>(
        root: impl AsFd,
        targets: impl Iterator<Item = &'a Path>,
    ) -> Result<Self> {
        let root = root.as_fd().try_clone_to_owned().context("keep the root")?;
        let mut missing = Vec::new();
        let own = MOUNTED.iter().map(PathBuf::from);
        for path in own.chain(targets.map(|path| below_root(&path.to_string_lossy()))) {
            let all: Vec<_> = path.ancestors().filter(|it| !it.as_os_str().is_empty()).collect();
            for path in all.into_iter().rev() {
                let is_there = open_below(&root, path, OFlags::PATH | OFlags::NOFOLLOW).is_ok();
                if !is_there && !missing.iter().any(|known| known == path) {
                    missing.push(path.to_owned());
                }
            }
        }
        Ok(Self { root, missing })
    }

    /// Removes those that are there now and empty. What a command put there is its own.
    pub(super) fn remove(self) -> Result<()> {
        for path in self.missing.iter().rev() {
            let Some(name) = path.file_name() else { continue };
            let above = path.parent().unwrap_or(Path::new(""));
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let Ok(above) = open_below(&self.root, above, flags) else { continue };
            let Ok(stat) = rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let flags = match (kind == FileType::Directory, kind == FileType::RegularFile) {
                (true, _) => AtFlags::REMOVEDIR,
                (false, true) if stat.st_size == 0 => AtFlags::empty(),
                (false, _) => continue,
            };
            // A directory that has something in it stays.
            let _ = rustix::fs::unlinkat(&above, name, flags);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_to_mount_on_goes_and_what_a_command_made_stays() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        std::fs::create_dir(at("etc")).unwrap();
        std::fs::File::create(at("etc/hostname")).unwrap();
        let root = std::fs::File::open(temp.path()).unwrap();
        let targets = [Path::new("/a/b/c"), Path::new("/d/e"), Path::new("/etc/../f")];
        let stubs = Stubs::before(&root, targets.into_iter()).unwrap();

        for path in ["proc", "a", "a/b", "a/b/c", "d", "d/e", "f"] {
            std::fs::create_dir(at(path)).unwrap();
        }
        for path in ["etc/hosts", "d/own"] {
            std::fs::File::create(at(path)).unwrap();
        }
        stubs.remove().unwrap();

        for gone in ["proc", "a", "d/e", "f", "etc/hosts"] {
            assert!(!at(gone).exists(), "{gone}");
        }
        for there in ["etc/hostname", "d/own"] {
            assert!(at(there).exists(), "{there}");
        }
    }
}
