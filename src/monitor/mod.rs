//! The per-pod process and its wire.
//!
//! | file | who uses it |
//! |---|---|
//! | `protocol`, `wire` | both sides |
//! | `client`, `spawn` | daemon and stream server (tokio) |
//! | `server` | the monitor itself (one thread, no tokio) |

pub(crate) mod client;
pub(crate) mod protocol;
mod server;
pub(crate) mod spawn;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

/// The monitor's whole life.
pub(crate) fn run() -> crate::error::Result<()> {
    server::run()
}
