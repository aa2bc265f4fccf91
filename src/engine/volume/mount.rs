//! A volume as a detached mount.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::engine::Shared;
use crate::error::{Context, Result};
use crate::sys::mount::{Change, Reach, mount_setattr};

/// Where the files of a volume are: its own directory, or the host's that it stands for.
pub(in crate::engine) fn directory(shared: &Shared, name: &str) -> Result<PathBuf> {
    let volume = shared.volumes.find(name)?;
    Ok(match volume.record.options.get("device") {
        Some(device) => PathBuf::from(device),
        None => shared.layout.volume_data(name),
    })
}

/// # Errors
/// `NotFound` if there is no such volume, or not the directory of the host that it stands for.
pub(in crate::engine) fn open(shared: &Shared, name: &str) -> Result<OwnedFd> {
    let path = directory(shared, name)?;
    let context =
        || format!("error while mounting volume '{name}': failed to mount {}", path.display());
    detach(&path).with_context(context)
}

/// A directory of the host's, and all that is mounted below it, as a mount that is attached nowhere.
pub(in crate::engine) fn detach(path: &Path) -> Result<OwnedFd> {
    let context = || format!("open {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty()).with_context(context)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(&directory, "", flags).with_context(context)?;
    // Mounts that a container makes below stay there.
    let change = Change { propagation: libc::MS_PRIVATE, ..Change::default() };
    mount_setattr(tree.as_fd(), c"", Reach::Recursive, change).with_context(context)?;
    Ok(tree)
}
