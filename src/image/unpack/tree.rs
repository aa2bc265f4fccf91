//! The directories of a layer being unpacked: found under its root descriptor, opened once.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::tar::shown;
use super::whiteout::join;
use crate::error::{Context, Error, Result};

/// Enough for the usual order of archives, which finish a directory before they leave it.
const MOST_CACHED: usize = 64;
const MOST_LINKS: usize = 40;

pub(super) struct Tree {
    root: Rc<OwnedFd>,
    cache: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directories that were made because a member needs them.
    implied: BTreeSet<Vec<u8>>,
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).context("open the layer's root")?;
        Ok(Self { root: Rc::new(root), cache: HashMap::new(), implied: BTreeSet::new() })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    pub(super) fn into_implied(self) -> Vec<Vec<u8>> {
        // In byte order a directory comes before what is in it.
        self.implied.into_iter().collect()
    }

    /// A member described this directory after all.
    pub(super) fn described(&mut self, path: &[u8]) {
        self.implied.remove(path);
    }

    /// The directory a member goes into, made if it is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(fd) = self.cache.get(path) {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(self.open_or_make(path, MOST_LINKS)?);
        if self.cache.len() >= MOST_CACHED {
            self.cache.clear();
        }
        self.cache.insert(path.to_vec(), Rc::clone(&fd));
        Ok(fd)
    }

    /// The directory if it is there.
    pub(super) fn existing(&self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>> {
        if path.is_empty() {
            return Ok(Some(Rc::clone(&self.root)));
        }
        if let Some(fd) = self.cache.get(path) {
            return Ok(Some(Rc::clone(fd)));
        }
        match self.resolve(path) {
            Ok(fd) => Ok(Some(Rc::new(fd))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno).with_context(|| format!("open {}", shown(path))),
        }
    }

    fn resolve(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&*self.root, path, flags, Mode::empty(), how) {
                // The kernel could not rule out a concurrent rename somewhere on the host.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn open_or_make(&mut self, path: &[u8], links: usize) -> Result<OwnedFd> {
        match self.resolve(path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno).with_context(|| format!("open {}", shown(path))),
        }
        let (above, name) = split(path);
        let parent =
            if above.is_empty() { Rc::clone(&self.root) } else { self.parent_again(above, links)? };
        match rustix::fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                self.implied.insert(path.to_vec());
            }
            Err(Errno::EXIST) => {
                let stat = stat_at(&parent, name)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                    // To a directory that only a layer below has.
                    return self.open_link(&parent, path, links);
                }
                if !is_whiteout(&stat) {
                    return Err(Error::invalid(format!("{} is not a directory", shown(path))));
                }
                replace_whiteout(&parent, name, Mode::from_raw_mode(0o755))?;
                self.implied.insert(path.to_vec());
            }
            Err(errno) => {
                return Err(errno).with_context(|| format!("make directory {}", shown(path)));
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&*parent, name, flags, Mode::empty())
            .with_context(|| format!("open {}", shown(path)))
    }

    fn parent_again(&mut self, path: &[u8], links: usize) -> Result<Rc<OwnedFd>> {
        match self.cache.get(path) {
            Some(fd) => Ok(Rc::clone(fd)),
            None => self.open_or_make(path, links).map(Rc::new),
        }
    }

    fn open_link(&mut self, parent: &OwnedFd, path: &[u8], links: usize) -> Result<OwnedFd> {
        let Some(links) = links.checked_sub(1) else {
            return Err(Error::invalid(format!("{} has too many symbolic links", shown(path))));
        };
        let (above, name) = split(path);
        let target = rustix::fs::readlinkat(parent, name, Vec::new())
            .with_context(|| format!("read link {}", shown(path)))?;
        let target = target.as_bytes();
        // Clamped at the root like the kernel does under RESOLVE_IN_ROOT.
        let mut parts: Vec<&[u8]> = match target.first() {
            Some(b'/') => Vec::new(),
            _ => above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect(),
        };
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let target = parts.join(&b'/');
        if target.is_empty() || target == path {
            return Err(Error::invalid(format!("{} is not a directory", shown(path))));
        }
        self.open_or_make(&target, links)
    }

    /// Makes way for another member of the same name: the later one counts.
    pub(super) fn displace(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let context = || format!("replace {}", shown(name));
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) => {
                remove_directory(parent, name).with_context(context)?;
            }
            Err(errno) => return Err(errno).with_context(context),
        }
        // A cached path may have led through what is gone.
        self.cache.clear();
        Ok(())
    }

    pub(super) fn forget_below(&mut self, path: &[u8]) {
        let below = join(path, b"");
        self.implied.retain(|implied| implied != path && !implied.starts_with(&below));
    }
}

pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

pub(super) fn stat_at(parent: &OwnedFd, name: &[u8]) -> Result<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("stat {}", shown(name)))
}

/// overlayfs' sign that a name of a layer below is hidden.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// A directory where this layer hides one of the layers below: nothing of that one shows through.
pub(super) fn replace_whiteout(parent: &OwnedFd, name: &[u8], mode: Mode) -> Result<()> {
    let context = || format!("make directory {}", shown(name));
    rustix::fs::unlinkat(parent, name, AtFlags::empty()).with_context(context)?;
    rustix::fs::mkdirat(parent, name, mode).with_context(context)?;
    make_opaque(parent, name)
}

pub(super) fn make_opaque(parent: &OwnedFd, name: &[u8]) -> Result<()> {
    let fd = open_directory(parent, name)?;
    rustix::fs::fsetxattr(&fd, "trusted.overlay.opaque", b"y", XattrFlags::empty())
        .with_context(|| format!("make {} opaque", shown(name)))
}

/// With rights to read it and to change its attributes.
pub(super) fn open_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .with_context(|| format!("open {}", shown(name)))
}

/// Depth is bounded by the longest path a member may have.
fn remove_directory(parent: &OwnedFd, name: &[u8]) -> Result<()> {
    let fd = open_directory(parent, name)?;
    let context = || format!("remove {}", shown(name));
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push((name, entry.file_type()));
        }
    }
    for (name, kind) in names {
        if kind == FileType::Directory {
            remove_directory(&fd, &name)?;
        } else {
            rustix::fs::unlinkat(&fd, name.as_slice(), AtFlags::empty()).with_context(context)?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).with_context(context)
}
