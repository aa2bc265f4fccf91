//! What the engine does for the Docker door's volumes.

use std::path::PathBuf;
use std::sync::Arc;

use super::Engine;
use super::volume::{self, Request, Volume};
use crate::error::Result;

impl Engine {
    /// Ordered by name.
    pub(crate) fn volumes(&self) -> Vec<Arc<Volume>> {
        self.shared.volumes.all()
    }

    pub(crate) fn volume(&self, name: &str) -> Result<Arc<Volume>> {
        self.shared.volumes.find(name)
    }

    /// Where its files are, unless it stands for a directory of the host.
    pub(crate) fn volume_directory(&self, name: &str) -> PathBuf {
        self.shared.layout.volume_data(name)
    }

    /// How many containers have it.
    pub(crate) fn volume_users(&self, name: &str) -> usize {
        volume::users(&self.shared, name).len()
    }

    pub(crate) async fn create_volume(&self, request: Request) -> Result<Arc<Volume>> {
        volume::create(self.shared.clone(), request).await
    }

    pub(crate) async fn remove_volume(&self, name: &str) -> Result<()> {
        volume::remove(self.shared.clone(), name).await
    }

    /// The names of those that went, and the bytes they took.
    pub(crate) async fn prune_volumes(
        &self,
        wanted: impl Fn(&Volume) -> bool + Send + 'static,
    ) -> Result<(Vec<String>, u64)> {
        volume::prune(self.shared.clone(), wanted).await
    }
}
