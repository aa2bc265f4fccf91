//! One session, once its connection is upgraded: from its first stream to its goodbye.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ws::WebSocket;
use bytes::Bytes;

use super::backend::{Backend, Process, Wanted};
use super::port_forward;
use super::protocol::{self, RemoteCommand, WebSocketProtocol};
use super::remote_command::{self, Streams};
use super::server::{IDLE, Registered};
use super::spdy::Session;
use super::websocket::{Channels, Framing};
use crate::error::Result;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const REMOTE_CHANNELS: usize = 5;

type Starting = Pin<Box<dyn Future<Output = Result<Process>> + Send>>;

/// `remote` is the protocol of exec and attach; port-forward has but one.
pub(crate) async fn over_spdy(
    mut session: Session,
    registered: Registered,
    remote: RemoteCommand,
    backend: Arc<dyn Backend>,
) {
    let (wanted, process) = match registered {
        Registered::Exec(exec) => (exec.wanted, start_exec(backend, exec)),
        Registered::Attach(attach) => (attach.wanted, start_attach(backend, attach)),
        Registered::PortForward(pod) => {
            port_forward::over_spdy(&mut session, Arc::new(pod), backend).await;
            return session.close().await;
        }
    };
    match protocol::gather(&mut session, remote, wanted).await {
        Ok(streams) => {
            tokio::select! {
                () = remote_command::carry(streams, wanted, process) => {}
                never = session.refuse_more() => match never {},
            }
        }
        Err(error) => tracing::debug!("stream session: {}", error.chain()),
    }
    session.close().await;
}

pub(crate) async fn over_websocket(
    socket: WebSocket,
    registered: Registered,
    protocol: WebSocketProtocol,
    backend: Arc<dyn Backend>,
) {
    let framing = Framing { codec: protocol.codec, can_close: protocol.can_close };
    let (wanted, process) = match registered {
        Registered::Exec(exec) => (exec.wanted, start_exec(backend, exec)),
        Registered::Attach(attach) => (attach.wanted, start_attach(backend, attach)),
        Registered::PortForward(pod) => {
            let mut channels = Channels::start(socket, framing, pod.ports.len() * 2, IDLE);
            port_forward::over_websocket(&mut channels, &pod, &*backend).await;
            return channels.close().await;
        }
    };
    let mut channels = Channels::start(socket, framing, REMOTE_CHANNELS, IDLE);
    let mut streams = Streams {
        stdin: channels.take(STDIN.into()).filter(|_| wanted.stdin),
        resize: channels.take(RESIZE.into()).filter(|_| wanted.tty),
        stdout: wanted.stdout.then(|| channels.outgoing(STDOUT)),
        stderr: has_stderr(wanted).then(|| channels.outgoing(STDERR)),
        error: channels.outgoing(ERROR),
        form: protocol.form,
        idle: Vec::new(),
        lost: channels.lost(),
    };
    channels.ignore_rest();
    // Clients take the first message as the sign that the session stands.
    let first = [streams.stdout.as_mut(), streams.stderr.as_mut()].into_iter().flatten().next();
    let _ = first.unwrap_or(&mut streams.error).send(Bytes::new()).await;
    remote_command::carry(streams, wanted, process).await;
    channels.close().await;
}

/// A terminal carries both outputs as one.
fn has_stderr(wanted: Wanted) -> bool {
    wanted.stderr && !wanted.tty
}

fn start_exec(backend: Arc<dyn Backend>, exec: super::backend::Exec) -> Starting {
    Box::pin(async move { backend.exec(exec).await })
}

fn start_attach(backend: Arc<dyn Backend>, attach: super::backend::Attach) -> Starting {
    Box::pin(async move { backend.attach(attach).await })
}
