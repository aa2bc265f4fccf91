//! A context that is kept in step with a client's files: told what there is now, it asks for the
//! content of what has changed, and drops what is gone.
//!
//! A file counts as unchanged if nothing but its name and attributes says otherwise, as with rsync(1)
//! and BuildKit. Who tells of the files is a stranger: a path leads nowhere but below a directory that
//! was told of in the same pass.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, makedev,
};
use rustix::io::Errno;

use super::{Context, copy};
use crate::engine::files::open_below;
use crate::error::{Context as _, Error, Result};
use crate::image::ImageStore;

const NANOSECONDS: i64 = 1_000_000_000;

/// What a client says of one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Below the root.
    pub(crate) path: PathBuf,
    pub(crate) kind: FileType,
    /// As in chmod(2).
    pub(crate) mode: u32,
    pub(crate) size: i64,
    /// Nanoseconds since the epoch.
    pub(crate) modified: i64,
    /// What a symbolic link says; of a regular file that has several names, the first of them.
    pub(crate) link: String,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    /// Extended attributes; those that go along ([`goes_along`]).
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
}

/// Whether an extended attribute is kept of what a client says.
pub(crate) fn goes_along(kind: FileType, attribute: &str) -> bool {
    kind == FileType::RegularFile && copy::goes_along(attribute.as_bytes())
}

/// The files as they were told and kept. For threads that may block.
pub(crate) struct Synced {
    context: Context,
    /// Of the last pass; then of this one. By their paths as texts, whose order is found faster than that of paths, and has
    /// directories before what is in them, too.
    known: BTreeMap<OsString, Entry>,
    told: BTreeMap<OsString, Entry>,
    /// The directory of the entry that was told last.
    parent: Option<(PathBuf, OwnedFd)>,
}

impl Synced {
    pub(crate) fn begin(store: &ImageStore) -> Result<Self> {
        Ok(Self {
            context: Context::begin(store)?,
            known: BTreeMap::new(),
            told: BTreeMap::new(),
            parent: None,
        })
    }

    /// The files, as they are after [`Self::finish`].
    pub(crate) fn context(&self) -> Context {
        self.context.clone()
    }

    /// Takes an entry, parents first; true if its content is wanted ([`Self::open`]).
    ///
    /// # Errors
    /// `InvalidArgument` for a path that does not lie in a directory that was told of.
    pub(crate) fn take(&mut self, entry: Entry) -> Result<bool> {
        self.check(&entry.path)?;
        let known = self.known.get(entry.path.as_os_str());
        let is_link = entry.kind == FileType::RegularFile && !entry.link.is_empty();
        let wants = if entry.kind == FileType::Directory {
            self.directory(&entry)?;
            false
        } else if known == Some(&entry) && !is_link {
            false
        } else {
            self.clear(&entry.path)?;
            self.make(&entry)?;
            entry.kind == FileType::RegularFile && !is_link
        };
        self.told.insert(entry.path.clone().into_os_string(), entry);
        Ok(wants)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let refuse = |why: &str| Error::invalid(format!("{}: {why}", path.display()));
        let text = path.as_os_str().as_bytes();
        // One way alone to write a path, as they are told apart by their texts.
        let is_plain =
            text.split(|byte| *byte == b'/').all(|it| ![&b""[..], b".", b".."].contains(&it));
        if !is_plain || text.len() > 4096 {
            return Err(refuse("no path below the context"));
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        if !parent.as_os_str().is_empty() && !is_directory(&self.told, parent) {
            return Err(refuse("its directory was not told of"));
        }
        match self.told.contains_key(path.as_os_str()) {
            true => Err(refuse("told of twice")),
            false => Ok(()),
        }
    }

    fn directory(&mut self, entry: &Entry) -> Result<()> {
        if !is_directory(&self.known, &entry.path) {
            self.clear(&entry.path)?;
            let name = file_name(&entry.path);
            let made = rustix::fs::mkdirat(self.parent(&entry.path)?, name, Mode::RWXU);
            made.with_context(|| format!("make {}", entry.path.display()))?;
        }
        Ok(())
    }

    /// Removes what is there under a name.
    fn clear(&mut self, path: &Path) -> Result<()> {
        let Some(known) = self.known.get(path.as_os_str()) else { return Ok(()) };
        let context = || format!("remove {}", path.display());
        if known.kind == FileType::Directory {
            self.parent = None;
            let gone = std::fs::remove_dir_all(self.context.directory()?.join(path));
            return gone.with_context(context);
        }
        let removed = rustix::fs::unlinkat(self.parent(path)?, file_name(path), AtFlags::empty());
        removed.with_context(context)
    }

    fn parent(&mut self, path: &Path) -> Result<&OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let is_open = self.parent.as_ref().is_some_and(|(open, _)| open == parent);
        if !is_open {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let opened = open_below(self.context.root(), parent, flags);
            let opened = opened.with_context(|| format!("open {}", parent.display()))?;
            self.parent = Some((parent.to_owned(), opened));
        }
        self.parent.as_ref().map(|(_, open)| open).context("no directory is open")
    }

    /// Without content.
    fn make(&mut self, entry: &Entry) -> Result<()> {
        let name = file_name(&entry.path).to_owned();
        let context = || format!("make {}", entry.path.display());
        let kind = entry.kind;
        let first = match entry.link.as_str() {
            first if kind == FileType::RegularFile && !first.is_empty() => Some(self.first(first)?),
            _ => None,
        };
        let parent = self.parent(&entry.path)?;
        match kind {
            FileType::Symlink => {
                rustix::fs::symlinkat(&entry.link, parent, &name).with_context(context)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(parent, &name, &times(entry.modified), flags)
                    .with_context(context)
            }
            FileType::RegularFile => match first {
                Some(first) => rustix::fs::linkat(&first, "", parent, &name, AtFlags::EMPTY_PATH)
                    .with_context(context),
                None => {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    let made = rustix::fs::openat(parent, &name, flags, Mode::RWXU);
                    made.map(drop).with_context(context)
                }
            },
            // In a layer it says that a file is gone.
            FileType::CharacterDevice | FileType::BlockDevice if entry.device == (0, 0) => {
                Err(Error::invalid(format!("{} is a device 0:0", entry.path.display())))
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                let device = makedev(entry.device.0, entry.device.1);
                let mode = Mode::from_raw_mode(entry.mode);
                rustix::fs::mknodat(parent, &name, kind, mode, device).with_context(context)
            }
            FileType::Directory | FileType::Socket | FileType::Unknown => {
                Err(Error::invalid(format!("{} is no file", entry.path.display())))
            }
        }
    }

    /// The first name of a file that has several.
    fn first(&self, path: &str) -> Result<OwnedFd> {
        let path = Path::new(path);
        let is_file = |it: &Entry| it.kind == FileType::RegularFile;
        if !self.told.get(path.as_os_str()).is_some_and(is_file) {
            return Err(Error::invalid(format!("{}: no file was told of", path.display())));
        }
        let first = open_below(self.context.root(), path, OFlags::PATH | OFlags::NOFOLLOW);
        first.with_context(|| format!("open {}", path.display()))
    }

    /// The file whose content is wanted; empty.
    pub(crate) fn open(&mut self, entry: &Entry) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = file_name(&entry.path).to_owned();
        let parent = self.parent(&entry.path)?;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        opened.map(File::from).with_context(|| format!("open {}", entry.path.display()))
    }

    /// The content is whole.
    pub(crate) fn close(&mut self, entry: &Entry, file: &File) -> Result<()> {
        let context = || format!("write {}", entry.path.display());
        for (name, value) in &entry.attributes {
            if goes_along(entry.kind, name) {
                let set = rustix::fs::fsetxattr(file, name, value, XattrFlags::empty());
                match set {
                    Ok(()) | Err(Errno::OPNOTSUPP) => {}
                    Err(errno) => return Err(errno).with_context(context),
                }
            }
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).with_context(context)?;
        rustix::fs::futimens(file, &times(entry.modified)).with_context(context)
    }

    /// All was told. What was not is removed.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.parent = None;
        let known = std::mem::take(&mut self.known);
        for (path, entry) in known.iter().rev().filter(|(path, _)| !self.told.contains_key(*path)) {
            let path = Path::new(path);
            let above = path.parent().unwrap_or(Path::new(""));
            let stays = above.as_os_str().is_empty() || is_directory(&self.told, above);
            // What lay in a directory that goes, goes with it.
            if stays {
                let whole = self.context.directory()?.join(path);
                let removed = match entry.kind == FileType::Directory {
                    true => std::fs::remove_dir_all(&whole),
                    false => std::fs::remove_file(&whole),
                };
                removed.with_context(|| format!("remove {}", path.display()))?;
            }
        }
        // Now that nothing changes in them.
        for (path, entry) in self.told.iter().rev() {
            if entry.kind == FileType::Directory {
                let path = Path::new(path);
                let context = || format!("finish {}", path.display());
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let open = open_below(self.context.root(), path, flags).with_context(context)?;
                rustix::fs::fchmod(&open, Mode::from_raw_mode(entry.mode)).with_context(context)?;
                rustix::fs::futimens(&open, &times(entry.modified)).with_context(context)?;
            }
        }
        self.known = std::mem::take(&mut self.told);
        Ok(())
    }
}

fn is_directory(entries: &BTreeMap<OsString, Entry>, path: &Path) -> bool {
    entries.get(path.as_os_str()).is_some_and(|it| it.kind == FileType::Directory)
}

fn file_name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

fn times(modified: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: modified.div_euclid(NANOSECONDS),
            tv_nsec: modified.rem_euclid(NANOSECONDS),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn entry(path: &str, kind: FileType) -> Entry {
        Entry {
            path: path.into(),
            kind,
            mode: 0o755,
            size: 3,
            modified: 1_500_000_000_000_000_007,
            link: String::new(),
            device: (0, 0),
            attributes: BTreeMap::new(),
        }
    }

    fn directory(path: &str) -> Entry {
        entry(path, FileType::Directory)
    }

    fn file(path: &str) -> Entry {
        Entry { mode: 0o640, ..entry(path, FileType::RegularFile) }
    }

    fn link(path: &str, kind: FileType, to: &str) -> Entry {
        Entry { link: to.to_owned(), ..entry(path, kind) }
    }

    struct Test {
        _temp: tempfile::TempDir,
        synced: Synced,
        root: PathBuf,
    }

    impl Test {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let store = ImageStore::open(temp.path(), crate::image::Settings::default()).unwrap();
            let synced = Synced::begin(&store).unwrap();
            let root = synced.context.directory().unwrap();
            Self { _temp: temp, synced, root }
        }

        /// A pass; the paths whose content was asked for.
        fn pass(&mut self, entries: &[Entry]) -> Vec<String> {
            let mut asked = Vec::new();
            for entry in entries {
                if self.synced.take(entry.clone()).unwrap() {
                    asked.push(entry.clone());
                }
            }
            for entry in &asked {
                let mut file = self.synced.open(entry).unwrap();
                file.write_all(entry.path.as_os_str().as_encoded_bytes()).unwrap();
                self.synced.close(entry, &file).unwrap();
            }
            self.synced.finish().unwrap();
            asked.iter().map(|entry| entry.path.display().to_string()).collect()
        }

        fn read(&self, path: &str) -> String {
            std::fs::read_to_string(self.root.join(path)).unwrap()
        }
    }

    #[tokio::test]
    async fn only_what_changed_is_asked_for_and_what_is_gone_goes() {
        let mut test = Test::new();
        let first = [
            directory("a"),
            file("a/one"),
            file("a/two"),
            link("a/two-too", FileType::RegularFile, "a/two"),
            directory("b"),
            directory("b/c"),
            file("b/c/deep"),
            link("here", FileType::Symlink, "a/one"),
        ];
        assert_eq!(test.pass(&first), ["a/one", "a/two", "b/c/deep"]);
        assert_eq!(test.read("here"), "a/one");
        assert_eq!(test.read("a/two-too"), "a/two");
        let seen = std::fs::metadata(test.root.join("a/one")).unwrap();
        assert_eq!(
            (seen.mode() & 0o7777, seen.mtime(), seen.mtime_nsec()),
            (0o640, 1_500_000_000, 7)
        );
        let seen = std::fs::metadata(test.root.join("a")).unwrap();
        assert_eq!((seen.mode() & 0o7777, seen.mtime()), (0o755, 1_500_000_000));
        assert!(test.pass(&first).is_empty());

        // A file that changed, a directory that is a file now and a file that is a directory.
        let second = [
            directory("a"),
            Entry { size: 4, ..file("a/one") },
            directory("a/two"),
            file("a/two/new"),
            file("b"),
        ];
        assert_eq!(test.pass(&second), ["a/one", "a/two/new", "b"]);
        let mut left: Vec<_> = std::fs::read_dir(test.root.join("a"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["one", "two"]);
        assert_eq!(test.read("b"), "b");
        assert!(!test.root.join("here").is_symlink());
        assert_eq!(test.pass(&[]), [""; 0]);
        assert_eq!(std::fs::read_dir(&test.root).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn no_path_leads_elsewhere() {
        let mut test = Test::new();
        let outside = tempfile::tempdir().unwrap();
        test.synced.take(link("out", FileType::Symlink, outside.path().to_str().unwrap())).unwrap();
        test.synced.take(file("file")).unwrap();
        for path in [
            "",
            ".",
            "..",
            "../x",
            "/etc/x",
            "out/x",
            "file/x",
            "missing/x",
            "file",
            "./x",
            "x/",
            "a//b",
        ] {
            assert!(test.synced.take(file(path)).is_err(), "{path}");
        }
        for first in ["out", "../x", "/etc/passwd", "missing"] {
            let linked = link("linked", FileType::RegularFile, first);
            assert!(test.synced.take(linked).is_err(), "{first}");
        }
        let gone = entry("gone", FileType::CharacterDevice);
        assert!(test.synced.take(gone).unwrap_err().chain().contains("0:0"));
        // A link that was followed by nobody, and is in nobody's way.
        symlink(outside.path(), test.root.join("planted")).unwrap();
        assert!(test.synced.take(directory("planted")).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
