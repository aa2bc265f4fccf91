//! What the child does between clone and execve: the least that a container with CRI's defaults needs.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, makedev, mkdirat, mknodat, open, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_bind, mount_bind_recursive, mount_change, mount_remount, move_mount, open_tree,
    unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use super::filter;
use super::host::Groups;
use super::network::Route;
use crate::client::{MASKED, READ_ONLY};
use crate::{Doing, Result, sys};

pub(super) struct Inside<'a> {
    pub(super) groups: &'a Groups,
    /// Open `cgroup.procs` of the container's groups.
    pub(super) joins: &'a [File],
    pub(super) overlay: BorrowedFd<'a>,
    /// Where the overlay is attached before it becomes the root.
    pub(super) attach: &'a Path,
    /// Three files that are bound over those in the image.
    pub(super) etc: &'a Path,
    /// Readable when eth0 is there.
    pub(super) linked: BorrowedFd<'a>,
    pub(super) address: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
}

/// Returns only with an error.
pub(super) fn become_container(inside: &Inside<'_>) -> Result<()> {
    for join in inside.joins {
        rustix::io::write(join, b"0").doing("join a cgroup")?;
    }
    sys::unshare_cgroup().doing("unshare the cgroup namespace")?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).doing("make mounts private")?;
    attach(inside.overlay, inside.attach)?;
    chdir(inside.attach).doing("enter the root")?;
    file_systems(inside.groups)?;
    devices()?;
    for name in ["hosts", "hostname", "resolv.conf"] {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let file = open_tree(rustix::fs::CWD, inside.etc.join(name), flags).doing(name)?;
        let target = Path::new("etc").join(name);
        // Few images have these files; something must be there to mount on.
        drop(
            open(&target, OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))
                .doing(name)?,
        );
        attach(file.as_fd(), target)?;
    }
    pivot_root(".", ".").doing("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).doing("leave the old root")?;
    chdir("/").doing("enter the new root")?;
    hide()?;
    network(inside)?;
    rustix::system::sethostname(b"floor").doing("sethostname")?;
    privileges()?;
    sys::load_filter(&filter::program()).doing("load the filter")?;
    Err(sys::execute(c"/bin/true", c"")).doing("execute /bin/true")
}

fn attach(tree: BorrowedFd<'_>, target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let moved = move_mount(tree, "", rustix::fs::CWD, target, flags);
    moved.doing(format!("mount {}", target.display()))
}

fn mount(
    kind: &str,
    target: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<()> {
    attach(make(kind, options, attributes).doing(target)?.as_fd(), target)
}

fn make(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value.is_empty() {
            true => fsconfig_set_flag(context.as_fd(), *key)?,
            false => fsconfig_set_string(context.as_fd(), *key, *value)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn file_systems(groups: &Groups) -> Result<()> {
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let closed = plain | MountAttrFlags::MOUNT_ATTR_NODEV;
    let read_only = closed | MountAttrFlags::MOUNT_ATTR_RDONLY;
    mount("proc", "proc", &[], closed)?;
    mount("tmpfs", "dev", &[("mode", "755"), ("size", "64k")], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    for name in ["dev/pts", "dev/shm", "dev/mqueue"] {
        mkdirat(rustix::fs::CWD, name, Mode::from_raw_mode(0o755)).doing(name)?;
    }
    let terminals = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    mount("devpts", "dev/pts", &terminals, plain)?;
    mount("tmpfs", "dev/shm", &[("mode", "1777"), ("size", "64m")], closed)?;
    mount("mqueue", "dev/mqueue", &[], closed)?;
    mount("sysfs", "sys", &[], read_only)?;
    mount("tmpfs", "sys/fs/cgroup", &[("mode", "755")], closed)?;
    for hierarchy in &groups.hierarchies {
        let target = format!("sys/fs/cgroup/{}", hierarchy.name);
        mkdirat(rustix::fs::CWD, &target, Mode::from_raw_mode(0o755)).doing(&target)?;
        let (key, value) = hierarchy.option();
        mount("cgroup", &target, &[(key, value)], read_only)?;
    }
    Ok(())
}

fn devices() -> Result<()> {
    const NODES: [(&str, u32, u32); 6] = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    const LINKS: [(&str, &str); 5] = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (name, major, minor) in NODES {
        let (mode, device) = (Mode::from_raw_mode(0o666), makedev(major, minor));
        let path = format!("dev/{name}");
        mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, mode, device).doing(path)?;
    }
    for (target, name) in LINKS {
        symlinkat(target, rustix::fs::CWD, format!("dev/{name}")).doing(name)?;
    }
    Ok(())
}

/// Paths that this kernel does not have are passed over.
fn hide() -> Result<()> {
    for path in MASKED {
        let Ok(found) = rustix::fs::stat(path) else { continue };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
            attach(make("tmpfs", &[], read_only)?.as_fd(), path)?;
        } else {
            mount_bind("/dev/null", path).doing(path)?;
        }
    }
    for path in READ_ONLY {
        match mount_bind_recursive(path, path) {
            Ok(()) => mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "").doing(path)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error).doing(path),
        }
    }
    Ok(())
}

fn network(inside: &Inside<'_>) -> Result<()> {
    // The index of the first link after loopback in a new namespace.
    const ETH0: u32 = 2;
    rustix::io::read(inside.linked, &mut [0_u8; 1]).doing("wait for eth0")?;
    Route::open()?.configure(ETH0, inside.address, inside.gateway)
}

fn privileges() -> Result<()> {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FSETID
        | CapabilitySet::FOWNER
        | CapabilitySet::MKNOD
        | CapabilitySet::NET_RAW
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::KILL
        | CapabilitySet::AUDIT_WRITE;
    for (_, dropped) in CapabilitySet::all().difference(kept).iter_names() {
        remove_capability_from_bounding_set(dropped).doing("drop a capability")?;
    }
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    // With no_new_privs first: the filter is loaded without CAP_SYS_ADMIN.
    set_no_new_privs(true).doing("no_new_privs")?;
    set_capabilities(None, sets).doing("capset")
}
