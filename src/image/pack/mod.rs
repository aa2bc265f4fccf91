//! Archives of directories: a writable layer as an image layer, a tmpfs, a volume, the files of a
//! checkpoint.
//!
//! The tree belongs to a container. It is walked by descriptors and never through a link. A file
//! that changes meanwhile has the length that was seen first.

mod ahead;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, StatxFlags, major, minor};
use tar::{Builder, EntryType, Header};

use self::ahead::{AT_ONCE, Content, Helper, Loaded, Opened};
use super::{named, xattr};
use crate::error::{Context, Error, Kind, Result};

/// Overlayfs keeps its own notes in attributes that begin so.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// In an archive a name that is gone, and a directory that hides the one below it (OCI image spec).
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Read at once of a file, in bytes.
const READ: usize = 256 << 10;
/// Nested directories, also in archives that are read (`unpack`): walks of layers go down as deep.
pub(crate) const DEEPEST: usize = 256;
/// statfs(2): proc, sysfs, cgroup, cgroup2, devpts, mqueue.
const KERNELS: [u32; 6] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x1cd1, 0x1980_0202];

/// Writes `root` and all below it. What overlayfs means by devices and attributes becomes what
/// image layers mean by names. Sockets are left out: they exist by whoever listens.
pub(crate) fn write<W: Write>(root: &OwnedFd, out: W) -> Result<W> {
    write_as(root, Path::new(""), Extent::Everything, out)
}

/// How far down a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Everything,
    /// What is mounted below is an empty directory.
    OneMount,
    /// Not into the kernel's own file systems: `/proc`, `/sys` and their like.
    Files,
}

/// As [`write`], with `name` in the place of the root's; an empty one is the archive's root, and `.` is that with
/// names that begin with it.
pub(crate) fn write_as<W: Write>(root: &OwnedFd, name: &Path, extent: Extent, out: W) -> Result<W> {
    finish(out, root, extent, |writer| writer.whole(root, name))
}

/// One tree of several.
pub(crate) struct Tree {
    /// Of its root; empty: it is at the top.
    pub(crate) name: PathBuf,
    pub(crate) root: OwnedFd,
    /// Names and contents of files in its root that it does not have itself, or has others of. In the order of the names.
    pub(crate) more: Vec<(String, Vec<u8>)>,
    /// Of those, seconds since the epoch.
    pub(crate) time: u64,
}

/// All of them.
///
/// # Errors
/// `InvalidArgument` for none.
pub(crate) fn write_each<W: Write>(trees: &[Tree], extent: Extent, out: W) -> Result<W> {
    let first = trees.first().ok_or_else(|| Error::invalid("there are no files"))?;
    finish(out, &first.root, extent, |writer| {
        trees.iter().try_for_each(|tree| {
            writer.whole(&tree.root, &tree.name)?;
            // Of two members with one name the later counts.
            tree.more.iter().try_for_each(|(name, content)| {
                writer.document(&tree.name.join(name), content, tree.time)
            })
        })
    })
}

/// The one member `name` of a directory, which is none itself, under another name.
pub(crate) fn write_one<W: Write>(
    parent: &OwnedFd,
    name: &CStr,
    shown: &Path,
    out: W,
) -> Result<W> {
    finish(out, parent, Extent::Everything, |writer| {
        let loaded = Loaded::of(parent.as_fd(), name)?;
        writer.member(parent.as_fd(), name, shown, loaded)
    })
}

fn finish<W: Write>(
    out: W,
    root: &OwnedFd,
    extent: Extent,
    write: impl FnOnce(&mut Writer<W>) -> io::Result<()>,
) -> Result<W> {
    let mount = mount_of(root.as_fd()).context("write the archive")?;
    let (builder, links) = (Builder::new(out), HashMap::new());
    let mut writer = Writer { builder, links, mount, extent, helper: None };
    let outcome = write(&mut writer);
    let finished = outcome.and_then(|()| writer.builder.into_inner());
    finished.map_err(|error| {
        let timed_out = error.kind() == io::ErrorKind::TimedOut;
        let kind = if timed_out { Kind::Timeout } else { Kind::Internal };
        Error::new(kind, format!("write the archive: {error}"))
    })
}

/// Opens a directory to be written, not through a link.
pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

struct Writer<W: Write> {
    builder: Builder<W>,
    /// Files with several names, by device and inode, under the first name.
    links: HashMap<(u64, u64), PathBuf>,
    /// That of the root.
    mount: u64,
    extent: Extent,
    /// As soon as there is a directory that is worth one.
    helper: Option<Helper>,
}

impl<W: Write> Writer<W> {
    fn whole(&mut self, root: &OwnedFd, name: &Path) -> io::Result<()> {
        let stat = rustix::fs::fstat(root)?;
        self.attributes(root.as_fd())?;
        let is_root = name.as_os_str().is_empty() || name == Path::new(".");
        let shown = if is_root { Path::new("./") } else { name };
        self.empty(&stat, EntryType::Directory, shown)?;
        self.directory(root.as_fd(), name)
    }

    fn is_barred(&self, directory: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(match self.extent {
            Extent::Everything => false,
            Extent::OneMount => mount_of(directory)? != self.mount,
            Extent::Files => {
                let kind = rustix::fs::fstatfs(directory)?.f_type;
                u32::try_from(kind).is_ok_and(|kind| KERNELS.contains(&kind))
            }
        })
    }

    fn directory(&mut self, directory: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        let names = names(directory)?;
        let is_too_deep = path.components().count() >= DEEPEST;
        if is_too_deep && !names.is_empty() {
            return Err(io::Error::other("directories are nested deeper than 256"));
        }
        for names in names.chunks(AT_ONCE) {
            let loaded = ahead::load_all(&mut self.helper, directory, names)?;
            for (name, loaded) in names.iter().zip(loaded) {
                let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
                self.member(directory, name, &path, loaded?)?;
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        loaded: Loaded,
    ) -> io::Result<()> {
        if FileType::from_raw_mode(loaded.stat.st_mode) == FileType::Directory {
            return self.below(parent, name, path, &loaded.stat);
        }
        self.leaf(parent, name, path, loaded)
    }

    /// What is no directory.
    fn leaf(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        loaded: Loaded,
    ) -> io::Result<()> {
        let Loaded { stat, opened } = loaded;
        if stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.into());
            if first.as_path() != path {
                let mut header = header(&stat, EntryType::Link);
                return named::append_link(&mut self.builder, &mut header, path, &*first);
            }
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => match opened {
                Some(opened) => self.file(path, opened),
                None => self.file(path, Opened::of(parent, name)?),
            },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
                let mut header = header(&stat, EntryType::Symlink);
                named::append_link(&mut self.builder, &mut header, path, target)
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                let name = [WHITEOUT, name.to_bytes()].concat();
                self.marker(&path.with_file_name(std::ffi::OsStr::from_bytes(&name)))
            }
            FileType::CharacterDevice => self.device(&stat, EntryType::Char, path),
            FileType::BlockDevice => self.device(&stat, EntryType::Block, path),
            FileType::Fifo => self.empty(&stat, EntryType::Fifo, path),
            FileType::Directory | FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    /// A directory and all in it. Walks are as deep as trees are, so this has little on its stack.
    fn below(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        stat: &Stat,
    ) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        self.attributes(opened.as_fd())?;
        self.empty(stat, EntryType::Directory, path)?;
        if self.is_barred(opened.as_fd())? {
            return Ok(());
        }
        if is_opaque(opened.as_fd())? {
            self.marker(&path.join(OPAQUE))?;
        }
        self.directory(opened.as_fd(), path)
    }

    fn empty(&mut self, stat: &Stat, kind: EntryType, path: &Path) -> io::Result<()> {
        named::append(&mut self.builder, &mut header(stat, kind), path, io::empty())
    }

    fn file(&mut self, path: &Path, opened: Opened) -> io::Result<()> {
        let Opened { stat, attributes, content } = opened;
        self.records(&attributes)?;
        let mut header = header(&stat, EntryType::Regular);
        let size = stat.st_size.unsigned_abs();
        header.set_size(size);
        match content {
            Content::Whole(bytes) => {
                named::append(&mut self.builder, &mut header, path, &bytes[..])
            }
            Content::File(file) => {
                // The archive is written in much smaller pieces.
                let file = BufReader::with_capacity(READ, file);
                // What is missing by now is zeros.
                let data = file.chain(io::repeat(0)).take(size);
                named::append(&mut self.builder, &mut header, path, data)
            }
        }
    }

    fn device(&mut self, stat: &Stat, kind: EntryType, path: &Path) -> io::Result<()> {
        let mut header = header(stat, kind);
        header.set_device_major(major(stat.st_rdev))?;
        header.set_device_minor(minor(stat.st_rdev))?;
        named::append(&mut self.builder, &mut header, path, io::empty())
    }

    fn document(&mut self, path: &Path, content: &[u8], time: u64) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(time);
        header.set_size(content.len() as u64);
        named::append(&mut self.builder, &mut header, path, content)
    }

    fn marker(&mut self, path: &Path) -> io::Result<()> {
        self.document(path, &[], 0)
    }

    fn attributes(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.records(&ahead::attributes(file)?)
    }

    /// Of the member that follows.
    fn records(&mut self, records: &[(String, Vec<u8>)]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)
    }
}

/// A directory's names in byte order, without the two that lead elsewhere.
pub(crate) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}

fn mount_of(file: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn is_opaque(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let name = c"trusted.overlay.opaque";
    let names = xattr::names(directory)?;
    Ok(names.iter().any(|it| it.as_c_str() == name) && xattr::value(directory, name)? == b"y")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::store::remove::{make_deep, remove_tree};

    #[test]
    fn a_tree_that_no_archive_may_have_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (deep, deepest) = (directory.path().join("deep"), directory.path().join("deepest"));
        for (path, depth) in [(&deepest, DEEPEST), (&deep, 5_000)] {
            std::fs::create_dir(path).unwrap();
            make_deep(path, depth);
        }

        write(&open(&deepest).unwrap(), io::sink()).unwrap();
        let refused = write(&open(&deep).unwrap(), io::sink()).unwrap_err();

        remove_tree(&deep).unwrap();
        assert!(refused.chain().contains("nested deeper than 256"), "{}", refused.chain());
    }

    #[test]
    fn many_files_are_written_in_their_order_whoever_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let (names, mut expected) = (0..300, Vec::new());
        for name in names.map(|number| format!("{number:03}")) {
            let file = directory.path().join(&name);
            match name.strip_suffix('7') {
                // Another name of the file before it.
                Some(tens) => {
                    std::fs::hard_link(directory.path().join(format!("{tens}6")), file).unwrap();
                }
                None => File::create(file).unwrap().write_all(name.repeat(66).as_bytes()).unwrap(),
            }
            expected.push(name);
        }
        let large = directory.path().join("large");
        File::create(large).unwrap().write_all(&[b'x'; 100_000]).unwrap();
        expected.push("large".to_owned());

        let bytes = write(&open(directory.path()).unwrap(), Vec::new()).unwrap();

        let mut archive = tar::Archive::new(&bytes[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap().skip(1) {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let content = match name.as_str() {
                "large" => "x".repeat(100_000),
                linked if linked.ends_with('7') => String::new(),
                other => other.repeat(66),
            };
            assert_eq!(
                (entry.header().entry_type() == EntryType::Link, text == content),
                (name.ends_with('7'), true),
                "{name}"
            );
            found.push(name);
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_tree_is_written_with_links_long_names_and_without_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let long = "d".repeat(150);
        std::fs::create_dir(root.join(&long)).unwrap();
        let mut file = File::create(root.join(&long).join("file")).unwrap();
        file.write_all(b"content").unwrap();
        std::fs::hard_link(root.join(&long).join("file"), root.join("second")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let bytes = write(&open(root).unwrap(), Vec::new()).unwrap();

        let mut archive = tar::Archive::new(&bytes[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let link = entry.link_name().unwrap().map(|it| it.display().to_string());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((path, entry.header().entry_type(), link, text));
        }
        let file = format!("{long}/file");
        let expected = [
            ("./".to_owned(), EntryType::Directory, None, ""),
            (long, EntryType::Directory, None, ""),
            (file.clone(), EntryType::Regular, None, "content"),
            ("link".to_owned(), EntryType::Symlink, Some("/nowhere".to_owned()), ""),
            ("second".to_owned(), EntryType::Link, Some(file), ""),
        ];
        let expected = expected.map(|(path, kind, link, text)| (path, kind, link, text.to_owned()));
        assert_eq!(found, expected);
    }
}
