//! Out of a container: what a path is, and archives of it.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use super::view::{self, View, open_below};
use crate::engine::Shared;
use crate::engine::standalone::record::Record;
use crate::error::{Context, Error, Result};
use crate::image::pack::{self, Extent};
use crate::image::pieces::{self, Pieces};

/// What a path in a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The last name of the path as it was asked for; `/` or `.` for the root.
    pub(crate) name: String,
    pub(crate) size: u64,
    /// As in stat(2).
    pub(crate) mode: u32,
    /// Nanoseconds since the epoch.
    pub(crate) modified_at: i64,
    /// Where a link leads, in the container; otherwise empty.
    pub(crate) link_target: String,
}

/// What was found at a path.
pub(crate) struct Found {
    pub(crate) stat: Stat,
    view: View,
}

/// # Errors
/// `NotFound` in Docker's words, `InvalidArgument` for a path that asks for a directory and is none.
pub(crate) async fn find(shared: Arc<Shared>, record: Arc<Record>, path: &str) -> Result<Found> {
    let path = path.to_owned();
    let finding = tokio::task::spawn_blocking(move || {
        let view = view::to_read(&shared, &record, &path)?;
        let stat = stat(&view, &path).map_err(|errno| not_found(errno, &record, &path))?;
        Ok(Found { stat, view })
    });
    finding.await.context("look for a file")?
}

/// What an error says about a path in a container, in Docker's words.
pub(super) fn not_found(errno: Errno, record: &Record, path: &str) -> Error {
    match errno {
        Errno::NOENT | Errno::LOOP | Errno::INVAL | Errno::NAMETOOLONG => {
            Error::not_found(format!("Could not find the file {path} in container {}", record.name))
        }
        Errno::NOTDIR => Error::invalid(format!("{path}: not a directory")),
        other => Error::internal(format!("{path}: {other}")),
    }
}

fn stat(view: &View, path: &str) -> rustix::io::Result<Stat> {
    let opened = view.open(OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = fstat(&opened)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let name = match (view::clean(path).as_os_str().as_bytes(), path) {
        (b"/", _) => "/".to_owned(),
        (_, path) => path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(),
    };
    Ok(Stat {
        name,
        size: stat.st_size.unsigned_abs(),
        mode: stat.st_mode,
        modified_at: stat.st_mtime.saturating_mul(1_000_000_000)
            + i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        link_target: if is_link { link_target(view, &opened)? } else { String::new() },
    })
}

/// The whole of what a link leads to; as it is written, if that is nowhere.
fn link_target(view: &View, link: &OwnedFd) -> rustix::io::Result<String> {
    let target = match open_below(&view.root, &view.path, OFlags::PATH) {
        Ok(there) => view.at.join(view::where_it_is(&view.root, &there)?),
        Err(_) => {
            let text = rustix::fs::readlinkat(link, "", [])?;
            let above = view.path.parent().unwrap_or(Path::new(""));
            let text = String::from_utf8_lossy(text.as_bytes()).into_owned();
            view::clean(&Path::new("/").join(above).join(text).display().to_string())
        }
    };
    Ok(target.display().to_string())
}

/// An archive of what was found, under its own last name.
pub(crate) fn archive(found: Found) -> Pieces {
    let Found { stat, view } = found;
    pieces::send(move |out| {
        let name = match stat.name.as_str() {
            "/" => PathBuf::new(),
            name => PathBuf::from(name),
        };
        if FileType::from_raw_mode(stat.mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let root = view.open(flags).context("open the directory")?;
            return pack::write_as(&root, &name, Extent::Files, out);
        }
        let parent = view.parent().context("open the directory above")?;
        let (parent, last) = parent.context("a root that is no directory")?;
        let last = CString::new(last.into_vec()).context("the name")?;
        pack::write_one(&parent, &last, &name, out)
    })
}

/// All of a container's files, without what is mounted in it.
pub(crate) fn export(shared: Arc<Shared>, record: Arc<Record>) -> Pieces {
    pieces::send(move |out| {
        let root = view::whole(&shared, &record)?;
        let root = open_below(&root, Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY)
            .context("open the root")?;
        pack::write_as(&root, Path::new(""), Extent::OneMount, out)
    })
}
