//! Resource limits and the OOM score.

use rustix::io::Errno;

use super::failure::{About, Fault};
use super::steps::Init;
use crate::sys;

/// The kernel lets only `CAP_SYS_RESOURCE` lower the score. A daemon without it (in a container
/// itself) can still run pods; it says so instead of failing.
pub(super) fn set_oom_score(init: &mut Init<'_>) -> Result<(), Fault> {
    let wanted = init.process.oom_score_adj.unwrap_or(init.around.oom_score_adj);
    let written = init
        .around
        .proc
        .open("self/oom_score_adj", rustix::fs::OFlags::WRONLY)
        .and_then(|file| rustix::io::write(&file, wanted.to_string().as_bytes()));
    match written {
        Ok(_) => Ok(()),
        Err(errno @ (Errno::PERM | Errno::ACCESS)) => {
            init.notes.push(format!("the OOM score {wanted} could not be set: {errno}"));
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn set_rlimits(init: &mut Init<'_>) -> Result<(), Fault> {
    for limit in &init.process.rlimits {
        sys::process::set_rlimit(limit.resource, limit.soft, limit.hard)
            .about(&format!("{} to {}:{}", limit.resource, limit.soft, limit.hard))?;
    }
    Ok(())
}
