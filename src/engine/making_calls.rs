//! What the engine does for those who make images, or carry them.

use std::sync::Arc;

use super::Engine;
use super::files::Upload;
use super::making::{self, About};
use super::standalone::Standalone;
use crate::error::Result;
use crate::image::ImageId;
use crate::image::load::Outcome;
use crate::image::local::LocalLayer;
use crate::image::pieces::Pieces;

impl Engine {
    /// Makes an image of a container and its changes.
    pub(crate) async fn commit(
        &self,
        container: &Arc<Standalone>,
        about: About,
        with_pause: bool,
    ) -> Result<ImageId> {
        making::commit(self.shared.clone(), container.clone(), about, with_pause).await
    }

    /// Makes an image of one layer.
    pub(crate) async fn import_image(&self, layer: LocalLayer, about: About) -> Result<ImageId> {
        making::import(self.shared.clone(), layer, about).await
    }

    /// Loads every image of an archive.
    pub(crate) async fn load_images(&self, upload: Upload) -> Result<Outcome> {
        making::load(self.shared.clone(), upload).await
    }

    /// The named images as one archive.
    pub(crate) fn save_images(&self, names: &[String]) -> Result<Pieces> {
        making::archive(&self.shared, names)
    }
}
