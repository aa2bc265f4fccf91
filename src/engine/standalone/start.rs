//! Starting: a run is made, and the container is it.

use std::sync::Arc;

use super::record::{StartFailure, State};
use super::{Standalone, command_code, health, log, remove, run, supervise};
use crate::engine::actions::Act;
use crate::engine::{Shared, operation};
use crate::error::{Error, Kind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    Now,
    /// It runs already.
    Before,
}

/// `is_aside`: it is not to be reached yet, for it is about to take another one's place.
///
/// # Errors
/// In Docker's words; the container then is what it was, with the failure on record.
pub(crate) async fn start(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    is_aside: bool,
) -> Result<Started> {
    operation::run(async move {
        let _mutation = container.mutation.lock().await;
        let record = container.record();
        let changes_place = record.run().is_none() && record.is_aside != is_aside;
        // One that was made a moment ago is not written again for nothing.
        if record.is_stopped || record.restarts > 0 || changes_place {
            container.update(&shared, |record| {
                (record.is_stopped, record.restarts) = (false, 0);
                if changes_place {
                    record.is_aside = is_aside;
                }
            })?;
        }
        let started = start_locked(&shared, &container).await;
        if started.is_err() && container.record().config.auto_remove {
            remove::remove_locked(&shared, &container, true).await?;
        }
        started
    })
    .await
}

/// For callers that hold the container's mutation lock.
pub(super) async fn start_locked(
    shared: &Arc<Shared>,
    container: &Arc<Standalone>,
) -> Result<Started> {
    let record = container.record();
    if shared.standalones.find(container.id.as_str()).is_err() {
        return Err(Error::not_found(format!("No such container: {}", container.id)));
    }
    match &record.state {
        State::Running(run) if run.is_paused => {
            return Err(Error::wrong_state("cannot start a paused container, try unpause instead"));
        }
        State::Running(_) => return Ok(Started::Before),
        State::Created { .. } | State::Restarting(_) | State::Exited { .. } => {}
    }
    container.update(shared, |record| record.runs += 1)?;
    match run::make(shared, container).await {
        Ok(run) => {
            let pod = run.pod.clone();
            container.update(shared, |record| record.state = State::Running(run))?;
            // Before anybody can tell of its end.
            shared.tell(&container.record(), Act::Plain("start"));
            supervise::spawn(shared, container, pod);
            container.health.begin();
            health::spawn(shared, container);
            log::spawn(shared, container, false);
            Ok(Started::Now)
        }
        Err(error) => {
            container.streams_closed().await;
            Err(failed(shared, container, &error)?)
        }
    }
}

/// Puts the failure on record. The words are those by which clients know a missing program.
fn failed(shared: &Shared, container: &Standalone, error: &Error) -> Result<Error> {
    let mut message = error.chain();
    let (code, kind) = match (command_code(error), error.kind()) {
        (Some(code), _) => (code, Kind::InvalidArgument),
        (None, kind @ (Kind::InvalidArgument | Kind::Unsupported | Kind::WrongState)) => {
            (128, kind)
        }
        (None, _) => (128, Kind::Internal),
    };
    if code == 126 {
        message = message.replace("Permission denied (os error 13)", "permission denied");
        // What else `execve` says is not what clients look for.
        if !message.contains("permission denied") {
            message.push_str(": permission denied");
        }
    }
    container.update(shared, |record| {
        let failure = Some(StartFailure { code, message: message.clone() });
        record.state = match std::mem::replace(&mut record.state, State::Created { failure: None })
        {
            State::Exited { end, .. } | State::Restarting(end) => State::Exited { end, failure },
            State::Created { .. } | State::Running(_) => State::Created { failure },
        };
    })?;
    Ok(Error::new(kind, message))
}
