//! What the engine does for those who make room, and ask where it went.

use super::image::Removal;
use super::standalone::record::Record;
use super::{Engine, prune, volume};
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

    /// Bytes that a container's writable layer takes on disk.
    pub(crate) async fn writable_size(&self, id: &ContainerId) -> u64 {
        prune::writable_size(&self.shared, id).await
    }

    /// Bytes that a volume takes on disk.
    pub(crate) async fn volume_size(&self, name: &str) -> u64 {
        volume::size(&self.shared, name).await
    }
}
