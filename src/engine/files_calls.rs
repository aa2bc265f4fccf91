//! What the engine does for those who copy files.

use std::sync::Arc;

use super::Engine;
use super::files::{self, Change, Found, Upload};
use super::standalone::Standalone;
use crate::error::Result;
use crate::image::Overwrite;
use crate::image::pieces::Pieces;

impl Engine {
    /// What a path in a container is.
    pub(crate) async fn find_file(&self, container: &Standalone, path: &str) -> Result<Found> {
        files::find(self.shared.clone(), container.record(), path).await
    }

    /// All of a container's files, without what is mounted in it.
    pub(crate) fn export(&self, container: &Standalone) -> Pieces {
        files::export(self.shared.clone(), container.record())
    }

    /// What is not as in the image.
    pub(crate) async fn changes(&self, container: &Standalone) -> Result<Vec<Change>> {
        files::changes(self.shared.clone(), container.record()).await
    }

    /// Room for what a client sends; it is given back when nothing comes of it.
    pub(crate) fn begin_upload(&self) -> Result<Upload> {
        Upload::begin(&self.shared)
    }

    /// Unpacks an archive below a directory of the container.
    pub(crate) async fn write_files(
        &self,
        container: &Arc<Standalone>,
        path: &str,
        upload: Upload,
        rule: Overwrite,
    ) -> Result<()> {
        files::write(self.shared.clone(), container.clone(), path, upload, rule).await
    }
}
