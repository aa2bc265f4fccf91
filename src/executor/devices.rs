//! Device nodes and the customary links of `/dev`.
//!
//! Nodes are made with `mknod`, on the container's own tmpfs. In a user namespace the kernel
//! refuses that; there each is a mount of a node that was made before ([`super::stage`]).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use super::failure::{About, Fault};
use super::plan::{Device, DeviceKind, TargetKind};
use super::root::{Root, in_the_way};
use super::steps::Init;
use super::{mounts, stage};

pub(super) fn make(init: &mut Init<'_>) -> Result<(), Fault> {
    let root = init.root()?;
    let is_staged = init.around.users.is_some();
    for (index, device) in init.container()?.plan.devices.iter().enumerate() {
        if is_staged { attach_node(root, index, device) } else { make_in(root, device) }
            .about_path(&device.path)?;
    }
    Ok(())
}

fn attach_node(root: Root<'_>, index: usize, device: &Device) -> Result<(), Fault> {
    let target = root.make_target(&device.path, TargetKind::File)?;
    mounts::attach(stage::device(index)?.as_fd(), target.as_fd())
}

fn make_in(root: Root<'_>, device: &Device) -> Result<(), Fault> {
    let (parent, name) = root.make_parent(&device.path)?;
    make_node(parent.as_fd(), name, device)
}

pub(super) fn make_node(parent: BorrowedFd<'_>, name: &[u8], device: &Device) -> Result<(), Fault> {
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = match device.kind {
        DeviceKind::Character | DeviceKind::Block => {
            rustix::fs::makedev(device.major, device.minor)
        }
        DeviceKind::Fifo => 0,
    };
    // The umask is empty here, so the mode comes out as given.
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    rustix::fs::mknodat(parent, name, kind, mode, number).map_err(in_the_way)?;
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
    }
    Ok(())
}

pub(super) fn link(init: &mut Init<'_>) -> Result<(), Fault> {
    let root = init.root()?;
    for (path, target) in &init.container()?.plan.links {
        let (parent, name) = root.make_parent(path).about_path(path)?;
        match rustix::fs::symlinkat(&target[..], parent.as_fd(), name) {
            // A mount of the request may bring its own.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Fault::from(errno).about_path(path)),
        }
    }
    Ok(())
}
