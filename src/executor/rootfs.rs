//! The container's root: attaching it, entering it, and its last attributes.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};

use super::failure::{About, Fault};
use super::plan::Propagation;
use super::pod::ROOTFS;
use super::root::{Root, in_the_way};
use super::steps::Init;
use crate::sys::mount::{Change, Reach, mount_setattr};

/// The monitor's root, of which this namespace has a copy, is private already; this makes it a
/// fact that does not hang on another process.
pub(super) fn make_private(_: &mut Init<'_>) -> Result<(), Fault> {
    let change = Change { propagation: libc::MS_PRIVATE, ..Change::default() };
    Ok(mount_setattr(CWD, c"/", Reach::Recursive, change)?)
}

pub(super) fn attach(init: &mut Init<'_>) -> Result<(), Fault> {
    let root = init.root()?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(root.as_fd(), "", CWD, ROOTFS, flags)?)
}

pub(super) fn make_working_directory(init: &mut Init<'_>) -> Result<(), Fault> {
    let path = &init.process.cwd;
    init.root()?.make_directory(path).about_path(path)?;
    Ok(())
}

/// Makes the rootfs the root and drops everything else. `.` on `.` stacks the old root over the
/// new one, from where it is detached, so no directory for it is needed inside the image.
pub(super) fn pivot(init: &mut Init<'_>) -> Result<(), Fault> {
    rustix::process::fchdir(init.root()?.as_fd())?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).about("detach the old root")?;
    Ok(rustix::process::chdir("/")?)
}

pub(super) fn make_read_only(_: &mut Init<'_>) -> Result<(), Fault> {
    let change = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
    Ok(mount_setattr(CWD, c"/", Reach::This, change)?)
}

pub(super) fn set_propagation(init: &mut Init<'_>) -> Result<(), Fault> {
    let propagation = match init.container()?.plan.rootfs_propagation {
        Propagation::Private => return Ok(()),
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    let change = Change { propagation, ..Change::default() };
    Ok(mount_setattr(CWD, c"/", Reach::This, change)?)
}

pub(super) fn enter_working_directory(init: &mut Init<'_>) -> Result<(), Fault> {
    let path = &init.process.cwd;
    let slash = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let directory = Root::new(slash.as_fd())
        .open(path, OFlags::PATH | OFlags::DIRECTORY)
        .map_err(in_the_way)
        .about_path(path)?;
    rustix::process::fchdir(&directory).about_path(path)?;
    // A directory outside the root has no path: the kernel then says so instead of naming one.
    let here = rustix::process::getcwd(Vec::new())?;
    if here.as_bytes().first() != Some(&b'/') {
        return Err(Fault::from(Errno::NOENT).about("outside of the root"));
    }
    Ok(())
}
