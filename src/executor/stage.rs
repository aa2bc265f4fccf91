//! What a container in a user namespace gets of the host, laid out before it is made.
//!
//! Inside a user namespace the kernel lets nobody make a device node that works, and a mount that
//! is attached there can be changed there. So a process with the host's privileges, in a mount
//! namespace of the host's, lays out both on a tmpfs of this container alone; the container's
//! mount namespace is a copy of that one, in which the kernel has locked the attributes of every
//! mount. The init then puts copies where they belong, and the stage goes with the old root.
//!
//! ```text
//! /stage   m3   the mount for place 3 of the plan's mounts
//!          d0   device 0 of the plan
//! ```

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::failure::{About, Fault};
use super::plan::{MountSource, TargetKind};
use super::steps::{Container, Init};
use super::{devices, mounts};

/// Where the monitor's private root has the place for it.
pub(super) const STAGE: &str = "/stage";

pub(super) fn lay_out(init: &mut Init<'_>) -> Result<(), Fault> {
    let Container { plan, fds } = init.container()?;
    // Devices must work here, so no nodev.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let stage = mounts::make("tmpfs", &[("mode", Some("711"))], attributes)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&stage, "", CWD, STAGE, flags).about("attach")?;
    for (index, mount) in plan.mounts.iter().enumerate() {
        let name = mount_name(index);
        match &mount.source {
            MountSource::Attach { mount: fd, kind } => {
                let place = make_place(&stage, &name, *kind)?;
                mounts::attach(fds.get(*fd)?, place.as_fd()).about_path(&mount.target)?;
            }
            MountSource::AttachPart { mount: fd, path, kind } => {
                let part = mounts::copy_part(fds.get(*fd)?, path).about_path(path)?;
                let place = make_place(&stage, &name, *kind)?;
                mounts::attach(part.as_fd(), place.as_fd()).about_path(&mount.target)?;
            }
            MountSource::New { .. } | MountSource::Cgroup { .. } | MountSource::PodShm => {}
        }
    }
    for (index, device) in plan.devices.iter().enumerate() {
        let name = device_name(index);
        devices::make_node(stage.as_fd(), name.as_bytes(), device).about_path(&device.path)?;
    }
    Ok(())
}

fn make_place(stage: &OwnedFd, name: &str, kind: TargetKind) -> Result<OwnedFd, Fault> {
    match kind {
        TargetKind::Directory => rustix::fs::mkdirat(stage, name, Mode::from_raw_mode(0o700))?,
        TargetKind::File => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(stage, name, FileType::RegularFile, mode, 0)?;
        }
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(stage, name, flags, Mode::empty())?)
}

/// A detached copy of the mount for a place of the plan.
pub(super) fn mount(index: usize) -> Result<OwnedFd, Fault> {
    take(&mount_name(index))
}

/// A detached mount of one device node.
pub(super) fn device(index: usize) -> Result<OwnedFd, Fault> {
    take(&device_name(index))
}

fn take(name: &str) -> Result<OwnedFd, Fault> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, format!("{STAGE}/{name}"), flags).about(name)
}

fn mount_name(index: usize) -> String {
    format!("m{index}")
}

fn device_name(index: usize) -> String {
    format!("d{index}")
}
