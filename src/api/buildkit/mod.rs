//! The door that docker's build client (buildx) comes through: BuildKit's gRPC on connections of the
//! Docker Engine API's socket.
//!
//! ```text
//!   POST /grpc     ══ h2c ══▶ we serve   Control, LLBBridge   (control, bridge); or HTTP/2 from the first byte
//!   POST /session  ◀═ h2c ══  we call    its files, credentials, secrets, places for ours  (session)
//!   Control.Session ◀═══════  the same in a call
//!
//!   LLBBridge.Solve ─▶ attrs ─▶ solve ── Dockerfile, context by transfer ─▶ builder ─▶ board ─▶ Status
//!   Control.Solve   ─▶ waits for Return ─▶ export: image, push, files, archives
//! ```
//!
//! No LLB crosses but what stands for results of ours (linked): the client names the Dockerfile frontend, which is ours.

mod agents;
mod attest;
mod attrs;
mod board;
mod bridge;
mod caches;
mod checks;
mod client;
mod compression;
mod content;
mod control;
mod errors;
mod export;
mod job;
mod kept;
mod linked;
mod outline;
mod sbom;
mod scan;
mod send;
mod session;
mod solve;
mod statements;
mod steps;
mod targets;
mod transfer;
mod uploads;
mod wire;

use std::sync::Arc;

use cais_proto::buildkit::control::control_server::ControlServer;
use cais_proto::buildkit::control::frontend::llb_bridge_server::LlbBridgeServer;
use hyper_util::service::TowerToHyperService;
use tonic::service::Routes;

use self::job::Jobs;
use self::kept::KeptContexts;
pub(super) use self::session::Offer;
use self::session::Sessions;
pub(super) use self::solve::allows_insecure;
use self::wire::LARGEST_MESSAGE;
pub(super) use self::wire::{Io, serve_http2};
use crate::builder::Builder;
use crate::engine::Engine;
use crate::error::Result;

/// The door; clones share all it knows.
#[derive(Clone)]
pub(super) struct BuildKit(Arc<Inner>);

struct Inner {
    engine: Engine,
    builder: Builder,
    sessions: Sessions,
    jobs: Jobs,
    kept: KeptContexts,
}

impl BuildKit {
    pub(super) fn new(engine: Engine, builder: Builder) -> Self {
        Self(Arc::new(Inner {
            engine,
            builder,
            sessions: Sessions::default(),
            jobs: Jobs::default(),
            kept: KeptContexts::default(),
        }))
    }

    /// Answers the calls that come by a connection, until it ends.
    pub(super) async fn serve(&self, io: impl Io) {
        serve_http2(io, TowerToHyperService::new(self.routes())).await;
    }

    /// Answers calls one by one.
    pub(super) fn routes(&self) -> Routes {
        let control = ControlServer::new(self.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let bridge = LlbBridgeServer::new(self.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        Routes::new(control).add_service(bridge).prepare()
    }

    /// Keeps a session until its connection ends.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of its id.
    pub(super) async fn keep_session(&self, offer: Offer, io: impl Io) -> Result<()> {
        self.0.sessions.keep(offer, io).await
    }

    /// Removes the contexts that wait for the next build: those that were not used since then
    /// (nanoseconds since the epoch), or all.
    pub(super) fn forget_contexts(&self, since: Option<i64>) {
        self.0.kept.forget(since);
    }
}
