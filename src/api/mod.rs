//! Front doors: read a request, ask the engine, shape the answer. Nothing is decided here.
//!
//! ```text
//!   kubelet ──▶ Unix socket ──▶ call (span, deadline, panic guard) ──▶ cri ─────┐
//!   docker  ──▶ Unix socket ──▶ docker (span, panic guard, router) ────────────┴─▶ engine
//! ```
//!
//! The sockets are bound before the engine has taken up its pods: who connects meanwhile waits in
//! the kernel's queue, so that no call sees a half-recovered engine.

mod call;
mod cri;
mod docker;
mod socket;

use std::pin::pin;
use std::time::Duration;

use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use self::call::CallLayer;
use self::socket::{Access, Socket};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Context, Result};

/// How long calls that are under way may take once the daemon was told to end.
const GRACE: Duration = Duration::from_secs(5);

/// For what the last calls answered to get to their clients.
const FLUSH: Duration = Duration::from_millis(100);

/// Bound sockets, not yet served.
pub(crate) struct Listening {
    cri: Socket,
    /// `None`: not wanted.
    docker: Option<Socket>,
}

/// Binds the sockets. Clients may connect from now on, and wait.
pub(crate) fn listen(config: &Config) -> Result<Listening> {
    let docker = config
        .docker
        .enabled
        .then(|| Socket::bind(&config.docker.socket, Access::of_group(&config.docker.group)));
    Ok(Listening {
        cri: Socket::bind(&config.cri.socket, Access::Owner)?,
        docker: docker.transpose()?,
    })
}

impl Listening {
    /// Answers calls until `stop` resolves, and then those that are under way.
    pub(crate) async fn serve(
        self,
        engine: Engine,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let (runtime, image) = cri::services(engine.clone());
        let incoming = UnixListenerStream::new(self.cri.listener()?);
        let stopping = CancellationToken::new();
        let under_way = TaskTracker::new();
        if let Some(socket) = &self.docker {
            let door = docker::Door::new(engine.clone(), under_way.clone());
            tokio::spawn(door.serve(socket.listener()?, stopping.clone()));
        }
        let server = Server::builder()
            .layer(CallLayer { under_way: under_way.clone() })
            .add_service(runtime)
            .add_service(image)
            .serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned());
        let mut server = pin!(server);
        tokio::select! {
            ended = &mut server => return ended.context("serve the CRI socket"),
            () = stop => stopping.cancel(),
        }
        engine.end_events();
        // Clients keep their connections open for ever: one without a call must not hold us.
        under_way.close();
        tokio::select! {
            ended = &mut server => return ended.context("serve the CRI socket"),
            _ = tokio::time::timeout(GRACE, under_way.wait()) => {}
        }
        match tokio::time::timeout(FLUSH, server).await {
            Ok(ended) => ended.context("serve the CRI socket"),
            Err(_) => Ok(()),
        }
    }
}
