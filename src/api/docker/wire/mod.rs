//! The shapes of the API's requests and replies, with their names on the wire. Nothing else.

pub(super) mod archive;
pub(in crate::api) mod container;
pub(super) mod details;
pub(super) mod event;
pub(super) mod exec;
pub(super) mod image;
pub(super) mod network;
mod nullable;
pub(super) mod stats;
pub(super) mod system;
pub(super) mod volume;
