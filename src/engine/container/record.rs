//! What the next daemon must know of a container, and what readers see of it: published whole,
//! never locked. Lives under the state directory, dies with the boot.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::phase::Phase;
use crate::cgroup::{self, Resources};
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
}
