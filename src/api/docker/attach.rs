//! Attaching to a container's streams.

use super::call::Call;
use super::hijack::{self, Framing};
use super::reply::{self, Answer};
use super::{Door, containers};
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
    let framing = Framing::of(record.config.container.tty);
    let waiting = container.attach(wanted).await?;
    let is_streaming = switch("stream");
    let (upgrade, _) = call.split_upgrade();
    Ok(hijack::answer(upgrade, framing, move |client| async move {
        match waiting.await {
            Ok(session) if is_streaming => hijack::carry(session, client, framing, None).await,
            // The container is gone, or nothing was asked for.
            Ok(_) | Err(_) => Ok(()),
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
