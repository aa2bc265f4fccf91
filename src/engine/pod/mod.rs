//! Pods: what CRI calls a pod sandbox.

pub(crate) mod config;
pub(crate) mod phase;
pub(crate) mod snapshot;
