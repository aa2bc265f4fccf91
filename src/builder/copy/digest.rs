//! What sources are, in one digest: names, kinds, modes, owners, contents; not their times, which
//! say when somebody checked them out.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat};
use sha2::{Digest as _, Sha256};

use super::contents::{Content, Contents};
use super::find::Found;
use super::{Excludes, attributes, check_depth, kind_of, names, open_file, shown};
use crate::engine::clock;
use crate::error::{Context, Result};
use crate::image::digest::{Algorithm, Digest, Hasher};

const PIECE: usize = 128 << 10;

/// Whose owners count: those of another stage's files, not those of a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::builder) enum Owners {
    Count,
    AreNobodys,
}

/// Blocks: everything is read that is not known.
pub(in crate::builder) fn digest(
    sources: &[Found],
    owners: Owners,
    contents: &Contents,
    excludes: Excludes<'_>,
) -> Result<Digest> {
    let hasher = Hasher::new(Algorithm::Sha256);
    let (source, buffer) = (Path::new(""), vec![0; PIECE]);
    let mut walk = Walk { hasher, owners, contents, excludes, source, buffer };
    for source in sources {
        walk.source = &source.place;
        walk.field(source.path.as_os_str().as_bytes());
        let opened = source.open()?;
        let stat = rustix::fs::fstat(&opened).context("stat")?;
        if source.is_root {
            walk.directory(opened.as_fd(), Path::new(""))?;
            continue;
        }
        walk.about(&stat);
        if source.is_directory() {
            walk.attributes(opened.as_fd())?;
            walk.directory(opened.as_fd(), Path::new(""))?;
        } else {
            let content = match contents.known(&stat) {
                Some(content) => content,
                None => walk.content(opened, &stat)?,
            };
            walk.field(&content);
        }
    }
    Ok(walk.hasher.finish())
}

struct Walk<'a> {
    hasher: Hasher,
    owners: Owners,
    contents: &'a Contents,
    excludes: Excludes<'a>,
    /// Where the source lies that is walked.
    source: &'a Path,
    buffer: Vec<u8>,
}

impl Walk<'_> {
    /// With its length, so that no two sequences of fields are the same bytes.
    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn about(&mut self, stat: &Stat) {
        self.number(stat.st_mode.into());
        if self.owners == Owners::Count {
            self.number(stat.st_uid.into());
            self.number(stat.st_gid.into());
        }
    }

    fn attributes(&mut self, file: BorrowedFd<'_>) -> Result<()> {
        for (name, value) in attributes(file)? {
            self.field(name.to_bytes());
            self.field(&value);
        }
        Ok(())
    }

    /// Reads a file; `stat` is what it was like before.
    fn content(&mut self, file: OwnedFd, stat: &Stat) -> Result<Content> {
        let (begun, mut hasher) = (clock::now(), Sha256::new());
        for (name, value) in attributes(file.as_fd())? {
            for field in [name.to_bytes(), &value] {
                hasher.update((field.len() as u64).to_le_bytes());
                hasher.update(field);
            }
        }
        // So that the bytes are told from an attribute.
        hasher.update(u64::MAX.to_le_bytes());
        let mut file = File::from(file);
        loop {
            let count = file.read(&mut self.buffer).context("read")?;
            match self.buffer.get(..count).unwrap_or_default() {
                [] => break,
                read => hasher.update(read),
            }
        }
        let after = rustix::fs::fstat(&file).context("stat")?;
        let content = hasher.finalize().into();
        self.contents.add((stat, &after), begun, content);
        Ok(content)
    }

    fn directory(&mut self, directory: BorrowedFd<'_>, path: &Path) -> Result<()> {
        check_depth(path)?;
        for name in names(directory)? {
            let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            self.member(directory, &name, &path)
                .with_context(|| format!("read {}", shown(&path)))?;
        }
        // So that a file of a directory is told from one beside it.
        self.field(b"");
        Ok(())
    }

    fn member(&mut self, parent: BorrowedFd<'_>, name: &std::ffi::CStr, path: &Path) -> Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context("stat")?;
        if kind_of(&stat) == FileType::Directory {
            let Some(below) = self.excludes.enter(parent, name, (self.source, path))? else {
                return Ok(());
            };
            self.field(name.to_bytes());
            self.about(&stat);
            return self.directory(below.as_fd(), path);
        }
        // Sockets are not copied.
        let is_socket = matches!(kind_of(&stat), FileType::Socket | FileType::Unknown);
        if is_socket || self.excludes.leaves_out(self.source, path) {
            return Ok(());
        }
        self.field(name.to_bytes());
        self.about(&stat);
        match kind_of(&stat) {
            FileType::RegularFile => {
                let content = match self.contents.known(&stat) {
                    Some(content) => content,
                    None => {
                        let (file, stat) = open_file(parent, name)?;
                        self.content(file, &stat)?
                    }
                };
                self.field(&content);
                Ok(())
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, []).context("read a link")?;
                self.field(target.as_bytes());
                Ok(())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.number(stat.st_rdev);
                Ok(())
            }
            FileType::Directory | FileType::Fifo | FileType::Socket | FileType::Unknown => Ok(()),
        }
    }
}
