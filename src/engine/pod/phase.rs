//! The life of a pod.
//!
//! ```text
//!   Making ──made──▶ Ready ──stop, monitor died──▶ Stopped ──remove──▶ (record deleted)
//!      └── failed, daemon died: undone, record deleted
//! ```
//!
//! `Making` is on disk only, so that the next daemon knows what to undo; no client sees it.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Making,
    Ready,
    Stopped,
}
