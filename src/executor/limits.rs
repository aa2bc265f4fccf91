//! Resource limits and the OOM score.

use rustix::io::Errno;

use super::failure::{About, Fault};
use super::plan::Rlimit;
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

/// The right to raise a hard limit belongs to the host's user namespace. The limits themselves are
/// set later: a low one would be in the way of what is still to be made.
pub(super) fn raise_rlimits(init: &mut Init<'_>) -> Result<(), Fault> {
    for Rlimit { resource, hard, .. } in init.process.rlimits.iter().copied() {
        let (soft_now, hard_now) = sys::process::rlimit(resource).about(&resource.to_string())?;
        if hard > hard_now {
            // A refusal shows again, and is dealt with, when the limit is set.
            let _ = sys::process::set_rlimit(resource, soft_now, hard);
        }
    }
    Ok(())
}

/// A hard limit may be raised only with `CAP_SYS_RESOURCE`: without it the limit that the daemon
/// itself is under stays the container's, and that is said.
pub(super) fn set_rlimits(init: &mut Init<'_>) -> Result<(), Fault> {
    for Rlimit { resource, soft, hard } in init.process.rlimits.iter().copied() {
        let about = || format!("{resource} to {soft}:{hard}");
        match sys::process::set_rlimit(resource, soft, hard) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                let (_, hard_now) = sys::process::rlimit(resource).about(&about())?;
                let highest = hard_now.min(hard);
                sys::process::set_rlimit(resource, soft.min(highest), highest).about(&about())?;
                init.notes.push(format!("resource limit {} is capped at {highest}", about()));
            }
            Err(errno) => return Err(errno).about(&about()),
        }
    }
    Ok(())
}
