//! What a privileged container needs of its pod, and `no_new_privs`.

use super::{Draft, Input};
use crate::error::{Error, Result};

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let security = &input.config.security;
    if security.privileged && !input.pod.privileged {
        return Err(Error::invalid(
            "linux.security_context.privileged: no privileged container is allowed in a pod \
             sandbox that is not privileged",
        ));
    }
    draft.process.set_no_new_privileges(Some(security.no_new_privileges));
    draft.process.set_oom_score_adj(Some(oom_score(input.config.oom_score_adj)?));
    Ok(())
}

pub(in crate::engine) fn oom_score(score: i32) -> Result<i32> {
    if !(-1000..=1000).contains(&score) {
        return Err(Error::invalid(format!(
            "oom_score_adj: {score} is not between -1000 and 1000"
        )));
    }
    Ok(score)
}
