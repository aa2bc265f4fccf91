//! What the next daemon must know of a container, and what readers see of it: published whole,
//! never locked. Lives under the state directory, dies with the boot.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::phase::Phase;
use crate::cgroup::{self, Resources};
use crate::engine::rendering::Rendering;
use crate::executor::plan::User;
use crate::id::{ContainerId, PodId};
use crate::image::LayerKey;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) pod: PodId,
    pub(crate) config: Arc<Config>,
    /// The image's id: its configuration's digest.
    pub(crate) image_id: String,
    /// A repository digest of the image, or its id.
    pub(crate) image_ref: String,
    /// What people call the image, however the client named it.
    #[serde(default)]
    pub(crate) image_name: String,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) phase: Phase,
    /// Absolute.
    pub(crate) log_path: Option<PathBuf>,
    /// As last applied.
    pub(crate) resources: Resources,
    /// Of the first process, resolved inside the image.
    pub(crate) user: User,
    /// Signal number.
    pub(crate) stop_signal: i32,
    pub(crate) cgroup: cgroup::Record,
    /// Of the image, kept while the container stands on them.
    pub(crate) layers: Vec<LayerKey>,
    #[serde(default)]
    pub(crate) image_volumes: Vec<ImageVolume>,
    #[serde(skip)]
    pub(crate) rendering: Rendering,
}

/// What an image mount of the request turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageVolume {
    pub(crate) container_path: PathBuf,
    pub(crate) image_id: String,
    /// Kept as the container's own.
    pub(crate) layers: Vec<LayerKey>,
}

impl Record {
    /// The layers that must stay as long as the container does.
    pub(crate) fn layers_in_use(&self) -> impl Iterator<Item = &LayerKey> {
        self.layers.iter().chain(self.image_volumes.iter().flat_map(|volume| &volume.layers))
    }

    /// Its own image and those in its mounts.
    pub(super) fn images(&self) -> impl Iterator<Item = &str> {
        let volumes = self.image_volumes.iter().map(|volume| volume.image_id.as_str());
        std::iter::once(self.image_id.as_str()).chain(volumes)
    }
}
