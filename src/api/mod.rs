//! Front doors: read a request, ask the engine, shape the answer. Nothing is decided here.
//!
//! ```text
//!   kubelet ──▶ Unix socket ──▶ call (span, deadline, panic guard) ──▶ cri ─────┐
//!   docker  ──▶ Unix socket, TLS ──▶ docker (span, panic guard, router) ───────┴─▶ engine
//! ```
//!
//! The sockets are bound before the engine has taken up its pods: who connects meanwhile waits in
//! the kernel's queue, so that no call sees a half-recovered engine.

mod buildkit;
mod call;
mod cri;
mod docker;
mod socket;
mod tls;

use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinError;
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
    docker_tls: Option<tls::Port>,
}

/// Binds the sockets. Clients may connect from now on, and wait.
pub(crate) fn listen(config: &Config) -> Result<Listening> {
    let wanted = Some(&config.docker).filter(|docker| docker.enabled);
    let docker = wanted.map(|docker| Socket::bind(&docker.socket, Access::of_group(&docker.group)));
    let docker_tls = wanted.and_then(|docker| docker.tls.as_ref()).map(tls::Port::bind);
    Ok(Listening {
        cri: Socket::bind(&config.cri.socket, Access::Owner)?,
        docker: docker.transpose()?,
        docker_tls: docker_tls.transpose()?,
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
        let door = Thread::start()?;
        let stopping = CancellationToken::new();
        let under_way = TaskTracker::new();
        if let Some(socket) = &self.docker {
            let door = docker::Door::new(engine.clone(), under_way.clone());
            if let Some(port) = self.docker_tls {
                let (listener, handshakes) = port.open()?;
                tokio::spawn(door.clone().serve_tls(listener, handshakes, stopping.clone()));
            }
            tokio::spawn(door.serve(socket.listener()?, stopping.clone()));
        }
        let layer = CallLayer { engine: Handle::current(), under_way: under_way.clone() };
        let listener = {
            let _watched_there = door.handle.enter();
            self.cri.listener()?
        };
        let server = Server::builder()
            .layer(layer)
            .add_service(runtime)
            .add_service(image)
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener),
                stopping.clone().cancelled_owned(),
            );
        let mut server = door.handle.spawn(server);
        tokio::select! {
            ended = &mut server => return flatten(ended),
            () = stop => stopping.cancel(),
        }
        engine.end_events();
        // Clients keep their connections open for ever: one without a call must not hold us.
        under_way.close();
        tokio::select! {
            ended = &mut server => return flatten(ended),
            _ = tokio::time::timeout(GRACE, under_way.wait()) => {}
        }
        match tokio::time::timeout(FLUSH, server).await {
            Ok(ended) => flatten(ended),
            Err(_) => Ok(()),
        }
    }
}

fn flatten(ended: Result<Result<(), tonic::transport::Error>, JoinError>) -> Result<()> {
    ended.context("serve the CRI socket")?.context("serve the CRI socket")
}

/// The thread that the CRI's door has to itself.
struct Thread {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Thread {
    fn start() -> Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("cais-cri").enable_all().build();
        let runtime = runtime.context("start the thread of the CRI socket")?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Thread {
    /// Without waiting, as it must be in an asynchronous function.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
