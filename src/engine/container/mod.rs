//! Containers of a pod.

pub(crate) mod config;
