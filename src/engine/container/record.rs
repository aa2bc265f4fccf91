//! What the next daemon must know of a container. Lives under the state directory, dies with the
//! boot.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::phase::Phase;
use super::snapshot::Snapshot;
use crate::cgroup::{self, Resources};
use crate::executor::plan::User;
use crate::id::{ContainerId, PodId};
use crate::image::LayerKey;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) pod: PodId,
    pub(crate) config: Arc<Config>,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    pub(crate) created_at: i64,
    pub(crate) phase: Phase,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) resources: Resources,
    pub(crate) user: User,
    pub(crate) stop_signal: i32,
    pub(crate) cgroup: cgroup::Record,
    /// Of the image, kept while the container stands on them.
    pub(crate) layers: Vec<LayerKey>,
}

impl Record {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            id: self.id.clone(),
            pod: self.pod.clone(),
            config: self.config.clone(),
            image_id: self.image_id.clone(),
            image_ref: self.image_ref.clone(),
            created_at: self.created_at,
            phase: self.phase.clone(),
            log_path: self.log_path.clone(),
            resources: self.resources.clone(),
            user: self.user.clone(),
            stop_signal: self.stop_signal,
            cgroup: self.cgroup.path.clone(),
        }
    }
}
