//! Layer archives to layer directories.

use std::path::{Path, PathBuf};

use super::digest::Digest;
use crate::error::Result;

/// What a layer turned out to be.
#[derive(Debug)]
pub(in crate::image) struct Unpacked {
    pub(in crate::image) diff_id: Digest,
    pub(in crate::image) size: u64,
    pub(in crate::image) inodes: u64,
    /// Directories the archive needs but does not describe, parents first.
    pub(in crate::image) implied: Vec<Vec<u8>>,
}

pub(in crate::image) fn fill_implied(
    _files: &Path,
    _base: &[PathBuf],
    _implied: &[Vec<u8>],
) -> Result<()> {
    Ok(())
}
