//! What the sources of a COPY are.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstat};
use rustix::io::Errno;

use super::wildcard::{has_wildcards, matches};
use super::{kind_of, names, open_below, shown};
use crate::engine::files::{below_root, where_it_is};
use crate::error::{Context, Error, Kind, Result};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;
/// Files that one pattern may mean.
const MOST_MATCHES: usize = 100_000;

/// One source. A link at its end was followed, below the root.
pub(in crate::builder) struct Found {
    /// Below the source's root, as it was named.
    pub(in crate::builder) path: PathBuf,
    /// The same, or where that leads.
    pub(in crate::builder) place: PathBuf,
    /// The root of a context: who checked it out where is nobody's business, and so are its mode and times.
    pub(in crate::builder) is_root: bool,
    /// Only where it is: directories and files are opened anew, through it.
    opened: OwnedFd,
    pub(super) stat: Stat,
}

impl Found {
    /// Nobody can read it.
    pub(in crate::builder) fn is_socket(&self) -> bool {
        kind_of(&self.stat) == FileType::Socket
    }

    pub(in crate::builder) fn is_directory(&self) -> bool {
        kind_of(&self.stat) == FileType::Directory
    }

    /// Its last name; none for the root.
    pub(super) fn name(&self) -> Option<&OsStr> {
        self.path.file_name()
    }

    /// With the place that it is at, where its path may have led through links.
    pub(in crate::builder) fn placed(self, root: BorrowedFd<'_>) -> Result<Self> {
        let place = where_it_is(root, &self.opened).context("follow a path")?;
        Ok(Self { place, ..self })
    }

    /// # Errors
    /// `InvalidArgument` for what cannot be read: a device, a socket.
    pub(in crate::builder) fn open(&self) -> Result<OwnedFd> {
        let flags = match kind_of(&self.stat) {
            FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
            FileType::RegularFile => OFlags::RDONLY | OFlags::NONBLOCK,
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                let shown = shown(&self.path);
                return Err(Error::invalid(format!("{shown} is neither a file nor a directory")));
            }
        };
        // The way back from where it is to the file itself, whatever has its name now.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.opened));
        rustix::fs::open(path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .with_context(|| format!("open {}", shown(&self.path)))
    }
}

/// What a source leads to; several for a pattern, in order of their names.
///
/// # Errors
/// `NotFound` if that is nothing.
pub(in crate::builder) fn find(root: BorrowedFd<'_>, source: &str) -> Result<Vec<Found>> {
    let path = below_root(source);
    let mut all: Vec<PathBuf> = vec![PathBuf::new()];
    let is_pattern = has_wildcards(path.as_os_str().as_bytes());
    for part in &path {
        if has_wildcards(part.as_bytes()) {
            let mut next = Vec::new();
            for above in &all {
                next.extend(matching(root, above, part)?);
                if next.len() > MOST_MATCHES {
                    let text = format!("more than {MOST_MATCHES} files match {source}");
                    return Err(Error::new(Kind::Exhausted, text));
                }
            }
            all = next;
        } else {
            for above in &mut all {
                above.push(part);
            }
        }
    }
    let mut found = Vec::new();
    for path in all {
        match open(root, &path) {
            Ok(one) => found.push(one),
            // Of a pattern the rest may not be there, or lead nowhere.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if is_pattern => {}
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing(source)),
            Err(errno) => return Err(errno).with_context(|| format!("look for {source}")),
        }
    }
    if found.is_empty() { Err(missing(source)) } else { Ok(found) }
}

pub(in crate::builder) fn missing(source: &str) -> Error {
    let shown = source.trim_start_matches('/');
    Error::not_found(format!(
        "file not found in build context or excluded by .dockerignore: stat {shown}: file does \
         not exist"
    ))
}

fn open(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<Found> {
    let opened = open_below(root, path, OFlags::PATH)?;
    let stat = fstat(&opened)?;
    let (path, place) = (path.to_owned(), path.to_owned());
    Ok(Found { path, place, is_root: false, opened, stat })
}

/// The members of a directory that a pattern means.
fn matching(root: BorrowedFd<'_>, above: &Path, pattern: &OsStr) -> Result<Vec<PathBuf>> {
    let directory = match open_below(root, above, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno).with_context(|| format!("list {}", shown(above))),
    };
    let mut all = Vec::new();
    for name in names(directory.as_fd())? {
        let is_it = matches(pattern.as_bytes(), name.to_bytes()).ok_or_else(|| {
            let shown = pattern.to_string_lossy();
            Error::new(Kind::InvalidArgument, format!("syntax error in pattern: {shown}"))
        })?;
        if is_it {
            all.push(above.join(OsStr::from_bytes(name.to_bytes())));
        }
    }
    Ok(all)
}

/// The last name of a file that is reached through its directory.
pub(super) fn c_name(name: &OsStr) -> Result<CString> {
    let name = CString::new(name.as_bytes().to_vec());
    name.context("a name with a NUL in it").kind(Kind::InvalidArgument)
}

/// Where a link at the end of a path leads, below the root, be there anything or not; the path itself
/// for anything else.
pub(super) fn follow(root: BorrowedFd<'_>, path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(link) = open_below(root, &path, OFlags::PATH | OFlags::NOFOLLOW) else {
            return Ok(path);
        };
        if kind_of(&fstat(&link).context("stat")?) != FileType::Symlink {
            return Ok(path);
        }
        match open_below(root, &path, OFlags::PATH) {
            Ok(there) => return where_it_is(root, &there).context("read a link"),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).with_context(|| format!("follow {}", shown(&path))),
        }
        let text = rustix::fs::readlinkat(&link, c"", []).context("read a link")?;
        let text = PathBuf::from(OsStr::from_bytes(text.to_bytes()));
        let above = path.parent().unwrap_or(Path::new(""));
        path = below_root(&above.join(text).to_string_lossy());
    }
    Err(Error::invalid(format!("{} has too many symbolic links", shown(&path))))
}

/// Of the name itself, not of what a link leads to.
pub(super) fn lstat(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<Stat> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let opened = open_below(root, path, flags)?;
    rustix::fs::statat(&opened, c"", AtFlags::EMPTY_PATH)
}
