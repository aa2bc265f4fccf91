//! Which files of a source are left out.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cais_dockerfile::dockerignore::Matcher;
use rustix::fs::OFlags;

use super::{check_depth, names, open};
use crate::error::Result;

/// Patterns as `.dockerignore` has them; by default nothing is left out. Files are asked for with where their source
/// lies below its root ([`super::Found::place`]), and their path below the source.
#[derive(Clone, Copy, Default)]
pub(in crate::builder) struct Excludes<'a> {
    /// What is no part of a context, by paths below the root.
    pub(in crate::builder) hidden: Option<&'a Matcher>,
    /// `--exclude`, by paths below the source.
    pub(in crate::builder) below: Option<&'a Matcher>,
}

impl Excludes<'_> {
    pub(in crate::builder) fn leaves_out(&self, source: &Path, path: &Path) -> bool {
        let is_ignored = |matcher: Option<&Matcher>, path: &Path| {
            matcher.is_some_and(|it| it.is_ignored(&path.to_string_lossy()))
        };
        is_ignored(self.hidden, &source.join(path)) || is_ignored(self.below, path)
    }

    /// Opens a directory, unless all of it is left out. One of which nothing can be taken back is not
    /// even looked at.
    pub(super) fn enter(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        (source, path): (&Path, &Path),
    ) -> Result<Option<OwnedFd>> {
        let is_left_out = self.leaves_out(source, path);
        let mut matchers = [self.hidden, self.below].into_iter().flatten();
        if is_left_out && !matchers.any(Matcher::has_exclusions) {
            return Ok(None);
        }
        let directory = open(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if is_left_out && !self.takes_back(directory.as_fd(), (source, path))? {
            return Ok(None);
        }
        Ok(Some(directory))
    }

    /// Whether something below a directory that is left out is not.
    pub(in crate::builder) fn takes_back(
        &self,
        directory: BorrowedFd<'_>,
        (source, path): (&Path, &Path),
    ) -> Result<bool> {
        check_depth(path)?;
        for name in names(directory)? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            if !self.leaves_out(source, &path) {
                return Ok(true);
            }
            if let Ok(below) = open(directory, &name, OFlags::RDONLY | OFlags::DIRECTORY)
                && self.takes_back(below.as_fd(), (source, &path))?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
