//! Between the API's shapes and the engine's types.

pub(super) mod archive;
pub(in crate::api) mod build;
pub(super) mod changes;
pub(super) mod container;
pub(in crate::api) mod create;
pub(super) mod credentials;
mod devices;
pub(super) mod health;
pub(super) mod host;
pub(super) mod image;
pub(super) mod log;
pub(super) mod mounts;
mod namespaces;
pub(super) mod network;
pub(super) mod network_object;
mod network_settings;
pub(super) mod platform;
mod security;
pub(super) mod stats;
pub(super) mod time;
pub(super) mod update;
pub(super) mod volume;

use super::wire::container::PortBinding;
