//! Pods: what CRI calls a pod sandbox.

pub(crate) mod config;
