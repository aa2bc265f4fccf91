//! What readers see of a pod: published whole, never locked.

use std::net::IpAddr;
use std::sync::Arc;

use super::config::Config;
use super::phase::Phase;
use crate::id::PodId;

#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) id: PodId,
    pub(crate) config: Arc<Config>,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) phase: Phase,
    /// The primary address first; none with the host's network, or once stopped.
    pub(crate) addresses: Vec<IpAddr>,
    /// The per-pod process; `None` once it is gone.
    pub(crate) monitor_pid: Option<i32>,
    /// The pod's cgroup, below each hierarchy's root.
    pub(crate) cgroup: String,
}
