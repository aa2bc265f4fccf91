//! Removing: everything of the container gone.

use std::sync::Arc;
use std::time::Duration;

use super::record::State;
use super::{Standalone, stop};
use crate::engine::image::layers_in_use;
use crate::engine::{Shared, operation};
use crate::error::{Error, Kind, Result};

/// How a removal treats what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Polite,
    Forced,
}

/// Which volumes go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volumes {
    Kept,
    /// Those without a name of somebody's choice.
    Anonymous,
}

/// # Errors
/// `WrongState` in Docker's words for what runs and is not to be ended by force.
pub(crate) async fn remove(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    removal: Removal,
    volumes: Volumes,
) -> Result<()> {
    operation::run(async move {
        let record = container.record();
        if let (State::Running(run), Removal::Polite) = (&record.state, removal)
            && !stop::has_ended(&shared, &container)
        {
            let why = if run.is_paused {
                "container is paused and must be unpaused first"
            } else {
                "container is running: stop the container before removing or force remove"
            };
            return Err(Error::wrong_state(format!(
                "cannot remove container \"/{}\": {why}",
                record.name
            )));
        }
        match stop(shared.clone(), container.clone(), None, Some(Duration::ZERO)).await {
            // It removed itself when it ended.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        container.rests().await;
        let _mutation = container.mutation.lock().await;
        remove_locked(&shared, &container, volumes).await
    })
    .await
}

/// For callers that hold the container's mutation lock; nothing runs. Succeeds on what is gone.
pub(super) async fn remove_locked(
    shared: &Arc<Shared>,
    container: &Arc<Standalone>,
    volumes: Volumes,
) -> Result<()> {
    if container.is_running() {
        // Somebody started it while we waited for the lock.
        let name = container.record().name.clone();
        return Err(Error::wrong_state(format!(
            "cannot remove container \"/{name}\": container is running: stop the container before \
             removing or force remove"
        )));
    }
    // There are none yet.
    let _ = volumes;
    let record = container.record();
    shared.layout.discard(&shared.layout.container_root(&container.id))?;
    shared.layout.discard(&shared.layout.standalone(&container.id))?;
    // The record last: while it is there, the next daemon knows what is left to do.
    container.removed(shared)?;
    // It may have been the last to stand on an image that was removed before it.
    if shared.images.resolve(&record.image_id).is_none() {
        shared.images.sweep(layers_in_use(shared)).await?;
    }
    Ok(())
}
