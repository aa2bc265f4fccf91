//! Attaching to a container's streams.

use std::io;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::call::Call;
use super::detach::Detach;
use super::hijack::{self, Client, Framing};
use super::reply::{self, Answer};
use super::{Door, containers, logs, websocket};
use crate::engine::standalone::Waiting;
use crate::engine::streams::Wanted;
use crate::error::{Error, Result};

/// The connection changes hands before the container need run: clients attach first and start then.
pub(super) async fn attach(door: &Door, id: &str, call: Call) -> Answer {
    let carried = prepare(door, id, &call, None).await?;
    let framing = carried.framing;
    let peer = call.peer.clone();
    let (upgrade, _) = call.split_upgrade();
    Ok(hijack::answer((upgrade, peer), framing, |client| carried.carry(client)))
}

/// As [`attach`], in the messages of a WebSocket.
pub(super) async fn attach_websocket(door: &Door, id: &str, call: Call) -> Answer {
    let carried = prepare(door, id, &call, Some(Framing::Raw)).await?;
    let peer = call.peer.clone();
    let (upgrade, call) = call.split_upgrade();
    let upgrade = upgrade.ok_or_else(|| Error::invalid("the request is no WebSocket's"))?;
    websocket::answer((upgrade, peer), call.headers, |client| carried.carry(client)).await
}

/// What a client gets, once the connection is its own.
struct Carried {
    framing: Framing,
    /// It wants to hear nothing.
    is_mute: bool,
    detach: Option<Detach>,
    /// What was said until now.
    told: Option<mpsc::Receiver<Bytes>>,
    waiting: Option<Waiting>,
}

/// With the container's own framing if none is said.
async fn prepare(door: &Door, id: &str, call: &Call, framing: Option<Framing>) -> Result<Carried> {
    let container = containers::standalone(door, id)?;
    let record = container.record();
    let switch = |name: &str| call.query.switch(name);
    if record.run().is_some_and(|run| run.is_paused) {
        let id = &record.id;
        return Err(Error::wrong_state(format!(
            "container {id} is paused, unpause the container before attach"
        )));
    }
    let mut wanted = Wanted {
        stdin: switch("stdin"),
        stdout: switch("stdout"),
        stderr: switch("stderr"),
        tty: record.config.container.tty,
    };
    let framing = framing.unwrap_or_else(|| Framing::of(wanted.tty));
    let told = switch("logs").then(|| logs::so_far(door, &container, wanted, framing));
    // Who only speaks is heard until the container ends, which its output tells.
    let is_mute = wanted.stdin && !wanted.stdout && !wanted.stderr;
    wanted.stdout |= is_mute;
    let keys = call.query.text("detachKeys").filter(|keys| !keys.is_empty());
    let detach = (wanted.tty && wanted.stdin).then(|| Detach::on(keys)).transpose()?;
    let waiting = if switch("stream") {
        Some(door.engine.attach_standalone(&container, wanted).await?)
    } else {
        None
    };
    Ok(Carried { framing, is_mute, detach, told, waiting })
}

impl Carried {
    async fn carry(self, mut client: Client) -> io::Result<()> {
        let Self { framing, is_mute, detach, mut told, waiting } = self;
        let framing = if is_mute { Framing::Discarded } else { framing };
        // What is written meanwhile comes twice rather than not at all.
        if told.is_some() {
            client.heard().await;
        }
        while let Some(told) = &mut told
            && let Some(piece) = told.recv().await
        {
            client.stream.write_all(&piece).await?;
        }
        let Some(waiting) = waiting else { return client.stream.shutdown().await };
        let gone = client.gone();
        let session = tokio::select! {
            session = waiting => session,
            () = gone => return Ok(()),
        };
        match session {
            Ok(session) => hijack::carry(session, client, framing, (None, detach)).await,
            // The container is gone.
            Err(_) => Ok(()),
        }
    }
}

pub(super) async fn resize(door: &Door, id: &str, call: &Call) -> Answer {
    let container = containers::standalone(door, id)?;
    let (width, height) = size(call)?;
    door.engine.resize_standalone(&container, width, height).await?;
    Ok(reply::empty(http::StatusCode::OK))
}

/// Columns and rows.
pub(super) fn size(call: &Call) -> Result<(u16, u16)> {
    let side = |name| call.query.number(name).map(Option::unwrap_or_default);
    Ok((side("w")?, side("h")?))
}
