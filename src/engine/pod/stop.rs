//! StopPodSandbox: every container ended, the network given back, the monitor gone.
//!
//! Succeeds on what is stopped or gone already; a step that failed is tried again by the next call.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::phase::Phase;
use super::run::{end_monitor, netns};
use super::{Pod, files};
use crate::engine::{Shared, container, nri};
use crate::error::{Context, Result};

pub(crate) async fn stop(shared: Arc<Shared>, id: &str) -> Result<()> {
    let Some(pod) = shared.pods.find_unless_gone(id)? else { return Ok(()) };
    crate::engine::operation::run(async move {
        stop_containers(&shared, &pod).await?;
        let _mutation = pod.mutation.lock().await;
        stop_locked(&shared, &pod).await
    })
    .await
}

/// Ends every container there is now. Without the pod's lock, which a start that hangs may hold:
/// the end of its process ends that, too.
pub(super) async fn stop_containers(shared: &Arc<Shared>, pod: &Pod) -> Result<()> {
    let containers = shared.containers_of(&pod.id);
    let stops = containers
        .iter()
        .map(|container| container::stop::stop_container(shared, container, Duration::ZERO));
    for stopped in join_all(stops).await {
        stopped?;
    }
    Ok(())
}

/// For callers that hold the pod's mutation lock.
pub(crate) async fn stop_locked(shared: &Arc<Shared>, pod: &Arc<Pod>) -> Result<()> {
    let record = pod.record();
    if record.phase == Phase::Stopped && record.attachments().next().is_none() {
        nri::pod_stopped(shared, pod).await;
        return Ok(());
    }
    stop_containers(shared, pod).await?;
    nri::pod_stopped(shared, pod).await;
    // The network before the monitor: plugins look into the namespace that dies with it.
    if record.attachments().next().is_some() {
        let netns = pod.monitor().is_ok().then_some(record.monitor_pid).flatten().map(netns);
        shared.network.detach(&pod.id, netns.as_deref()).await.context("detach the network")?;
    }
    if let Some(monitor) = pod.stopped(shared)? {
        end_monitor(&monitor).await?;
    }
    pod.detached(shared)?;
    files::remove_socket(&shared.layout.pod(&pod.id));
    Ok(())
}
