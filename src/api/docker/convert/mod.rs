//! Between the API's shapes and the engine's types.

pub(super) mod container;
pub(super) mod create;
pub(super) mod credentials;
mod host;
pub(super) mod image;
mod mounts;
mod network;
mod network_settings;
mod security;
pub(super) mod time;

use super::wire::container::PortBinding;
