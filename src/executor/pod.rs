//! The pod as the monitor itself: it enters the pod's namespaces, and its containers inherit them.
//!
//! The monitor gives up the host's mounts for a root that holds what containers need and nothing
//! else. No container can see it; each starts from a copy of it and pivots away.
//!
//! ```text
//! /         tmpfs
//! ├─ rootfs   where a container attaches its root
//! ├─ whole    where a mount stands while a part of it is copied
//! ├─ null     a null device, covers masked files
//! ├─ empty    an empty directory, read-only, covers masked directories
//! ├─ shm      tmpfs: the pod's /dev/shm, its own or another pod's
//! │           with users of its own also:
//! ├─ proc sys whole ones: without them in sight the kernel refuses new ones inside
//! └─ stage    where a container finds what the host gives it
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::Fds;
use super::failure::{About, Fault};
use super::mounts;
use super::plan::{Namespace, PodPid, PodPlan, UserNamespace};
use super::procfs::Procfs;
use super::stage::STAGE;
use super::users::{self, PodUsers};
use crate::sys;
use crate::sys::clone::{Forked, clone3, exit_child};
use crate::sys::mount::{Change, Reach, mount_setattr};

pub(super) const ROOTFS: &str = "/rootfs";
pub(super) const WHOLE: &str = "/whole";
pub(super) const NULL: &str = "/null";
pub(super) const EMPTY: &str = "/empty";
pub(super) const SHM: &str = "/shm";
pub(super) const SYS: &str = "/sys";
const PROC: &str = "/proc";

/// What a pod is made of, beside the namespaces of the calling process.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) proc: Procfs,
    pub(crate) exits: OwnedFd,
    /// PID 1 of a shared PID namespace.
    pub(crate) init: Option<PodInit>,
    /// A process of another pod whose PID namespace is this pod's too.
    pub(crate) pid_of: Option<OwnedFd>,
    /// `None`: the host's.
    pub(crate) users: Option<PodUsers>,
}

#[derive(Debug)]
pub(crate) struct PodInit {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

impl Pod {
    /// A null device for streams that lead nowhere.
    pub(crate) fn open_null(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(CWD, NULL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    }

    /// The pod's `/dev/shm` once more, as a detached mount for another pod.
    pub(crate) fn copy_shm(&self) -> Result<OwnedFd, Fault> {
        mounts::clone_tree(CWD, SHM).about("the pod's shared memory")
    }
}

/// Moves the calling process into a new pod. On an error the process is in an unknown state
/// between two worlds and must not be used for another.
pub(crate) fn set_up(plan: &PodPlan, fds: &Fds) -> Result<Pod, Fault> {
    let exits = fds.duplicate(plan.exits)?;
    let pid_of = match plan.pid {
        PodPid::Joined(process) => Some(fds.duplicate(process)?),
        PodPid::PerContainer | PodPid::Shared => None,
    };
    enter_namespaces(plan, fds).about("enter namespaces")?;
    // Before the host's mounts go, and independent of them.
    let proc = Procfs::mount().about("mount proc")?;
    make_private_root(plan, fds).about("make the private root")?;
    let (users, mut init) = match &plan.user {
        // Only now: whoever founds it must not keep the host's mounts.
        Some(map) => {
            let (users, init) = users::found(plan, map, &proc).about("user namespace")?;
            (Some(users), init)
        }
        None => {
            set_sysctls(plan, &proc)?;
            (None, None)
        }
    };
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).about("set the host name")?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).about("set the domain name")?;
    }
    if plan.pid == PodPid::Shared && init.is_none() {
        init = Some(start_init().about("start the pod's PID 1")?);
    }
    Ok(Pod { proc, exits, init, pid_of, users })
}

fn enter_namespaces(plan: &PodPlan, fds: &Fds) -> Result<(), Fault> {
    let mut new = UnshareFlags::NEWNS;
    for (namespace, flag, kind) in [
        (plan.network, UnshareFlags::NEWNET, LinkNameSpaceType::Network),
        (plan.ipc, UnshareFlags::NEWIPC, LinkNameSpaceType::InterProcessCommunication),
        (plan.uts, UnshareFlags::NEWUTS, LinkNameSpaceType::HostNameAndNISDomainName),
    ] {
        match namespace {
            // The founder of a user namespace makes it, so that it belongs there.
            Namespace::New if plan.user.is_some() => {}
            Namespace::New => new |= flag,
            Namespace::Host => {}
            Namespace::Join(fd) => {
                rustix::thread::move_into_link_name_space(fds.get(fd)?, Some(kind))
                    .about(&format!("join {kind:?}"))?;
            }
        }
    }
    Ok(sys::namespace::unshare(new)?)
}

fn make_private_root(plan: &PodPlan, fds: &Fds) -> Result<(), Fault> {
    // Or the detaching below would travel back to the host.
    let private = Change { propagation: libc::MS_PRIVATE, ..Change::default() };
    mount_setattr(CWD, c"/", Reach::Recursive, private).about("make mounts private")?;

    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("mode", Some("755")), ("size", Some("64k")), ("nr_inodes", Some("32"))];
    let root = mounts::make("tmpfs", &options, attributes)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", CWD, "/", flags).about("attach the root")?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".").about("pivot")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).about("leave the host's mounts")?;
    rustix::process::chdir("/")?;

    rustix::fs::mkdir(ROOTFS, Mode::from_raw_mode(0o700))?;
    rustix::fs::mkdir(WHOLE, Mode::from_raw_mode(0o700))?;
    rustix::fs::mkdir(EMPTY, Mode::from_raw_mode(0o755))?;
    let null = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, NULL, FileType::CharacterDevice, mode, null).about(NULL)?;
    rustix::fs::chmod(NULL, mode)?;
    make_cover(EMPTY).about(EMPTY)?;
    make_cover(NULL).about(NULL)?;
    if let Some(shm) = plan.shm {
        attach_shm(fds.get(shm)?).about(SHM)?;
    } else if let Some(size) = plan.shm_size {
        attach_shm(make_shm(size, plan.user.as_ref()).about(SHM)?.as_fd()).about(SHM)?;
    }
    if plan.user.is_some() {
        show_kernel_mounts(plan.network)?;
        rustix::fs::mkdir(STAGE, Mode::from_raw_mode(0o700)).about(STAGE)?;
    }
    Ok(())
}

/// A container in a user namespace may mount only what it could see anyway.
fn show_kernel_mounts(network: Namespace) -> Result<(), Fault> {
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mut of_sys = safe;
    // With the host's network this is the one that containers get, and its attributes last.
    of_sys.set(MountAttrFlags::MOUNT_ATTR_RDONLY, network == Namespace::Host);
    for (path, fstype, attributes) in [(PROC, "proc", safe), (SYS, "sysfs", of_sys)] {
        let made = mounts::make(fstype, &[], attributes)?;
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)).about(path)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&made, "", CWD, path, flags).about(path)?;
    }
    Ok(())
}

/// A read-only mount of its own, of which masks are plain copies.
fn make_cover(path: &str) -> Result<(), Fault> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cover = rustix::mount::open_tree(CWD, path, flags)?;
    let change = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
    mount_setattr(cover.as_fd(), c"", Reach::This, change)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&cover, "", CWD, path, flags)?)
}

fn attach_shm(shm: BorrowedFd<'_>) -> Result<(), Fault> {
    rustix::fs::mkdir(SHM, Mode::from_raw_mode(0o755))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(shm, "", CWD, SHM, flags)?)
}

fn make_shm(size: u64, map: Option<&UserNamespace>) -> Result<OwnedFd, Fault> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let (uid, gid) = match map {
        Some(map) => map.on_host(0, 0).ok_or_else(|| Fault::invalid("root is not mapped"))?,
        None => (0, 0),
    };
    let [size, uid, gid] = [size, uid.into(), gid.into()].map(|number: u64| number.to_string());
    let options = [("mode", "1777"), ("size", &size), ("uid", &uid), ("gid", &gid)];
    mounts::make("tmpfs", &options.map(|(key, value)| (key, Some(value))), attributes)
}

/// Which keys belong to a namespace of the pod is the daemon's to decide; here a key cannot leave
/// `/proc/sys`.
pub(super) fn set_sysctls(plan: &PodPlan, proc: &Procfs) -> Result<(), Fault> {
    for (key, value) in &plan.sysctls {
        let path = sysctl_path(key).about(&format!("sysctl {key}"))?;
        proc.write(&path, value.as_bytes()).about(&format!("sysctl {key}"))?;
    }
    Ok(())
}

/// As sysctl(8): the first of `.` and `/` separates, the other then stands for itself, so that
/// `net/ipv4/conf/eth0.5/rp_filter` can be said.
fn sysctl_path(key: &str) -> Result<String, Fault> {
    let dotted = key.chars().find(|c| matches!(c, '.' | '/')) == Some('.');
    let path: String = key
        .chars()
        .map(|c| match c {
            '.' if dotted => '/',
            '/' if dotted => '.',
            other => other,
        })
        .collect();
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if path.split('/').any(bad) {
        return Err(Fault::invalid("the key is not a path below /proc/sys"));
    }
    Ok(format!("sys/{path}"))
}

/// The process that keeps a shared PID namespace alive and reaps its orphans.
fn start_init() -> Result<PodInit, Fault> {
    match clone3(sys::clone::flag(libc::CLONE_NEWPID), None)? {
        Forked::Parent { pid, pidfd } => Ok(PodInit { pid, pidfd }),
        Forked::Child => be_init(),
    }
}

/// The life of PID 1 of a shared PID namespace.
pub(super) fn be_init() -> ! {
    let _ = std::panic::catch_unwind(run_init);
    exit_child(1)
}

fn run_init() {
    let parent_gone = Some(Signal::KILL);
    if rustix::process::set_parent_process_death_signal(parent_gone).is_err() {
        return;
    }
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"cais-init");
    // It holds nothing: not the clients, not the logs, and not standard error either.
    let _ = sys::process::close_range(0, u32::MAX);
    // PID 1 gets no signal that it has no handler for, except from the namespace above.
    let _ = sys::signal::reset();
    // Blocked, it stays pending while nobody waits: no orphan is missed between the two calls.
    let mut children = nix::sys::signal::SigSet::empty();
    children.add(nix::sys::signal::Signal::SIGCHLD);
    if children.thread_block().is_err() {
        return;
    }
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                let _ = children.wait();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_key_becomes_a_path_below_sys() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.5/rp_filter", "sys/net/ipv4/conf/eth0.5/rp_filter"),
            ("net.ipv4.conf.eth0/5.rp_filter", "sys/net/ipv4/conf/eth0.5/rp_filter"),
        ] {
            assert_eq!(sysctl_path(key).unwrap(), path, "{key}");
        }
    }

    #[test]
    fn a_key_that_would_leave_proc_sys_is_refused() {
        for key in ["", "..", "net/../../kernel", "/net/core", "net..core", "net.core."] {
            assert!(sysctl_path(key).is_err(), "{key:?}");
        }
    }
}
