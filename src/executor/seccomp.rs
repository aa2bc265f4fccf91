//! `no_new_privs` and the system call filter.

use super::failure::Fault;
use super::steps::Init;
use crate::sys;

pub(super) fn lock_privileges(_: &mut Init<'_>) -> Result<(), Fault> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

pub(super) fn load(init: &mut Init<'_>) -> Result<(), Fault> {
    match &init.process.seccomp {
        Some(seccomp) => Ok(sys::seccomp::load_filter(&seccomp.filter, seccomp.flags)?),
        None => Ok(()),
    }
}
