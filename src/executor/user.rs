//! The switch from root to the container's user.

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};

use super::failure::{About, Fault};
use super::steps::Init;

/// Groups first, since giving up root gives up the right to set them.
pub(super) fn switch(init: &mut Init<'_>) -> Result<(), Fault> {
    let user = &init.process.user;
    // The permitted set survives until it is set on purpose.
    rustix::thread::set_keep_capabilities(true).about("keep capabilities")?;
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).about("setgroups")?;
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).about("setresgid")?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).about("setresuid")?;
    rustix::thread::set_keep_capabilities(false).about("keep capabilities")?;
    rustix::process::umask(Mode::from_raw_mode(user.umask.unwrap_or(0o022)));
    Ok(())
}
