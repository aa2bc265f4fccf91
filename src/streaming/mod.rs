//! Exec, attach and port-forward sessions, for both doors, in a process of their own.
//!
//! ```text
//!   daemon ──streams.sock──▶ control ──▶ tokens          (register a session, get an address)
//!   client ──HTTP upgrade──▶ server ──▶ serve ──▶ remote_command, port_forward
//!                                         │              │
//!                               spdy, websocket       backend ──▶ the pod's monitor
//! ```
//!
//! The process is `caisd stream-server`. It also answers names for containers ([`crate::dns`]). It outlives the daemon, so a daemon that is killed cuts
//! no session; the next one finds it by its control socket. It never opens a container's files
//! and never enters a namespace: descriptors come from the monitor.

pub(crate) mod backend;
mod channel;
pub(crate) mod client;
mod control;
pub(crate) mod monitors;
mod port_forward;
pub(crate) mod process;
mod protocol;
mod remote_command;
mod serve;
mod server;
mod spdy;
mod status;
pub(crate) mod stdio;
mod tokens;
mod tunnel;
mod websocket;

#[cfg(test)]
mod local;
#[cfg(test)]
mod tests;
