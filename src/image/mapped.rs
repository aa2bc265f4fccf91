//! The store as the users of builds see it: layers with their owners mapped, and what is made on top
//! with the owners that a layer has.
//!
//! ```text
//!                  a command's number   on the way       on the disk, in the layer
//!   root of a build        0        ──▶ 1879048192 ──▶   0
//!   its user 1000       1000        ──▶ 1879049192 ──▶   1000
//! ```
//!
//! One mount of the store's directory maps the owners; it is attached nowhere and stays. Layers, upper
//! and work directories are named by paths through it, so a mount for a command costs what any other
//! does. No number of the host's ever gets to the disk: who has none in the mapping, the daemon's own root
//! among them, can make nothing through it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{Mode, OFlags};
use rustix::mount::fsconfig_create;

use super::snapshot::{self, Owners, Writable};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::mount::{Reach, idmap};

/// The store's directory, mapped for the users of one user namespace.
#[derive(Debug)]
pub(crate) struct Mapped {
    root: PathBuf,
    tree: OwnedFd,
    namespace: OwnedFd,
    /// What the host calls user and group 0.
    owner: (u32, u32),
}

impl Mapped {
    /// # Errors
    /// `Unsupported` if the file system cannot map owners.
    pub(super) fn new(root: &Path, owners: Owners<'_>) -> Result<Self> {
        let namespace = owners.namespace.try_clone_to_owned().context("keep a user namespace")?;
        let tree = snapshot::map(root, owners)?;
        Ok(Self { root: root.to_owned(), tree, namespace, owner: owners.root })
    }

    /// A path of the store's, through this mount: only for this process, and as long as this lives.
    pub(super) fn path(&self, path: &Path) -> Result<PathBuf> {
        Ok(of_descriptor(&self.tree).join(self.below(path)?))
    }

    fn below<'p>(&self, path: &'p Path) -> Result<&'p Path> {
        path.strip_prefix(&self.root).context("a path that is not the store's")
    }

    /// A directory of the store's, opened through this mount.
    pub(super) fn open(&self, path: &Path) -> Result<OwnedFd> {
        let below = self.below(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.tree, below, flags, Mode::empty())
            .with_context(|| format!("open {}", path.display()))
    }

    /// A mount of its own for a directory that is named in some other way.
    pub(super) fn open_elsewhere(&self, path: &Path) -> Result<OwnedFd> {
        snapshot::map(path, Owners { namespace: self.namespace.as_fd(), root: self.owner })
    }

    /// Makes a detached mount, and all below it, show its files' owners as these users.
    ///
    /// # Errors
    /// `Unsupported` if its file system cannot.
    pub(crate) fn map(&self, tree: BorrowedFd<'_>) -> Result<()> {
        idmap(tree, Reach::Recursive, self.namespace.as_fd())
            .kind(Kind::Unsupported)
            .context("the file system cannot map owners")
    }

    /// Mounts layers, which are named by paths through mapped mounts, the base first; the other directories are named by
    /// the store's paths.
    pub(super) fn mount(
        &self,
        layers: &[PathBuf],
        empty: &Path,
        writable: Option<Writable<'_>>,
    ) -> Result<OwnedFd> {
        let empty = self.path(empty)?;
        let create = |overlay: &OwnedFd| create_as(self.owner, overlay);
        let Some(Writable { upper, work, life }) = writable else {
            return snapshot::mount_by(create, layers, &empty, None, None);
        };
        let (upper, work) = (self.path(upper)?, self.path(work)?);
        let writable = Writable { upper: &upper, work: &work, life };
        snapshot::mount_by(create, layers, &empty, Some(writable), None)
    }
}

/// A path that leads to the directory even after it has moved.
pub(super) fn of_descriptor(directory: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}/.", directory.as_raw_fd()).into()
}

/// overlayfs makes its own files as who has made the mount, and the host's root is nobody in the mapping of the upper directory. So
/// a thread makes it that is root of the user namespace to file systems, with all that the daemon may do; it
/// ends with that.
fn create_as((uid, gid): (u32, u32), overlay: &OwnedFd) -> Result<()> {
    let create = || -> Result<()> {
        let sets = rustix::thread::capabilities(None).context("read capabilities")?;
        // Both answer what was before; whether they did it shows in what the kernel lets us make.
        setfsgid(Gid::from_raw(gid));
        setfsuid(Uid::from_raw(uid));
        // Which the change of user has taken away in part.
        rustix::thread::set_capabilities(None, sets).context("keep capabilities")?;
        fsconfig_create(overlay).context("create overlay with owners mapped")
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cais-mount".to_owned());
        let running = thread.spawn_scoped(scope, create).context("start a thread")?;
        running.join().unwrap_or_else(|_| Err(Error::internal("a thread that mounts ended early")))
    })
}
