//! Layers as one file system: a detached overlay mount, handed on as a descriptor.
//!
//! Nothing is attached to the host's mount table. Paths given to the kernel here are the
//! daemon's own; none comes from an image.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::error::{Context, Error, Kind, Result};
use crate::sys::mount::{Reach, idmap};

/// The directories that take a container's changes; both on one file system, `work` empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writable<'a> {
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) life: Life,
}

impl Writable<'_> {
    /// Nobody has mounted it yet: overlayfs leaves a directory in `work` when somebody does.
    pub(super) fn is_new(&self) -> bool {
        !self.work.join("work").exists()
    }
}

/// How long a container's changes are to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// They die with the boot at the latest: nothing needs to reach the disk.
    Short,
    /// They survive the boot, and are there again when the container is started again.
    Long,
    /// As `Short`, and the upper directory is read as it is when the mount is gone: it becomes a layer.
    Layer,
}

/// Whose numbers the owners of an image's files are: those of a user namespace, in which root is
/// `root` (user and group) to the host.
///
/// Layers are shared by pods with other numbers and stay as they are. What a container writes has
/// the host's numbers on disk: nothing in its upper directory belongs to the host's root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owners<'a> {
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) root: (u32, u32),
}

/// Mounts `layers` (the base first). `empty` stands in where the kernel wants a layer more.
pub(super) fn mount(
    layers: &[PathBuf],
    empty: &Path,
    writable: Option<Writable<'_>>,
    owners: Option<Owners<'_>>,
) -> Result<OwnedFd> {
    let create = |overlay: &OwnedFd| fsconfig_create(overlay).context("create overlay");
    mount_by(create, layers, empty, writable, owners)
}

/// The same; `create` makes the file system when all is set.
pub(super) fn mount_by(
    create: impl FnOnce(&OwnedFd) -> Result<()>,
    layers: &[PathBuf],
    empty: &Path,
    writable: Option<Writable<'_>>,
    owners: Option<Owners<'_>>,
) -> Result<OwnedFd> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen overlay")?;
    // overlayfs counts from the top, and without an upper directory it wants two layers.
    let mut lowers = once_each(layers);
    if lowers.is_empty() || (lowers.len() == 1 && writable.is_none()) {
        lowers.push(empty);
    }
    // Kept until the mount is made: older kernels look for the layers only then.
    let held = match owners {
        Some(owners) => set_mapped_lowers(&overlay, &lowers, owners)?,
        None => set_lowers(&overlay, &lowers)?,
    };
    let set = |key: &str, value: &str| {
        fsconfig_set_string(&overlay, key, value).with_context(|| format!("overlay {key}={value}"))
    };
    // Hard links of lower files may break on change, as they do in every container engine; an
    // index would bind the upper directory to these layers for nothing in return.
    set("index", "off")?;
    if let Some(Writable { upper, work, life }) = writable {
        fsconfig_set_string(&overlay, "upperdir", upper).context("overlay upperdir")?;
        fsconfig_set_string(&overlay, "workdir", work).context("overlay workdir")?;
        if life != Life::Long {
            fsconfig_set_flag(&overlay, "volatile").context("overlay volatile")?;
        }
        if life == Life::Layer {
            // Whatever the module's defaults are: a layer has whole directories and whole files.
            // Linux knows both since 4.19.
            set("redirect_dir", "off")?;
            set("metacopy", "off")?;
        }
    }
    create(&overlay)?;
    drop(held);
    let attributes = match writable {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes).context("fsmount overlay")
}

/// The topmost first. A layer that lies on another of the same content is there once, on top: it hides
/// all of the lower one, and overlayfs refuses to have one directory twice. Steps that change nothing
/// make such layers.
fn once_each(layers: &[PathBuf]) -> Vec<&Path> {
    let mut all: Vec<&Path> = Vec::with_capacity(layers.len());
    for layer in layers.iter().rev() {
        if !all.contains(&layer.as_path()) {
            all.push(layer);
        }
    }
    all
}

/// Gives the upper directory the owner and mode of an image's root.
pub(super) fn copy_root(from: &Path, upper: &Path, owners: Option<Owners<'_>>) -> Result<()> {
    use rustix::fs::{Gid, Mode, Uid, fchmod, fchown, fstat, open};

    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Through the mount the owner comes out as the host counts it.
    let from = match owners {
        Some(owners) => map(from, owners)?,
        None => open(from, flags, Mode::empty()).context("open the image's root")?,
    };
    let stat = fstat(&from).context("stat the image's root")?;
    let upper = open(upper, flags, Mode::empty()).context("open the upper directory")?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(&upper, Some(uid), Some(gid)).context("chown the upper directory")?;
    fchmod(&upper, Mode::from_raw_mode(stat.st_mode)).context("chmod the upper directory")
}

/// For an image that says nothing about its root.
pub(super) fn give_root(upper: &Path, owners: Owners<'_>) -> Result<()> {
    use rustix::fs::{Gid, Uid, chown};

    let (uid, gid) = owners.root;
    chown(upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .context("chown the upper directory")
}

/// True when the kernel makes an overlay of mounts that are attached nowhere, which Linux does
/// since 6.15. Layers whose owners are mapped are such mounts.
pub(super) fn can_map(layers: [&Path; 2]) -> bool {
    let attempt = || -> Result<()> {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen overlay")?;
        let layers = [copy(layers[0])?, copy(layers[1])?];
        for layer in &layers {
            fsconfig_set_fd(&overlay, "lowerdir+", layer).context("overlay layer")?;
        }
        fsconfig_create(&overlay).context("create overlay")
    };
    attempt().is_ok()
}

/// A mount that is attached nowhere goes with its descriptor: the overlay has copies of them once it
/// is made, and needs what is returned until then.
fn set_mapped_lowers(
    overlay: &OwnedFd,
    lowers: &[&Path],
    owners: Owners<'_>,
) -> Result<Vec<OwnedFd>> {
    let mut held = Vec::with_capacity(lowers.len());
    for lower in lowers {
        let layer = map(lower, owners)?;
        fsconfig_set_fd(overlay, "lowerdir+", &layer)
            .kind(Kind::Unsupported)
            .with_context(|| format!("mapped overlay layer {}", lower.display()))?;
        held.push(layer);
    }
    Ok(held)
}

/// The directory as a mount that shows the owners of its files as the host counts them.
pub(super) fn map(directory: &Path, owners: Owners<'_>) -> Result<OwnedFd> {
    let mount = copy(directory)?;
    idmap(mount.as_fd(), Reach::This, owners.namespace)
        .kind(Kind::Unsupported)
        .with_context(|| format!("map owners on the file system of {}", directory.display()))?;
    Ok(mount)
}

fn copy(directory: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, directory, flags).with_context(|| format!("copy mount {}", directory.display()))
}

/// Returns what must stay open until the overlay is made.
fn set_lowers(overlay: &OwnedFd, lowers: &[&Path]) -> Result<Vec<OwnedFd>> {
    static ONE_BY_ONE: OnceLock<bool> = OnceLock::new();

    if !*ONE_BY_ONE.get_or_init(takes_layers_one_by_one) {
        return set_lowers_at_once(overlay, lowers);
    }
    for lower in lowers {
        fsconfig_set_string(overlay, "lowerdir+", *lower)
            .with_context(|| format!("overlay layer {}", lower.display()))?;
    }
    Ok(Vec::new())
}

/// Asks the kernel with a path that does not exist. Linux 6.8 and later look for it at once, 6.5 to
/// 6.7 do not know the word, and older ones keep any word until the mount is made.
fn takes_layers_one_by_one() -> bool {
    fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).is_ok_and(|overlay| {
        let answer = fsconfig_set_string(&overlay, "lowerdir+", "/proc/none");
        answer.is_err_and(|errno| errno != Errno::INVAL)
    })
}

/// Before Linux 6.8 all layers go into one string, and fsconfig(2) takes no more than 255 bytes.
/// Descriptors' names keep it short enough for a dozen layers.
fn set_lowers_at_once(overlay: &OwnedFd, lowers: &[&Path]) -> Result<Vec<OwnedFd>> {
    use std::os::fd::AsRawFd;

    let mut held = Vec::with_capacity(lowers.len());
    for lower in lowers {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = rustix::fs::open(*lower, flags, rustix::fs::Mode::empty())
            .with_context(|| format!("open layer {}", lower.display()))?;
        held.push(fd);
    }
    let names: Vec<_> = held.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let names = names.join(":");
    if names.len() > 255 {
        return Err(Error::new(
            Kind::Unsupported,
            format!("an image of {} layers needs Linux 6.8 or later", lowers.len()),
        ));
    }
    fsconfig_set_string(overlay, "lowerdir", names.as_str()).context("overlay lowerdir")?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_mounted_once_where_it_lies_highest() {
        let layers = ["base", "empty", "own", "empty"].map(PathBuf::from);
        assert_eq!(once_each(&layers), ["empty", "own", "base"].map(Path::new));
    }
}
