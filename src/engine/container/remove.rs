//! RemoveContainer: everything of the container gone but its log, which is kubelet's.

use std::sync::Arc;
use std::time::Duration;

use super::{Container, stop};
use crate::engine::events::Change;
use crate::engine::image::layer_users;
use crate::engine::pod::Pod;
use crate::engine::{Shared, nri, operation};
use crate::error::{Kind, Result};
use crate::monitor::protocol::Request;

/// Succeeds on what is gone already; kills what runs.
pub(crate) async fn remove(shared: Arc<Shared>, id: &str) -> Result<()> {
    let Some(container) = shared.containers.find_unless_gone(id)? else { return Ok(()) };
    operation::run(async move {
        // Before the lock, which a start that hangs may hold: the end of the process ends that, too.
        stop::stop_container(&shared, &container, Duration::ZERO).await?;
        let pod = shared.pods.find_unless_gone(container.record().pod.as_str())?;
        let Some(pod) = pod else { return Ok(()) };
        let _mutation = pod.mutation.lock().await;
        // Another call may have removed it meanwhile.
        match shared.containers.find_unless_gone(container.id.as_str())? {
            Some(container) => remove_locked(&shared, &pod, &container).await,
            None => Ok(()),
        }
    })
    .await
}

/// For callers that hold the pod's mutation lock.
pub(crate) async fn remove_locked(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &Arc<Container>,
) -> Result<()> {
    stop::stop_container(shared, container, Duration::ZERO).await?;
    let last_words = nri::last_words(shared, container);
    if let Ok(monitor) = pod.monitor() {
        let request = Request::Delete { container: container.id.clone() };
        match monitor.call(request, Vec::new()).await {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unavailable) => {}
            answer => drop(answer?),
        }
    }
    let limits = container.limits.lock().await;
    let record = container.record();
    shared.cgroups.open(&record.cgroup)?.remove()?;
    if record.config.standalone.is_none() {
        shared.layout.discard(&shared.layout.container_root(&container.id))?;
    }
    shared.remove_process(&container.id)?;
    shared.containers.remove(container.id.as_str());
    shared.container_changed(Change::Deleted, container);
    // The record last: while it is there, the next daemon knows what is left to do.
    shared.container_records.remove(container.id.as_str())?;
    drop(limits);
    nri::container_removed(shared, last_words).await;
    // It may have been the last to stand on an image that was removed before it.
    if record.images().any(|image| shared.images.resolve(image).is_none()) {
        shared.images.sweep(layer_users(shared)).await?;
    }
    Ok(())
}
