//! Containers of a pod.

pub(crate) mod config;
pub(crate) mod phase;
pub(crate) mod snapshot;
