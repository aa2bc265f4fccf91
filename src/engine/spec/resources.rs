//! Limits that the cgroup gets. Their grammar is checked where they become files.

use super::{Draft, Input};
use crate::error::{Error, Result};

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let resources = &input.config.resources;
    for (field, value) in [
        ("memory_limit_in_bytes", resources.memory_limit),
        ("memory_swap_limit_in_bytes", resources.memory_swap_limit),
        ("cpu_quota", resources.cpu_quota),
        ("pids_limit", resources.pids_limit),
    ] {
        if let Some(value) = value.filter(|value| *value < -1) {
            return Err(Error::invalid(format!("linux.resources.{field}: {value} is negative")));
        }
    }
    draft.resources = resources.clone();
    Ok(())
}
