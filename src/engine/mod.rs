//! Decisions: what pods, containers and images are and may do.

pub(crate) mod container;
pub(crate) mod plan;
pub(crate) mod pod;
pub(crate) mod spec;
