//! Decisions: what pods, containers and images are and may do.

pub(crate) mod container;
pub(crate) mod pod;
