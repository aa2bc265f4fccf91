//! StopContainer: the stop signal, patience, then SIGKILL for everything in the container.
//!
//! Takes no lock of the pod: a second call with a shorter timeout must be able to cut the first
//! one short, and each call keeps its own patience.

use std::sync::Arc;
use std::time::Duration;

use super::Container;
use super::phase::Phase;
use crate::engine::{Shared, nri, operation};
use crate::error::{Context, Error, Kind, Result};
use crate::monitor::protocol::{KillScope, Request};

/// How long a killed container may take to be reported dead: only a process stuck in the kernel
/// needs more, and no signal helps there.
const DEATH: Duration = Duration::from_secs(10);

pub(crate) async fn stop(shared: Arc<Shared>, id: &str, timeout: Duration) -> Result<()> {
    let Some(container) = shared.containers.find_unless_gone(id)? else { return Ok(()) };
    operation::run(async move { stop_container(&shared, &container, timeout).await }).await
}

/// Succeeds on what has exited already. When it returns, plugins have heard of the end.
pub(crate) async fn stop_container(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    timeout: Duration,
) -> Result<()> {
    end(shared, container, timeout).await?;
    nri::container_stopped(shared, container).await;
    Ok(())
}

async fn end(shared: &Arc<Shared>, container: &Arc<Container>, timeout: Duration) -> Result<()> {
    let record = container.record();
    match record.phase {
        Phase::Exited(_) => return Ok(()),
        // Nothing of the user's runs yet: there is nobody to be patient with.
        Phase::Created { .. } => {}
        Phase::Running { .. } if timeout.is_zero() => {}
        Phase::Running { .. } => {
            signal(shared, container, record.stop_signal, KillScope::Init).await?;
            if tokio::time::timeout(timeout, container.exited()).await.is_ok() {
                return Ok(());
            }
        }
    }
    signal(shared, container, libc::SIGKILL, KillScope::All).await?;
    shared.cgroups.open(&record.cgroup)?.let_die();
    tokio::time::timeout(DEATH, container.exited()).await.map_err(|_| {
        Error::new(
            Kind::Timeout,
            format!("container {} does not die of SIGKILL", container.id.short()),
        )
    })
}

async fn signal(
    shared: &Arc<Shared>,
    container: &Container,
    signal: i32,
    scope: KillScope,
) -> Result<()> {
    let pod = shared.pods.find(container.record().pod.as_str())?;
    // Without a monitor the container is about to be recorded as dead.
    let Ok(monitor) = pod.monitor() else { return Ok(()) };
    let request = Request::Kill { container: container.id.clone(), signal, scope };
    match monitor.call(request, Vec::new()).await {
        // It exited by itself meanwhile: the report is on its way.
        Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => Ok(()),
        Err(error) if error.kind() == Kind::Unavailable => Ok(()),
        answer => answer.map(drop).context("signal the container"),
    }
}
