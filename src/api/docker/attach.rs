//! Attaching to a container's streams.

use tokio::io::AsyncWriteExt;

use super::call::Call;
use super::detach::Detach;
use super::hijack::{self, Framing};
use super::reply::{self, Answer};
use super::{Door, containers, logs};
use crate::engine::streams::Wanted;
use crate::error::Error;

/// The connection changes hands before the container need run: clients attach first and start then.
pub(super) async fn attach(door: &Door, id: &str, call: Call) -> Answer {
    let container = containers::standalone(door, id)?;
    let record = container.record();
    let switch = |name: &str| call.query.switch(name);
    if record.run().is_some_and(|run| run.is_paused) {
        let id = &record.id;
        return Err(Error::wrong_state(format!(
            "container {id} is paused, unpause the container before attach"
        )));
    }
    let wanted = Wanted {
        stdin: switch("stdin"),
        stdout: switch("stdout"),
        stderr: switch("stderr"),
        tty: record.config.container.tty,
    };
    let framing = Framing::of(wanted.tty);
    let keys = call.query.text("detachKeys").filter(|keys| !keys.is_empty());
    let detach = (wanted.tty && wanted.stdin).then(|| Detach::on(keys)).transpose()?;
    let is_streaming = switch("stream");
    let waiting = if is_streaming {
        Some(door.engine.attach_standalone(&container, wanted).await?)
    } else {
        None
    };
    let mut told = switch("logs").then(|| logs::so_far(door, &container, wanted));
    let peer = call.peer.clone();
    let (upgrade, _) = call.split_upgrade();
    Ok(hijack::answer((upgrade, peer), framing, move |mut client| async move {
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
    }))
}

pub(super) async fn resize(door: &Door, id: &str, call: &Call) -> Answer {
    let container = containers::standalone(door, id)?;
    let (width, height) = size(call)?;
    door.engine.resize_standalone(&container, width, height).await?;
    Ok(reply::empty(http::StatusCode::OK))
}

/// Columns and rows.
pub(super) fn size(call: &Call) -> crate::error::Result<(u16, u16)> {
    let side = |name| call.query.number(name).map(Option::unwrap_or_default);
    Ok((side("w")?, side("h")?))
}
