//! Files that hold state: one JSON document per object, replaced whole, read back at start.
//!
//! ```text
//!   table    typed records keyed by id: put, get, remove, scan
//!   atomic   write beside, sync, rename, sync the directory
//!   lock     one daemon per directory
//!   boot     which boot of the machine it is
//!   remove   trees of foreign programs, however deep
//!   usage    how much room a tree takes
//! ```
//!
//! A record that cannot be read is never fatal: it is set aside as `<name>.damaged`, named in the
//! log, and the rest works.

pub(crate) mod atomic;
pub(crate) mod boot;
pub(crate) mod lock;
pub(crate) mod remove;
pub(crate) mod table;
pub(crate) mod usage;

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::error::{Context, Result};

/// Makes a directory (and its parents) that only root can enter. One that exists already loses
/// the access of others, unless it is a symbolic link to somewhere else.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    let name = || format!("make directory {}", path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(name)?;
    let found = std::fs::symlink_metadata(path).with_context(name)?;
    if found.is_dir() && found.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(name)?;
    }
    Ok(())
}
