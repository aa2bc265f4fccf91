//! Attaching the plan's mounts under the container's root, in order.
//!
//! A mount is complete before it becomes visible: it is made detached with all its attributes and
//! then moved onto a target that was resolved once and is held as a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::cgroup_view;
use super::failure::{About, Fault};
use super::plan::{Mount, MountAttributes, MountSource, TargetKind};
use super::pod::{SHM, SYS, WHOLE};
use super::root::Root;
use super::stage;
use super::steps::Init;

pub(super) fn attach_all(init: &mut Init<'_>) -> Result<(), Fault> {
    for (index, mount) in init.container()?.plan.mounts.iter().enumerate() {
        attach_one(init, index, mount).about_path(&mount.target)?;
    }
    Ok(())
}

fn attach_one(init: &Init<'_>, index: usize, mount: &Mount) -> Result<(), Fault> {
    let root = init.root()?;
    let users = init.around.users;
    match &mount.source {
        MountSource::Attach { kind, .. } | MountSource::AttachPart { kind, .. }
            if users.is_some() =>
        {
            let target = root.make_target(&mount.target, *kind)?;
            attach(stage::mount(index)?.as_fd(), target.as_fd())
        }
        MountSource::Attach { mount: fd, kind } => {
            let target = root.make_target(&mount.target, *kind)?;
            attach(init.container()?.fds.get(*fd)?, target.as_fd())
        }
        MountSource::New { fstype, .. }
            if fstype == "sysfs" && users.is_some_and(|users| !users.owns_network) =>
        {
            let target = root.make_target(&mount.target, TargetKind::Directory)?;
            attach(clone_tree(CWD, SYS)?.as_fd(), target.as_fd())
        }
        MountSource::AttachPart { mount: fd, path, kind } => {
            let target = root.make_target(&mount.target, *kind)?;
            let part = copy_part(init.container()?.fds.get(*fd)?, path).about_path(path)?;
            attach(part.as_fd(), target.as_fd())
        }
        MountSource::New { fstype, options, attributes } => {
            let target = root.make_target(&mount.target, TargetKind::Directory)?;
            let options: Vec<(&str, Option<&str>)> =
                options.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let made = make(fstype, &options, attribute_flags(*attributes))?;
            attach(made.as_fd(), target.as_fd())
        }
        MountSource::Cgroup { hierarchies, read_only } => {
            cgroup_view::attach(root, &mount.target, hierarchies, *read_only)
        }
        MountSource::PodShm => {
            let target = root.make_target(&mount.target, TargetKind::Directory)?;
            let shm = clone_tree(CWD, SHM).about("the pod's shared memory")?;
            attach(shm.as_fd(), target.as_fd())
        }
    }
}

/// A detached copy of a directory or file of a detached mount. Before Linux 6.15 only what is
/// mounted somewhere can be copied in part: it stands at a place of ours meanwhile.
pub(super) fn copy_part(whole: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Fault> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(whole, "", CWD, WHOLE, flags).about(WHOLE)?;
    let part = Root::new(whole).find(path)?;
    let copy = clone_tree(part.as_fd(), "").about("copy a part")?;
    rustix::mount::unmount(WHOLE, UnmountFlags::DETACH).about(WHOLE)?;
    Ok(copy)
}

/// Moves a detached mount onto a target, both by descriptor.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Fault> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match rustix::mount::move_mount(mount, "", target, "", flags) {
        // Which has several causes; this one is the request's.
        Err(Errno::INVAL) if is_directory(mount)? != is_directory(target)? => {
            Err(Fault::invalid("one of source and target is a directory and the other is not"))
        }
        moved => moved.about("attach"),
    }
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

/// A detached copy of the mount at a path of the monitor's private root.
pub(super) fn clone_tree(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(directory, path, flags)
}

/// A new, detached file system.
pub(super) fn make(
    fstype: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Fault> {
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| Fault::from(errno).about(fstype))?;
    for (key, value) in options {
        let set = match value {
            Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value),
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), *key),
        };
        set.map_err(|errno| explained(errno, context.as_fd()).about(format!("option {key}")))?;
    }
    rustix::mount::fsconfig_create(context.as_fd())
        .map_err(|errno| explained(errno, context.as_fd()).about(fstype))?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(rustix::mount::fsmount(context.as_fd(), flags, attributes)?)
}

/// The kernel's own words about a refused option or file system, which wait in the context.
fn explained(errno: Errno, context: BorrowedFd<'_>) -> Fault {
    let fault = Fault::from(errno);
    let mut message = [0_u8; 256];
    match rustix::io::read(context, &mut message) {
        Ok(length) => {
            let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
            fault.about(text.trim())
        }
        Err(_) => fault,
    }
}

fn attribute_flags(attributes: MountAttributes) -> MountAttrFlags {
    let MountAttributes {
        read_only,
        no_suid,
        no_dev,
        no_exec,
        no_atime,
        rel_atime: _, // The kernel's default, whose bits are all zero.
        strict_atime,
    } = attributes;
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, no_suid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, no_dev);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, no_exec);
    // One of three values, not independent bits.
    if no_atime {
        flags |= MountAttrFlags::MOUNT_ATTR_NOATIME;
    } else if strict_atime {
        flags |= MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    }
    flags
}
