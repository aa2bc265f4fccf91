//! Hard links to files that only a layer below has.
//!
//! An archive of the changes between two trees may give an old file a new name. The layers of an
//! image are unpacked at the same time, so the new name first stands for an empty placeholder.
//! When the base is complete it gets what the old name shows there, and the old name is linked to
//! it in this layer too, as overlayfs does when such a link is made: both stay one file.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::implied::{open_root, openat, times_of};
use super::tar::shown;
use super::tree::{split, stat_at};
use super::whiteout::{Place, join};
use crate::error::{Context, Error, Result};
use crate::image::xattr;

/// Holds the number of the [`Borrowed`] that a placeholder stands for. A name alone would not do:
/// a later member may have taken it.
const MARK: &str = "trusted.cais.borrowed";

const BLOCK: u64 = 4096;

/// A file of a layer below, and its new names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) struct Borrowed {
    target: Vec<u8>,
    names: Vec<Vec<u8>>,
}

/// What an archive borrows, while it is read.
#[derive(Default)]
pub(super) struct Loans {
    all: Vec<Borrowed>,
    by_target: HashMap<Vec<u8>, usize>,
}

impl Loans {
    pub(super) fn into_borrowed(self) -> Vec<Borrowed> {
        self.all
    }

    /// Makes `place`, in the directory `parent`, a placeholder for `target`. The name is free.
    pub(super) fn borrow(
        &mut self,
        root: &OwnedFd,
        target: &Place<'_>,
        place: &Place<'_>,
        parent: &OwnedFd,
    ) -> rustix::io::Result<()> {
        let target = target.path();
        let known = self.by_target.get(&target).copied();
        if let Some(number) = known
            && let Some(loan) = self.all.get_mut(number)
            && let Some((other, name)) = loan.placeholder(root, number)
        {
            rustix::fs::linkat(&other, name, parent, place.name, AtFlags::empty())?;
            loan.names.push(place.path());
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, place.name, flags, Mode::empty())?;
        let number = self.all.len();
        rustix::fs::fsetxattr(&file, MARK, number.to_string().as_bytes(), XattrFlags::CREATE)?;
        self.by_target.insert(target.clone(), number);
        self.all.push(Borrowed { target, names: vec![place.path()] });
        Ok(())
    }

    /// `place` was linked to the file `from`/`name`: if that is a placeholder, this is one more
    /// name of it.
    pub(super) fn linked(&mut self, from: &OwnedFd, name: &[u8], place: &Place<'_>) {
        if self.all.is_empty() {
            return;
        }
        if let Some(number) = open_marked(from, name).and_then(|file| mark(&file))
            && let Some(loan) = self.all.get_mut(number)
        {
            loan.names.push(place.path());
        }
    }
}

/// What was made of the borrowed files.
#[derive(Debug, Default)]
pub(in crate::image) struct Filled {
    /// Of the copies, in whole blocks.
    pub(in crate::image) size: u64,
    /// Directories that the old names needed, for [`super::fill_implied`].
    pub(in crate::image) implied: Vec<Vec<u8>>,
}

/// Gives the placeholders in `files` what `base`, the layers below as one tree, has under the old
/// names.
pub(in crate::image) fn fill_borrowed(
    files: &Path,
    base: &OwnedFd,
    borrowed: &[Borrowed],
) -> Result<Filled> {
    let layer = open_root(files)?;
    let mut filled = Filled::default();
    for (number, loan) in borrowed.iter().enumerate() {
        loan.fill(number, &layer, base, &mut filled)
            .with_context(|| format!("hard link to {}", shown(&loan.target)))?;
    }
    Ok(filled)
}

impl Borrowed {
    /// The directory and the last part of a name that still stands for this loan.
    fn placeholder(&self, root: &OwnedFd, number: usize) -> Option<(OwnedFd, &[u8])> {
        self.names.iter().find_map(|path| {
            let (above, name) = split(path);
            let parent = open_parent(root, above).ok()?;
            let file = open_marked(&parent, name)?;
            (mark(&file) == Some(number)).then_some((parent, name))
        })
    }

    fn fill(
        &self,
        number: usize,
        layer: &OwnedFd,
        base: &OwnedFd,
        filled: &mut Filled,
    ) -> Result<()> {
        // Later members may have taken every name of it.
        let Some((parent, name)) = self.placeholder(layer, number) else { return Ok(()) };
        let missing = || Error::invalid("neither the layer nor those below it have this file");
        let (above, old_name) = split(&self.target);
        let old_parent = match open_parent(base, above) {
            Ok(old_parent) => old_parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            Err(errno) => return Err(errno).context("open its directory"),
        };
        let stat = match rustix::fs::statat(&old_parent, old_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(missing()),
            Err(errno) => return Err(errno).context("stat"),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Err(Error::invalid("a hard link to a directory")),
            FileType::RegularFile => {
                copy(&old_parent, old_name, &parent, name)?;
                filled.size += u64::try_from(stat.st_size).unwrap_or(0).next_multiple_of(BLOCK);
            }
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                let made = Node { stat: &stat, old_parent: &old_parent, old_name };
                self.replace(number, layer, &made)?;
            }
        }
        give_attributes(&stat, &parent, name)?;
        self.link_up(layer, base, (&parent, name), &mut filled.implied)
    }

    /// Puts what has no data in the place of every name of the placeholder.
    fn replace(&self, number: usize, layer: &OwnedFd, node: &Node<'_>) -> Result<()> {
        let mut first: Option<(OwnedFd, &[u8])> = None;
        for path in &self.names {
            let (above, name) = split(path);
            let Ok(parent) = open_parent(layer, above) else { continue };
            let Some(file) = open_marked(&parent, name) else { continue };
            if mark(&file) != Some(number) {
                continue;
            }
            keeping_times(&parent, || {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty()).context("unlink")?;
                match &first {
                    None => node.make(&parent, name),
                    Some((other, other_name)) => {
                        rustix::fs::linkat(other, *other_name, &parent, name, AtFlags::empty())
                            .context("link")
                    }
                }
            })?;
            first.get_or_insert((parent, name));
        }
        Ok(())
    }

    /// Gives the old name in this layer to the new file, unless the layer says otherwise about it.
    /// Behind a symbolic link of the base the old name stays what it was: this layer's copy would
    /// hide that link.
    fn link_up(
        &self,
        layer: &OwnedFd,
        base: &OwnedFd,
        (parent, name): (&OwnedFd, &[u8]),
        implied: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        let (above, old_name) = split(&self.target);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = ResolveFlags::NO_SYMLINKS;
        if !above.is_empty() && openat(base, above, flags, plain).is_err() {
            return Ok(());
        }
        let mut directory = open_parent(layer, b"").context("open the layer's root")?;
        let mut path = Vec::new();
        for part in above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            path = join(&path, part);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = || rustix::fs::openat(&directory, part, flags, Mode::empty());
            let below = match open() {
                Err(Errno::NOENT) => {
                    keeping_times(&directory, || {
                        rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o755))
                            .context("make its directory")
                    })?;
                    implied.push(path.clone());
                    open()
                }
                other => other,
            };
            match below {
                Ok(below) => directory = below,
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                Err(errno) => return Err(errno).context("open its directory"),
            }
        }
        keeping_times(&directory, || {
            match rustix::fs::linkat(parent, name, &directory, old_name, AtFlags::empty()) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno).context("link the old name"),
            }
        })
    }
}

/// A symbolic link, device or fifo to be made again.
struct Node<'a> {
    stat: &'a Stat,
    old_parent: &'a OwnedFd,
    old_name: &'a [u8],
}

impl Node<'_> {
    fn make(&self, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let kind = FileType::from_raw_mode(self.stat.st_mode);
        if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(self.old_parent, self.old_name, Vec::new())
                .context("read the link")?;
            return rustix::fs::symlinkat(target, parent, name).context("make the link");
        }
        rustix::fs::mknodat(parent, name, kind, Mode::empty(), self.stat.st_rdev)
            .context("make the node")
    }
}

/// The content and the extended attributes of a file.
fn copy(old_parent: &OwnedFd, old_name: &[u8], parent: &OwnedFd, name: &[u8]) -> Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::LARGEFILE;
    let open = |parent, name, mode| {
        rustix::fs::openat(parent, name, flags | mode, Mode::empty()).map(File::from)
    };
    let mut source = open(old_parent, old_name, OFlags::RDONLY).context("open")?;
    let mut file = open(parent, name, OFlags::WRONLY).context("open the new name")?;
    rustix::fs::fremovexattr(&file, MARK).context("take the mark away")?;
    std::io::copy(&mut source, &mut file).context("copy")?;
    copy_xattrs(&source, &file)
}

fn copy_xattrs(source: &File, file: &File) -> Result<()> {
    for name in xattr::names(source.as_fd()).context("list attributes")? {
        let context = || format!("copy attribute {}", name.to_string_lossy());
        let value = xattr::value(source.as_fd(), &name).with_context(context)?;
        rustix::fs::fsetxattr(file, &*name, &value, XattrFlags::empty()).with_context(context)?;
    }
    Ok(())
}

fn give_attributes(stat: &Stat, parent: &OwnedFd, name: &[u8]) -> Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags).context("chown")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // Nobody else can reach the layer, so it has not become a link meanwhile.
        let mode = Mode::from_raw_mode(stat.st_mode);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).context("chmod")?;
    }
    rustix::fs::utimensat(parent, name, &times_of(stat), flags).context("set times")
}

/// What is done in a directory leaves its time as the archive set it.
fn keeping_times(directory: &OwnedFd, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let stat = rustix::fs::fstat(directory).context("stat the directory")?;
    work()?;
    rustix::fs::futimens(directory, &times_of(&stat)).context("set times")
}

fn open_parent(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(root, path, flags, ResolveFlags::empty())
}

/// A regular file, so that neither a fifo blocks nor a device is touched.
fn open_marked(parent: &OwnedFd, name: &[u8]) -> Option<OwnedFd> {
    let stat = stat_at(parent, name).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).ok()
}

fn mark(file: impl AsFd) -> Option<usize> {
    let mut value = [0; 20];
    let size = rustix::fs::fgetxattr(file, MARK, &mut value[..]).ok()?;
    std::str::from_utf8(value.get(..size)?).ok()?.parse().ok()
}
