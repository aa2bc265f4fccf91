//! Getting into the container's cgroup.

use rustix::thread::UnshareFlags;

use super::failure::{About, Fault};
use super::steps::Init;
use crate::sys;

/// On v2 the process was born there. On v1 it moves itself, once per hierarchy: `0` means the
/// writer, which spares the kernel the lock, and us its RCU wait, that moving another takes (when
/// the descriptor is one of `tasks`).
pub(super) fn join(init: &mut Init<'_>) -> Result<(), Fault> {
    for hierarchy in &init.around.cgroup.legacy {
        rustix::io::write(hierarchy, b"0").about("hierarchy")?;
    }
    Ok(())
}

/// The root of the new namespace is the cgroup joined above. `CLONE_NEWCGROUP` at the fork would
/// have taken the monitor's.
pub(super) fn unshare(_: &mut Init<'_>) -> Result<(), Fault> {
    Ok(sys::namespace::unshare(UnshareFlags::NEWCGROUP)?)
}
