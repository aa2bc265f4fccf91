//! What the next daemon must know of a pod. Lives under the state directory, dies with the boot.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::phase::Phase;
use super::snapshot::Snapshot;
use crate::cgroup;
use crate::id::PodId;
use crate::net::Attachment;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: PodId,
    pub(crate) config: Arc<Config>,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) phase: Phase,
    /// Parent of the containers' groups.
    pub(crate) cgroup: cgroup::Record,
    #[serde(default)]
    pub(crate) monitor_pid: Option<i32>,
    #[serde(default)]
    pub(crate) attachment: Option<Attachment>,
}

impl Record {
    pub(super) fn snapshot(&self) -> Snapshot {
        let addresses = match (self.phase, &self.attachment) {
            (Phase::Ready, Some(attachment)) => {
                attachment.addresses.iter().map(|address| address.addr()).collect()
            }
            (Phase::Ready | Phase::Making | Phase::Stopped, _) => Vec::new(),
        };
        Snapshot {
            id: self.id.clone(),
            config: self.config.clone(),
            created_at: self.created_at,
            phase: self.phase,
            addresses,
            monitor_pid: self.monitor_pid,
            cgroup: self.cgroup.path.clone(),
        }
    }
}
