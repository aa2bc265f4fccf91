//! Control groups: one interface over v1, hybrid and v2.

mod resources;

pub(crate) use resources::Resources;
