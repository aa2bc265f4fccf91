//! The per-pod process and its wire.

pub(crate) mod protocol;
