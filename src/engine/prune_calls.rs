//! What the engine does for those who make room, and ask where it went.

use super::image::Removal;
use super::standalone::record::Record;
use super::{Engine, actions, image, prune, volume};
use crate::error::Result;
use crate::id::ContainerId;
use crate::image::Image;

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

    /// Forgets what builds left under these keys: the bytes of the layers that went.
    pub(crate) async fn forget_kept_layers(&self, keys: Vec<String>) -> Result<u64> {
        let in_use = image::layers_in_use(&self.shared);
        let bytes = self.images().forget_kept(keys, in_use).await?;
        self.shared.tell_of_pruning(actions::Kind::Builder, bytes);
        Ok(bytes)
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
