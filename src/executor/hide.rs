//! Paths that the container must not see, or not change.
//!
//! A masked file gets the pod's own null device over it, a masked directory an empty read-only
//! one; both come from the monitor's private root, so no image and no host path can replace them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType};
use rustix::mount::OpenTreeFlags;

use super::failure::{About, Fault};
use super::mounts;
use super::pod::{EMPTY, NULL};
use super::root::Root;
use super::steps::Init;
use crate::sys::mount::{Change, Reach, mount_setattr};

/// Only what exists is masked: a kernel without a file has nothing to hide there.
pub(super) fn mask(init: &mut Init<'_>) -> Result<(), Fault> {
    let root = init.root()?;
    for path in &init.container()?.plan.masked_paths {
        mask_one(root, path).about_path(path)?;
    }
    Ok(())
}

fn mask_one(root: Root<'_>, path: &[u8]) -> Result<(), Fault> {
    let Some(target) = root.find_existing(path)? else { return Ok(()) };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
    let cover = if kind == FileType::Directory { EMPTY } else { NULL };
    mounts::attach(mounts::clone_tree(CWD, cover)?.as_fd(), target.as_fd())?;
    // The mask must be what the path leads to now, or it hides nothing.
    let now = rustix::fs::fstat(root.find(path)?)?;
    let cover = rustix::fs::stat(cover)?;
    if (now.st_dev, now.st_ino) == (cover.st_dev, cover.st_ino) {
        Ok(())
    } else {
        Err(Fault::internal("the path is not covered"))
    }
}

pub(super) fn make_read_only(init: &mut Init<'_>) -> Result<(), Fault> {
    let root = init.root()?;
    for path in &init.container()?.plan.readonly_paths {
        let target = root.find_existing(path).about_path(path)?;
        if let Some(target) = target {
            freeze(target.as_fd()).about_path(path)?;
        }
    }
    Ok(())
}

/// Covers a tree with a read-only view of itself.
fn freeze(target: BorrowedFd<'_>) -> Result<(), Fault> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let view: OwnedFd = rustix::mount::open_tree(target, "", flags)?;
    let change = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
    mount_setattr(view.as_fd(), c"", Reach::Recursive, change)?;
    mounts::attach(view.as_fd(), target)
}
