//! Removing: everything of the container gone.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Record, State};
use super::{Standalone, stop, volumes};
use crate::engine::image::layer_users;
use crate::engine::{Shared, operation};
use crate::error::{Error, Kind, Result};

const PAUSED: &str = "container is paused and must be unpaused first";
const RUNNING: &str = "container is running: stop the container before removing or force remove";

/// How a removal treats what runs, and what the container alone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removal {
    /// What runs is ended.
    pub(crate) is_forced: bool,
    /// Volumes that nobody gave a name go with it, unless another container has them.
    pub(crate) with_volumes: bool,
}

/// # Errors
/// `WrongState` in Docker's words for what runs and is not to be ended by force.
pub(crate) async fn remove(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    removal: Removal,
) -> Result<()> {
    operation::run(async move {
        let record = container.record();
        if let (State::Running(run), false) = (&record.state, removal.is_forced)
            && !stop::has_ended(&shared, &container)
        {
            let why = if run.is_paused { PAUSED } else { RUNNING };
            return Err(not_now(&record, why));
        }
        match stop::halt(&shared, &container, None, Some(Duration::ZERO)).await {
            // It removed itself when it ended.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        container.rests().await;
        let _mutation = container.mutation.lock().await;
        remove_locked(&shared, &container, removal.with_volumes).await
    })
    .await
}

fn not_now(record: &Record, why: &str) -> Error {
    Error::wrong_state(format!("cannot remove container \"/{}\": {why}", record.name))
}

/// Of a container that was to go when it ended. For callers that hold the container's mutation lock.
pub(super) async fn auto_remove(shared: &Arc<Shared>, container: &Arc<Standalone>) {
    if let Err(error) = remove_locked(shared, container, true).await {
        tracing::error!(container = %container.id, error = error.chain(), "auto-remove");
    }
}

/// For callers that hold the container's mutation lock; nothing runs. Succeeds on what is gone.
pub(super) async fn remove_locked(
    shared: &Arc<Shared>,
    container: &Arc<Standalone>,
    with_volumes: bool,
) -> Result<()> {
    let record = container.record();
    if container.is_running() {
        // Somebody started it while we waited for the lock.
        return Err(not_now(&record, RUNNING));
    }
    shared.layout.discard(&shared.layout.container_root(&container.id))?;
    shared.layout.discard(&shared.layout.standalone(&container.id))?;
    if with_volumes {
        volumes::remove_anonymous(shared, &record).await?;
    }
    // The record last: while it is there, the next daemon knows what is left to do.
    container.removed(shared)?;
    // It may have been the last to stand on an image that was removed before it.
    if shared.images.resolve(&record.image_id).is_none() {
        shared.images.sweep(layer_users(shared)).await?;
    }
    Ok(())
}
