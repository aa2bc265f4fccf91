//! The working directory.

use std::path::{Path, PathBuf};

use super::{Draft, Input, field};
use crate::error::Result;

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let cwd = if !input.config.working_dir.is_empty() {
        field::path("working_dir", Path::new(&input.config.working_dir))?
    } else if !input.image.working_dir.is_empty() {
        // Images are lax about the leading slash.
        let path = format!("/{}", input.image.working_dir);
        field::path("the image's working directory", Path::new(&path))?
    } else {
        "/".to_owned()
    };
    draft.process.set_cwd(PathBuf::from(cwd));
    Ok(())
}
