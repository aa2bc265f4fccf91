//! Opening a part of the host's file system as a detached mount.
//!
//! The copy keeps the flags of the mount it comes from (`nosuid`, `nodev`, …): what the host's
//! administrator locked stays locked, and the request can only add.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::{
    Fd, Mount, MountAttributes, MountSource, Propagation, TargetKind, UserNamespace,
};
use crate::sys::mount::{Change, Reach, idmap, mount_setattr};

/// One bind mount, before its source is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindRequest {
    /// Which of the plan's mounts it becomes.
    pub(super) place: usize,
    /// Absolute, on the host.
    pub(super) source: PathBuf,
    pub(super) is_recursive: bool,
    pub(super) read_only: ReadOnly,
    pub(super) attributes: MountAttributes,
    pub(super) propagation: Propagation,
    /// How it shows the owners of its files; `None`: as they are.
    pub(super) owners: Option<UserNamespace>,
}

/// User namespaces by which mounts are mapped, each with its numbers.
pub(super) type OpenOwners = [(UserNamespace, OwnedFd)];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ReadOnly {
    #[default]
    No,
    /// The mount itself, not those below it.
    This,
    Recursive,
}

impl BindRequest {
    /// Opens the source, makes it a directory when it is missing, and sets what was asked.
    pub(super) fn open(&self, owners: &OpenOwners) -> Result<(OwnedFd, TargetKind)> {
        let shown = self.source.display();
        let source = open_or_make(&self.source)?;
        let found = statx(&source, "", AtFlags::EMPTY_PATH, StatxFlags::MODE | StatxFlags::MNT_ID)
            .with_context(|| format!("stat {shown}"))?;
        let is_directory = FileType::from_raw_mode(found.stx_mode.into()).is_dir();
        let kind = if is_directory { TargetKind::Directory } else { TargetKind::File };
        self.check_propagation(found.stx_mnt_id)?;
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        if self.is_recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = open_tree(&source, "", flags).with_context(|| format!("copy mount {shown}"))?;
        self.set_attributes(&tree).with_context(|| format!("set attributes of {shown}"))?;
        self.map_owners(&tree, owners)?;
        Ok((tree, kind))
    }

    fn map_owners(&self, tree: &OwnedFd, owners: &OpenOwners) -> Result<()> {
        let Some(wanted) = &self.owners else { return Ok(()) };
        let found = owners.iter().find(|(known, _)| known == wanted);
        let (_, namespace) = found.context("a mapping without a user namespace")?;
        let reach = if self.is_recursive { Reach::Recursive } else { Reach::This };
        idmap(tree.as_fd(), reach, namespace.as_fd()).kind(Kind::Unsupported).with_context(|| {
            let shown = self.source.display();
            format!(
                "uidMappings: the file system of {shown}, or of a mount below, cannot map owners"
            )
        })
    }

    fn set_attributes(&self, tree: &OwnedFd) -> Result<()> {
        let apply = |reach: Reach, change: Change| mount_setattr(tree.as_fd(), c"", reach, change);
        // A copy of a shared mount is a peer of it already, so only the other two need a word.
        let propagation = match self.propagation {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
        };
        apply(Reach::Recursive, Change { propagation, ..Change::default() })
            .context("propagation")?;
        let mut set = restrictions(self.attributes);
        if self.read_only == ReadOnly::This {
            set |= libc::MOUNT_ATTR_RDONLY;
        }
        if set != 0 {
            apply(Reach::This, Change { set, ..Change::default() }).context("flags")?;
        }
        if self.read_only == ReadOnly::Recursive {
            let set = libc::MOUNT_ATTR_RDONLY;
            // The prefix is the interface's: kubelet knows by it that the node cannot do it.
            apply(Reach::Recursive, Change { set, ..Change::default() })
                .context("RROUnsupported: make all of it read-only")?;
        }
        Ok(())
    }

    /// Mounts can only travel through a mount that takes part.
    fn check_propagation(&self, mount: u64) -> Result<()> {
        if self.propagation == Propagation::Private {
            return Ok(());
        }
        let mountinfo = std::fs::read("/proc/self/mountinfo").context("read mountinfo")?;
        let mountinfo = String::from_utf8_lossy(&mountinfo);
        let (point, state) = sharing(&mountinfo, mount).context("find the mount of the source")?;
        let wanted = match self.propagation {
            Propagation::Private => return Ok(()),
            Propagation::Slave if state.is_shared || state.is_slave => return Ok(()),
            Propagation::Shared if state.is_shared => return Ok(()),
            Propagation::Slave => "shared or slave",
            Propagation::Shared => "shared",
        };
        Err(Error::new(
            Kind::InvalidArgument,
            format!(
                "path {:?} is mounted on {point:?} but it is not a {wanted} mount",
                self.source.display().to_string()
            ),
        ))
    }

    /// Writes the opened mount into the plan.
    pub(super) fn place(&self, mounts: &mut [Mount], fd: Fd, kind: TargetKind) -> Result<()> {
        let mount = mounts.get_mut(self.place).context("a bind without a place in the plan")?;
        mount.source = MountSource::Attach { mount: fd, kind };
        Ok(())
    }
}

/// What a request may forbid on a mount, as the kernel's bits.
pub(super) fn restrictions(attributes: MountAttributes) -> u64 {
    let MountAttributes { no_suid, no_dev, no_exec, .. } = attributes;
    let bits = [
        (no_suid, libc::MOUNT_ATTR_NOSUID),
        (no_dev, libc::MOUNT_ATTR_NODEV),
        (no_exec, libc::MOUNT_ATTR_NOEXEC),
    ];
    bits.into_iter().filter(|(wanted, _)| *wanted).fold(0, |set, (_, bit)| set | bit)
}

#[derive(Debug, PartialEq, Eq)]
struct Sharing {
    is_shared: bool,
    is_slave: bool,
}

/// The mount point and the propagation of a mount in `/proc/self/mountinfo`.
fn sharing(mountinfo: &str, id: u64) -> Option<(String, Sharing)> {
    let id = id.to_string();
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(&id))?;
    let (left, _) = line.split_once(" - ")?;
    let mut words = left.split(' ').skip(4);
    let point = words.next()?.to_owned();
    let tags: Vec<&str> = words.skip(1).collect();
    let has = |tag: &str| tags.iter().any(|own| own.starts_with(tag));
    Some((point, Sharing { is_shared: has("shared:"), is_slave: has("master:") }))
}

/// Follows symbolic links: the path is the client's, and it means what it means on the host.
fn open_or_make(path: &Path) -> Result<OwnedFd> {
    let open = || openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let outcome = match open() {
        Err(Errno::NOENT) => {
            // As everybody does for kubelet's directories, which may be made later than the pod.
            std::fs::create_dir_all(path)
                .kind(Kind::InvalidArgument)
                .with_context(|| format!("make the missing host path {}", path.display()))?;
            open()
        }
        other => other,
    };
    outcome
        .kind(Kind::InvalidArgument)
        .with_context(|| format!("open host path {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(source: PathBuf, read_only: ReadOnly) -> BindRequest {
        BindRequest {
            place: 0,
            source,
            is_recursive: true,
            read_only,
            attributes: MountAttributes::default(),
            propagation: Propagation::Private,
            owners: None,
        }
    }

    fn create(tree: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        openat(tree, name, flags, Mode::from_raw_mode(0o600))
    }

    #[test]
    fn a_bind_is_detached_and_read_only_holds_for_it_alone() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let before = std::fs::read("/proc/self/mounts").unwrap();
        for read_only in [ReadOnly::This, ReadOnly::Recursive] {
            let (tree, kind) = request(directory.path().into(), read_only).open(&[]).unwrap();
            assert_eq!(kind, TargetKind::Directory);
            assert_eq!(create(&tree, "x").unwrap_err(), Errno::ROFS);
        }
        let (tree, _) = request(directory.path().into(), ReadOnly::No).open(&[]).unwrap();
        create(&tree, "x").unwrap();
        assert!(directory.path().join("x").exists());
        assert_eq!(std::fs::read("/proc/self/mounts").unwrap(), before);
    }

    #[test]
    fn a_missing_source_becomes_a_directory_and_a_link_is_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("a/b");
        let (_, kind) = request(missing.clone(), ReadOnly::No).open(&[]).unwrap();
        assert!(kind == TargetKind::Directory && missing.is_dir());

        let file = directory.path().join("file");
        std::fs::File::create(&file).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(request(link, ReadOnly::No).open(&[]).unwrap().1, TargetKind::File);

        let error = request(file.join("below"), ReadOnly::No).open(&[]).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.chain().contains("file/below"), "{}", error.chain());
    }

    #[test]
    fn sharing_is_read_from_the_mounts_own_line() {
        let text = "\
22 1 0:2 / / rw shared:1 - ext4 /dev/root rw
23 22 0:3 / /slave rw,nosuid master:1 - tmpfs tmpfs rw
24 22 0:4 / /both rw shared:7 master:1 - tmpfs tmpfs rw
25 22 0:5 / /alone rw - tmpfs tmpfs rw,shared:9
";
        let of = |id| sharing(text, id).map(|(_, it)| (it.is_shared, it.is_slave));
        assert_eq!(of(22), Some((true, false)));
        assert_eq!(of(23), Some((false, true)));
        assert_eq!(of(24), Some((true, true)));
        assert_eq!(of(25), Some((false, false)));
        assert_eq!(of(2), None);
        assert_eq!(sharing(text, 23).unwrap().0, "/slave");
    }
}
