//! Between the API's shapes and the engine's types.

pub(super) mod credentials;
pub(super) mod image;
pub(super) mod time;
