//! Files to their places.
//!
//! Everything new is made with `*at` calls on its parent's descriptor. A file that is in the way is
//! removed first, so that nothing is written through somebody's link.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::find::{Found, c_name, follow, lstat};
use super::{
    Ownership, Placing, attributes, check_depth, kind_of, names, open, open_below, open_file, shown,
};
use crate::error::{Context, Error, Result};

/// Read at once.
const PIECE: usize = 128 << 10;
/// Members of a directory.
const WORTH_A_THREAD: usize = 16;

/// Copies sources to a path below a root. With a slash at its end, or of several sources, the path
/// is that of a directory.
///
/// # Errors
/// `InvalidArgument` where a file is in the way of a directory, or a directory in that of a file.
pub(in crate::builder) fn place(
    root: BorrowedFd<'_>,
    sources: &[Found],
    (target, is_directory): (&Path, bool),
    placing: &Placing<'_>,
) -> Result<()> {
    // The kernel is asked for it in several files, and most copies need no other thread.
    let spare: LazyLock<AtomicUsize> = LazyLock::new(|| {
        AtomicUsize::new(thread::available_parallelism().map_or(1, NonZero::get) - 1)
    });
    for source in sources {
        // Of each source its own: another one may replace what this one made.
        let links = Mutex::new(HashMap::new());
        let mut copy =
            Copy::new(Job { root, placing, source: &source.place, links: &links, spare: &spare });
        let target = match (placing.parents, source.path.parent()) {
            (true, Some(parent)) => target.join(parent),
            _ => target.to_owned(),
        };
        copy.one(source, &target, is_directory || placing.parents)
            .with_context(|| format!("copy {}", shown(&source.path)))?;
    }
    Ok(())
}

/// Makes a directory and those above it, of this owner; one that is there stays as it is.
pub(in crate::builder) fn make_directory(
    root: BorrowedFd<'_>,
    path: &Path,
    owner: (u32, u32),
) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match open_below(root, path, flags) {
        Ok(directory) => return Ok(directory),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR) => {
            return Err(Error::invalid(format!("/{} is not a directory", shown(path))));
        }
        Err(errno) => return Err(errno).with_context(|| format!("open /{}", shown(path))),
    }
    let above = make_directory(root, path.parent().unwrap_or(Path::new("")), owner)?;
    let name = c_name(path.file_name().unwrap_or_default())?;
    let context = || format!("make directory /{}", shown(path));
    match rustix::fs::mkdirat(&above, name.as_c_str(), Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let shown = shown(path);
            return Err(Error::invalid(format!("/{shown} is a link that leads nowhere")));
        }
        Err(errno) => return Err(errno).with_context(context),
    }
    let made = open(above.as_fd(), &name, flags)?;
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::fchown(&made, Some(uid), Some(gid)).with_context(context)?;
    // Whatever this process's mask says.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).with_context(context)?;
    Ok(made)
}

/// What the threads that copy one source have in common.
#[derive(Clone, Copy)]
struct Job<'a> {
    root: BorrowedFd<'a>,
    placing: &'a Placing<'a>,
    /// Where the source lies that is copied.
    source: &'a Path,
    /// Files of several names, by device and inode, under the first that was made.
    links: &'a Mutex<HashMap<(u64, u64), PathBuf>>,
    /// Threads that may be started.
    spare: &'a LazyLock<AtomicUsize>,
}

/// One thread's.
struct Copy<'a> {
    job: Job<'a>,
    buffer: Vec<u8>,
}

/// Where one file comes to lie.
#[derive(Clone, Copy)]
struct Spot<'a> {
    parent: BorrowedFd<'a>,
    name: &'a CStr,
    /// Below the root.
    path: &'a Path,
    /// This copy has made the directory: nothing is in the way.
    is_new: bool,
}

impl Spot<'_> {
    /// Makes room for a new file.
    fn clear(&self) -> Result<()> {
        if self.is_new {
            return Ok(());
        }
        match rustix::fs::unlinkat(self.parent, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                let name = self.name.to_string_lossy();
                Err(Error::invalid(format!("cannot overwrite directory {name} with non-directory")))
            }
            Err(errno) => Err(errno).context("replace a file"),
        }
    }
}

impl<'a> Copy<'a> {
    fn new(job: Job<'a>) -> Self {
        Self { job, buffer: vec![0; PIECE] }
    }

    fn one(&mut self, source: &Found, target: &Path, is_directory: bool) -> Result<()> {
        let opened = source.open()?;
        let stat = rustix::fs::fstat(&opened).context("stat")?;
        if source.is_directory() {
            let named = match (self.job.placing.parents, source.name()) {
                (true, Some(name)) => target.join(name),
                _ => target.to_owned(),
            };
            let is_new = lstat(self.job.root, &named).is_err();
            let into = make_directory(self.job.root, &named, self.new_owner(&stat))?;
            if is_new && !named.as_os_str().is_empty() && !source.is_root {
                self.finish(into.as_fd(), &opened, &stat)?;
            }
            self.members(opened.as_fd(), (into.as_fd(), is_new), (Path::new(""), &named))?;
            if is_new && !source.is_root {
                set_times(into.as_fd(), &stat)?;
            }
            return Ok(());
        }
        let exists = open_below(self.job.root, target, OFlags::PATH | OFlags::DIRECTORY).is_ok();
        let (parent, name) = if is_directory || exists || target.as_os_str().is_empty() {
            (target.to_owned(), source.name().unwrap_or_default().to_owned())
        } else {
            let target = follow(self.job.root, target)?;
            let name = target.file_name().unwrap_or_default().to_owned();
            (target.parent().unwrap_or(Path::new("")).to_owned(), name)
        };
        let into = make_directory(self.job.root, &parent, self.new_owner(&stat))?;
        let (path, name) = (parent.join(&name), c_name(&name)?);
        let into = Spot { parent: into.as_fd(), name: &name, path: &path, is_new: false };
        self.file(opened, &stat, into)
    }

    /// Of directories that are made on the way.
    fn new_owner(&self, stat: &Stat) -> (u32, u32) {
        match self.job.placing.owner {
            Ownership::Given(uid, gid) => (uid, gid),
            Ownership::Kept if self.job.placing.parents => (stat.st_uid, stat.st_gid),
            Ownership::Kept => (0, 0),
        }
    }

    /// `path` is that below the source, `target` that below the root.
    fn members(
        &mut self,
        from: BorrowedFd<'_>,
        (into, is_new): (BorrowedFd<'_>, bool),
        (path, target): (&Path, &Path),
    ) -> Result<()> {
        check_depth(path)?;
        let names = names(from)?;
        let copy = |copy: &mut Self, names: &[CString]| {
            names.iter().try_for_each(|name| {
                let plain = OsStr::from_bytes(name.to_bytes());
                let (path, target) = (path.join(plain), target.join(plain));
                let into = Spot { parent: into, name, path: &target, is_new };
                copy.member(from, into, &path).with_context(|| format!("copy {}", shown(&path)))
            })
        };
        if names.len() < WORTH_A_THREAD || !self.take_thread() {
            return copy(self, &names);
        }
        let (here, there) = names.split_at(names.len() / 2);
        let job = self.job;
        thread::scope(|scope| {
            let other = move || {
                let copied = copy(&mut Copy::new(job), there);
                job.spare.fetch_add(1, Ordering::Relaxed);
                copied
            };
            // Where no more threads may be it is none that is spare.
            let Ok(other) = thread::Builder::new().name("copy".into()).spawn_scoped(scope, other)
            else {
                return copy(self, &names);
            };
            let copied = copy(self, here);
            let other =
                other.join().map_err(|_| Error::internal("a thread that copies is gone"))?;
            copied.and(other)
        })
    }

    /// Whether another thread may be started; whoever did gives it back.
    fn take_thread(&self) -> bool {
        let one_less = |spare: usize| spare.checked_sub(1);
        self.job.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    /// A member of the directory `from`, with the name that it is to have; `path` is that below the source.
    fn member(&mut self, from: BorrowedFd<'_>, into: Spot<'_>, path: &Path) -> Result<()> {
        let name = into.name;
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).context("stat")?;
        let excludes = self.job.placing.excludes;
        if kind_of(&stat) == FileType::Directory {
            let Some(below) = excludes.enter(from, name, (self.job.source, path))? else {
                return Ok(());
            };
            let (made, is_new) = self.directory(into, &below, &stat)?;
            self.members(below.as_fd(), (made.as_fd(), is_new), (path, into.path))?;
            return set_times(made.as_fd(), &stat);
        }
        if excludes.leaves_out(self.job.source, path) {
            return Ok(());
        }
        match kind_of(&stat) {
            FileType::RegularFile => {
                let (file, stat) = open_file(from, name)?;
                self.file(file, &stat, into)
            }
            FileType::Directory | FileType::Socket | FileType::Unknown => Ok(()),
            FileType::Symlink
            | FileType::Fifo
            | FileType::CharacterDevice
            | FileType::BlockDevice => self.node(from, into, &stat),
        }
    }

    /// Whether it was made, too.
    fn directory(
        &self,
        Spot { parent, name, .. }: Spot<'_>,
        source: &OwnedFd,
        stat: &Stat,
    ) -> Result<(OwnedFd, bool)> {
        let made = rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                if kind_of(&found.context("stat")?) != FileType::Directory {
                    let name = name.to_string_lossy();
                    return Err(Error::invalid(format!("cannot copy to non-directory: {name}")));
                }
            }
            Err(errno) => return Err(errno).context("make a directory"),
        }
        let directory = open(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.finish(directory.as_fd(), source, stat)?;
        Ok((directory, made.is_ok()))
    }

    fn file(&mut self, file: OwnedFd, stat: &Stat, into: Spot<'_>) -> Result<()> {
        into.clear()?;
        let Spot { parent, name, path, .. } = into;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || {
            let made = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
            made.context("make a file")
        };
        let made = if stat.st_nlink > 1 {
            let mut links = self.job.links.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = links.get(&key) {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let first = open_below(self.job.root, first, flags).context("open a hard link")?;
                return rustix::fs::linkat(&first, c"", parent, name, AtFlags::EMPTY_PATH)
                    .context("make a hard link");
            }
            // Whoever finds it has to find the file.
            let made = make()?;
            links.insert(key, path.to_owned());
            made
        } else {
            make()?
        };
        let (mut from, mut to) = (File::from(file), File::from(made));
        self.content(&mut from, &mut to).context("write a file")?;
        let (from, to) = (OwnedFd::from(from), OwnedFd::from(to));
        self.finish(to.as_fd(), &from, stat)?;
        set_times(to.as_fd(), stat)
    }

    /// Most files are small: one read and one write are less than what the kernel does to copy by itself, which
    /// large ones are left to.
    fn content(&mut self, from: &mut File, to: &mut File) -> io::Result<()> {
        loop {
            let count = match from.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            to.write_all(self.buffer.get(..count).unwrap_or_default())?;
            if count == self.buffer.len() {
                return io::copy(from, to).map(drop);
            }
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn node(&self, from: BorrowedFd<'_>, into: Spot<'_>, stat: &Stat) -> Result<()> {
        into.clear()?;
        let Spot { parent: into, name, .. } = into;
        let kind = kind_of(stat);
        if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(from, name, []).context("read a link")?;
            rustix::fs::symlinkat(target.as_c_str(), into, name).context("make a link")?;
        } else {
            let mode = Mode::from_raw_mode(self.mode(stat));
            rustix::fs::mknodat(into, name, kind, mode, stat.st_rdev).context("make a node")?;
        }
        let (uid, gid) = self.owner(stat);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(into, name, Some(uid), Some(gid), flags).context("chown")?;
        rustix::fs::utimensat(into, name, &times(stat), flags).context("set times")
    }

    /// Owner, mode and attributes, in the order in which the kernel leaves them alone.
    fn finish(&self, made: BorrowedFd<'_>, source: &OwnedFd, stat: &Stat) -> Result<()> {
        let (uid, gid) = self.owner(stat);
        rustix::fs::fchown(made, Some(uid), Some(gid)).context("chown")?;
        rustix::fs::fchmod(made, Mode::from_raw_mode(self.mode(stat))).context("chmod")?;
        for (name, value) in attributes(source.as_fd())? {
            rustix::fs::fsetxattr(made, name.as_c_str(), &value, XattrFlags::empty())
                .context("set an extended attribute")?;
        }
        Ok(())
    }

    fn owner(&self, stat: &Stat) -> (Uid, Gid) {
        let (uid, gid) = match self.job.placing.owner {
            Ownership::Kept => (stat.st_uid, stat.st_gid),
            Ownership::Given(uid, gid) => (uid, gid),
        };
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    fn mode(&self, stat: &Stat) -> u32 {
        let mode = stat.st_mode & 0o7777;
        let is_directory = kind_of(stat) == FileType::Directory;
        self.job.placing.chmod.map_or(mode, |chmod| chmod.apply(mode, is_directory))
    }
}

fn set_times(made: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
    rustix::fs::futimens(made, &times(stat)).context("set times")
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
    };
    Timestamps { last_access: time, last_modification: time }
}
