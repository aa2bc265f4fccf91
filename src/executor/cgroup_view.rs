//! What a container sees at `/sys/fs/cgroup`.
//!
//! On a v2 host one `cgroup2` mount. On v1 and hybrid hosts the classic layout: a tmpfs with one
//! directory per hierarchy, and links for controllers that share one (`cpu` to `cpu,cpuacct`).
//! Each mount shows the part of the tree below the root of the container's cgroup namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::mount::MountAttrFlags;

use super::failure::{About, Fault};
use super::mounts;
use super::plan::TargetKind;
use super::root::Root;
use crate::sys::mount::{Change, Reach, mount_setattr};

/// The v2 hierarchy of a hybrid host.
const UNIFIED: &str = "unified";

pub(super) fn attach(
    root: Root<'_>,
    target: &[u8],
    hierarchies: &[String],
    read_only: bool,
) -> Result<(), Fault> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    let place = root.make_target(target, TargetKind::Directory)?;
    if hierarchies.is_empty() {
        return mounts::attach(mounts::make("cgroup2", &[], attributes)?.as_fd(), place.as_fd());
    }
    let writable = attributes.difference(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let tmpfs = mounts::make("tmpfs", &[("mode", Some("755"))], writable)?;
    mounts::attach(tmpfs.as_fd(), place.as_fd())?;
    for hierarchy in hierarchies {
        attach_hierarchy(tmpfs.as_fd(), hierarchy, attributes).about(hierarchy)?;
    }
    if read_only {
        // Only now: the directories above had to be made.
        let change = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
        mount_setattr(tmpfs.as_fd(), c"", Reach::This, change)?;
    }
    Ok(())
}

fn attach_hierarchy(
    view: BorrowedFd<'_>,
    hierarchy: &str,
    attributes: MountAttrFlags,
) -> Result<(), Fault> {
    let directory = directory_of(hierarchy);
    rustix::fs::mkdirat(view, directory, Mode::from_raw_mode(0o755))?;
    let place = Root::new(view).find(directory.as_bytes())?;
    let mount = open_hierarchy(hierarchy, attributes)?;
    mounts::attach(mount.as_fd(), place.as_fd())?;
    for controller in directory.split(',').filter(|controller| *controller != directory) {
        rustix::fs::symlinkat(directory, view, controller)?;
    }
    Ok(())
}

fn open_hierarchy(hierarchy: &str, attributes: MountAttrFlags) -> Result<OwnedFd, Fault> {
    if hierarchy == UNIFIED {
        return mounts::make("cgroup2", &[], attributes);
    }
    let options: Vec<(&str, Option<&str>)> = match hierarchy.split_once('=') {
        Some((key, name)) => vec![(key, Some(name))],
        None => hierarchy.split(',').map(|controller| (controller, None)).collect(),
    };
    mounts::make("cgroup", &options, attributes)
}

/// A named hierarchy (`name=systemd`) lies under its name.
fn directory_of(hierarchy: &str) -> &str {
    hierarchy.split_once('=').map_or(hierarchy, |(_, name)| name)
}
