//! Names of containers, answered at 127.0.0.11 inside their networks.
//!
//! ```text
//!   container ─ 127.0.0.11:53 ─(rules of its pod)─▶ sockets that its monitor opened and keeps
//!                                                        │ duplicates
//!   daemon ─ names.json ─▶ server ── serve ─▶ answer ────┤ known name: answered
//!              (table)                                   └ any other: upstream
//! ```
//!
//! The server runs in the process of the streams, which outlives the daemon: a daemon that is
//! killed leaves every name answered. What it knows stands in a file that the daemon replaces. It
//! gets its sockets from the pods' monitors, which keep them: when the process dies, questions wait
//! in the sockets for the next one.
//!
//! Whatever arrives is a stranger's. A question is read without following a compression pointer,
//! so there is nothing to loop in; what is asked of others is written anew, and what they answer is
//! taken only if it answers the question.

mod answer;
mod loopback;
mod message;
mod serve;
mod server;
pub(crate) mod table;
mod upstream;

#[cfg(test)]
mod tests;

pub(crate) use self::server::Server;

/// Where a container finds the server.
pub(crate) const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);
