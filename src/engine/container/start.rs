//! StartContainer: the init that waits since the creation executes the user's program.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Container;
use super::phase::{Event, Phase};
use crate::engine::{Shared, nri, operation};
use crate::error::{Context, Error, Kind, Result};
use crate::monitor::protocol::{Reply, Request};

/// # Errors
/// `WrongState` unless the container is created; the container is `Exited` with `StartError` when
/// its program cannot be executed.
pub(crate) async fn start(shared: Arc<Shared>, id: &str) -> Result<()> {
    let container = shared.containers.find(id)?;
    operation::run(async move {
        let pod = shared.pods.find(container.record().pod.as_str())?;
        let _mutation = pod.mutation.lock().await;
        let _starting = container.starting.lock().await;
        let steady = shared.nri.steady().await;
        let record = container.record();
        if !matches!(record.phase, Phase::Created { .. }) {
            return Err(container.is_not("created", &record.phase));
        }
        nri::container_starting(&shared, &container).await?;
        let monitor = pod.monitor()?;
        container.is_starting.store(true, Ordering::SeqCst);
        let request = Request::Start { container: container.id.clone() };
        let started = monitor.call(request, Vec::new()).await;
        let outcome = take_down(&shared, &container, started);
        container.is_starting.store(false, Ordering::SeqCst);
        outcome?;
        drop(steady);
        nri::container_started(&shared, &container).await;
        Ok(())
    })
    .await
}

/// What the monitor answered, on record.
fn take_down(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    started: Result<(Reply, Vec<OwnedFd>)>,
) -> Result<()> {
    match started {
        Ok((Reply::Started { at }, _)) => match container.apply(shared, Event::Started { at }) {
            // It was quick: the report of its exit came before the reply.
            Err(error) if error.kind() == Kind::WrongState => Ok(()),
            applied => applied,
        },
        Ok((reply, _)) => Err(Error::internal(format!("the monitor answered {reply:?} to Start"))),
        Err(error) => {
            let error = Err::<(), _>(error)
                .with_context(|| format!("start container {}", container.id.short()));
            if let Err(error) = &error {
                container.start_failed(shared, &error.chain())?;
                nri::container_exited(shared, container);
            }
            error
        }
    }
}
