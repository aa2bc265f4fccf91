//! The system call filter.

use super::{Draft, Input};
use crate::engine::pod::config::SeccompProfile;
use crate::error::{Context, Result};

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let security = &input.config.security;
    if security.privileged {
        return Ok(());
    }
    draft.filter = match &security.seccomp {
        SeccompProfile::Unconfined => None,
        SeccompProfile::RuntimeDefault => Some(input.filters.default_profile(draft.capabilities)?),
        SeccompProfile::Localhost(path) => Some(input.filters.localhost(path, draft.capabilities)?),
        SeccompProfile::Given(text) => {
            let filter = input.filters.given(text.as_bytes(), draft.capabilities);
            Some(filter.context("seccomp profile")?)
        }
    };
    Ok(())
}
