//! Mounts of images: opened by the caller, fitted into the plan here.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde_bytes::ByteBuf;

use super::bind::restrictions;
use crate::error::{Context, Error, Result};
use crate::executor::plan::{Fd, Mount, MountAttributes, MountSource, TargetKind};
use crate::sys::mount::{Change, Reach, mount_setattr};

/// An image's files or a volume's, before it is known which descriptor they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumeRequest {
    /// Which of the plan's mounts it becomes.
    pub(super) place: usize,
    pub(super) target: PathBuf,
    pub(super) attributes: MountAttributes,
}

/// An image's files or a volume's as a detached mount.
#[derive(Debug)]
pub(crate) struct Volume {
    /// Where in the container: this tells one volume from another.
    pub(crate) target: PathBuf,
    pub(crate) tree: OwnedFd,
    /// What of the tree is meant, if not all of it: a path below its root.
    pub(crate) part: Option<ByteBuf>,
    /// Of the whole, or of the part.
    pub(crate) kind: TargetKind,
}

impl VolumeRequest {
    /// Writes its mount into the plan, and hands out the descriptor that `number` has numbered.
    pub(super) fn complete(
        &self,
        mounts: &mut [Mount],
        opened: &mut Vec<Volume>,
        number: impl FnOnce(OwnedFd) -> Result<Fd>,
    ) -> Result<()> {
        let shown = self.target.display();
        let found = opened.iter().position(|volume| volume.target == self.target);
        let found = found.ok_or_else(|| Error::internal(format!("no image for {shown}")))?;
        let Volume { target: _, tree, part, kind } = opened.swap_remove(found);
        self.set_attributes(&tree).with_context(|| format!("set attributes of {shown}"))?;
        let mount = mounts.get_mut(self.place).context("a volume without a place in the plan")?;
        let fd = number(tree)?;
        mount.source = match part {
            None => MountSource::Attach { mount: fd, kind },
            Some(path) => MountSource::AttachPart { mount: fd, path, kind },
        };
        Ok(())
    }

    fn set_attributes(&self, tree: &OwnedFd) -> Result<()> {
        let mut set = restrictions(self.attributes);
        if self.attributes.read_only {
            set |= libc::MOUNT_ATTR_RDONLY;
        }
        let change = Change { set, ..Change::default() };
        mount_setattr(tree.as_fd(), c"", Reach::This, change).context("flags")
    }
}
