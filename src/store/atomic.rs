//! Replacing a file so that a reader, or the next boot, sees the old bytes or the new ones.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use crate::error::{Context, Result};

/// Whether the bytes must be there after a power cut, or only while the system runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Synced to the disk before the name points to them.
    Synced,
    /// For state that dies with the boot anyway.
    UntilReboot,
}

/// A directory whose files are replaced whole.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    durability: Durability,
}

impl Directory {
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .with_context(|| format!("open directory {}", path.display()))?;
        Ok(Self { fd, durability })
    }

    /// Gives `name` these bytes. The file is readable by its owner only.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.replace_soon(name, bytes)?;
        self.sync()
    }

    /// As [`Directory::replace`], and does not wait until the name points to the new bytes on the disk: after a
    /// power cut there are the old ones or these, whole.
    pub(crate) fn replace_soon(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.replace_with(name, bytes, |file| self.sync_data(file))
    }

    /// As [`Directory::replace`], and waits for no disk: after a power cut there are the old bytes, these, none, or no file.
    pub(crate) fn replace_unsynced(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.replace_with(name, bytes, |_| Ok(()))
    }

    /// The same, for a file that everybody may read and `uid` and `gid` own.
    pub(crate) fn publish(&self, name: &str, bytes: &[u8], (uid, gid): (u32, u32)) -> Result<()> {
        self.replace_with(name, bytes, |file| {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
            rustix::fs::fchmod(file, Mode::from_raw_mode(0o644))?;
            self.sync_data(file)
        })?;
        self.sync()
    }

    fn replace_with(
        &self,
        name: &str,
        bytes: &[u8],
        finish: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<()> {
        let context = || format!("write {name}");
        // Writers of one name are serialised by the owner of the directory, so one temporary
        // name per file is enough, and the left-over of a crash is taken over by the next write.
        let temporary = format!(".{name}.new");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &temporary, flags, Mode::from_raw_mode(0o600))
            .with_context(context)?;
        let mut file = File::from(fd);
        if let Err(error) = file.write_all(bytes).and_then(|()| finish(&file)) {
            // The old bytes still stand; a left-over would only take up space.
            let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
            return Err(error).with_context(context);
        }
        rustix::fs::renameat(&self.fd, &temporary, &self.fd, name).with_context(context)
    }

    pub(crate) fn read(&self, name: impl AsRef<OsStr>) -> std::io::Result<Vec<u8>> {
        use std::io::Read;

        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name.as_ref(), flags, Mode::empty())?;
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Succeeds if the file was not there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match self.remove_unsynced(name)? {
            true => self.sync(),
            false => Ok(()),
        }
    }

    /// As [`Directory::remove`]; after a power cut the file may be there again. False if it was not there.
    pub(crate) fn remove_unsynced(&self, name: &str) -> Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno).with_context(|| format!("remove {name}")),
        }
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
            .with_context(|| format!("rename {from}"))?;
        self.sync()
    }

    /// The names of the regular files in it, in no order.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let entries = rustix::fs::Dir::read_from(self.fd.as_fd()).context("list directory")?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.context("list directory")?;
            if entry.file_type() == rustix::fs::FileType::RegularFile
                && let Ok(name) = entry.file_name().to_str()
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn sync_data(&self, file: &File) -> std::io::Result<()> {
        match self.durability {
            Durability::Synced => file.sync_data(),
            Durability::UntilReboot => Ok(()),
        }
    }

    fn sync(&self) -> Result<()> {
        match self.durability {
            Durability::Synced => rustix::fs::fsync(&self.fd).context("sync directory"),
            Durability::UntilReboot => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_bytes() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path(), Durability::Synced).unwrap();
        directory.replace("a", b"old").unwrap();
        // A directory in the place of the temporary file makes the write fail.
        std::fs::create_dir(temp.path().join(".a.new")).unwrap();

        assert!(directory.replace("a", b"new").is_err());
        assert_eq!(directory.read("a").unwrap(), b"old");
    }

    #[test]
    fn a_published_file_may_be_read_by_all_and_others_by_their_owner() {
        use std::os::unix::fs::MetadataExt;

        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path(), Durability::UntilReboot).unwrap();
        let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        directory.publish("public", b"1", ours).unwrap();
        directory.replace("private", b"2").unwrap();
        let mode = |name: &str| temp.path().join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!((mode("public"), mode("private")), (0o644, 0o600));
    }

    #[test]
    fn removing_what_is_gone_succeeds() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path(), Durability::UntilReboot).unwrap();
        directory.remove("a").unwrap();
        directory.replace("a", b"1").unwrap();
        assert_eq!(directory.names().unwrap(), ["a"]);
        directory.remove("a").unwrap();
        assert!(directory.names().unwrap().is_empty());
    }
}
