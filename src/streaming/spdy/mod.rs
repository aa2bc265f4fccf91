//! A SPDY/3.1 server: what kubelet, crictl and kubectl speak to a runtime.
//!
//! ```text
//!   socket ─▶ Decoder ─▶ reader task ─▶ Feed ═▶ Incoming ─▶ exec, attach, port-forward
//!   socket ◀─ Encoder ◀─ writer task ◀─ Outbox ◀═ Sender ◀─
//! ```
//!
//! Only clients open streams. The dialect of Kubernetes keeps no flow-control windows, so both
//! kinds of peers are served: windows bind in both directions once the peer speaks of them, and
//! otherwise the connection itself is the back-pressure. Begin at [`session`].

pub(super) mod frame;
pub(super) mod headers;
mod outbox;
mod session;
mod table;

pub(crate) use outbox::Sender;
pub(crate) use session::{Session, Transport};
pub(crate) use table::Stream;
