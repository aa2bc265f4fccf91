//! What readers see of a container: published whole, never locked.

use std::path::PathBuf;
use std::sync::Arc;

use super::config::Config;
use super::phase::Phase;
use crate::cgroup::Resources;
use crate::executor::plan::User;
use crate::id::{ContainerId, PodId};

#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
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
    /// The container's cgroup, below each hierarchy's root.
    pub(crate) cgroup: String,
}
