//! What a container's files are that the image's are not.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::engine::Shared;
use crate::engine::standalone::record::Record;
use crate::error::{Context, Result};
use crate::image::pack;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Modified,
    Added,
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Absolute, in the container.
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// Made for what every container has mounted, whether the image has a place for it or not.
const MOUNTED: [&str; 6] =
    ["/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"];

/// Ordered by path. Places of mounts are not the container's doing.
pub(crate) async fn changes(shared: Arc<Shared>, record: Arc<Record>) -> Result<Vec<Change>> {
    let walking = tokio::task::spawn_blocking(move || {
        let upper = shared.layout.container_root(&record.id).join("upper");
        if !upper.exists() {
            return Ok(Vec::new());
        }
        let upper = pack::open(&upper)?;
        let image = shared.images.mount_view(&record.layers, None)?;
        let mut places: HashSet<PathBuf> = MOUNTED.iter().map(PathBuf::from).collect();
        places.extend(record.config.container.mounts.iter().map(|it| it.container_path.clone()));
        let mut walk = Walk { places, changes: Vec::new() };
        walk.directory(upper.as_fd(), Some(image.as_fd()), Path::new("/"))
            .context("compare the container with its image")?;
        walk.changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walk.changes)
    });
    walking.await.context("compare the container with its image")?
}

struct Walk {
    places: HashSet<PathBuf>,
    changes: Vec<Change>,
}

impl Walk {
    /// `below` is the image's directory of the same path, if there is one that shows.
    fn directory(
        &mut self,
        upper: BorrowedFd<'_>,
        below: Option<BorrowedFd<'_>>,
        path: &Path,
    ) -> rustix::io::Result<()> {
        for entry in Dir::read_from(upper)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let stat = statat(upper, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let old = match below.map(|below| statat(below, name, AtFlags::SYMLINK_NOFOLLOW)) {
                Some(Ok(old)) => Some(old),
                Some(Err(Errno::NOENT)) | None => None,
                Some(Err(errno)) => return Err(errno),
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let was_directory = old
                .as_ref()
                .is_some_and(|old| FileType::from_raw_mode(old.st_mode) == FileType::Directory);
            let is_place = self.places.contains(&path);
            let here = self.changes.len();
            if is_directory {
                let opened = directory(upper, name)?;
                let below = match below.filter(|_| was_directory) {
                    Some(below) => Some(directory(below, name)?),
                    None => None,
                };
                self.directory(opened.as_fd(), below.as_ref().map(AsFd::as_fd), &path)?;
            }
            let has_changes = self.changes.len() > here;
            let kind = match &old {
                _ if is_whiteout(&stat) => Kind::Deleted,
                // The way to a place is made with it.
                None if !has_changes && (is_place || self.leads_to_place(&path)) => continue,
                None => Kind::Added,
                Some(old) if is_directory && was_directory && same(old, &stat) && !has_changes => {
                    continue;
                }
                Some(_) if is_place && !has_changes => continue,
                Some(_) => Kind::Modified,
            };
            self.changes.push(Change { path, kind });
        }
        Ok(())
    }

    fn leads_to_place(&self, path: &Path) -> bool {
        self.places.iter().any(|place| place.starts_with(path))
    }
}

fn directory(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Of directories that were opened on the way to what did change.
fn same(old: &Stat, new: &Stat) -> bool {
    (old.st_mode, old.st_uid, old.st_gid) == (new.st_mode, new.st_uid, new.st_gid)
}
