//! What the engine does for those who make room, and ask where it went.

use std::collections::HashSet;

use super::image::Removal;
use super::standalone::record::Record;
use super::{Engine, actions, image, prune, volume};
use crate::error::{Context, Result};
use crate::id::ContainerId;
use crate::image::{Image, LayerKey};

/// Of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    /// To us.
    pub(crate) available: u64,
}

impl Engine {
    /// The ids of those that went, and the bytes they took.
    pub(crate) async fn prune_containers(
        &self,
        wanted: &(dyn Fn(&Record) -> bool + Send + Sync),
    ) -> Result<(Vec<ContainerId>, u64)> {
        prune::containers(&self.shared, wanted).await
    }

    /// What became of each that went, and the bytes they took.
    pub(crate) async fn prune_images(
        &self,
        wanted: &(dyn Fn(&Image) -> bool + Send + Sync),
    ) -> Result<(Vec<Removal>, u64)> {
        prune::images(&self.shared, wanted).await
    }

    /// Forgets what builds left under these keys, and the directories of cache mounts of these names, as far as no build needs
    /// them: which ones, and the bytes that went.
    pub(crate) async fn forget_builds(
        &self,
        keys: Vec<String>,
        mounts: Vec<String>,
    ) -> Result<(Vec<String>, u64)> {
        self.images().forget_builds(keys, mounts, self.layer_users()).await
    }

    /// A client had what builds left removed.
    pub(crate) fn builds_forgotten(&self, bytes: u64) {
        self.shared.tell_of_pruning(actions::Kind::Builder, bytes);
    }

    /// Removes the layers that nobody needs.
    pub(crate) async fn sweep_layers(&self) -> Result<()> {
        self.images().sweep(self.layer_users()).await
    }

    /// Layers that containers stand on.
    pub(crate) fn layers_in_use(&self) -> HashSet<LayerKey> {
        image::layers_in_use(&self.shared)
    }

    fn layer_users(&self) -> impl FnOnce() -> HashSet<LayerKey> + Send + 'static {
        image::layer_users(&self.shared)
    }

    /// Of the file system that images are on.
    pub(crate) fn image_space(&self) -> Result<Space> {
        let path = self.images().usage().mount_point;
        let space =
            rustix::fs::statvfs(&path).with_context(|| format!("stat {}", path.display()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Ok(Space { total: bytes(space.f_blocks), available: bytes(space.f_bavail) })
    }

    /// Bytes that a container's writable layer takes on disk.
    pub(crate) async fn writable_size(&self, id: &ContainerId) -> u64 {
        prune::writable_size(&self.shared, id).await
    }

    /// Bytes that a volume takes on disk.
    pub(crate) async fn volume_size(&self, name: &str) -> u64 {
        volume::size(&self.shared, name).await
    }
}
