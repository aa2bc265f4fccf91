//! RemovePodSandbox: everything of the pod gone. Succeeds on what is gone already.

use std::sync::Arc;

use super::{files, stop};
use crate::engine::events::Change;
use crate::engine::{Shared, container, nri};
use crate::error::Result;

pub(crate) async fn remove(shared: Arc<Shared>, id: &str) -> Result<()> {
    let Some(pod) = shared.pods.find_unless_gone(id)? else { return Ok(()) };
    crate::engine::operation::run(async move {
        stop::stop_containers(&shared, &pod).await?;
        let _mutation = pod.mutation.lock().await;
        // Another call may have removed it meanwhile.
        if shared.pods.find_unless_gone(pod.id.as_str())?.is_none() {
            return Ok(());
        }
        stop::stop_locked(&shared, &pod).await?;
        for container in shared.containers_of(&pod.id) {
            container::remove::remove_locked(&shared, &pod, &container).await?;
        }
        shared.remove_pod_cgroup(&pod.record())?;
        files::remove_directory(&shared.layout.pod(&pod.id))?;
        shared.pods.remove(pod.id.as_str());
        shared.pod_changed(Change::Deleted, &pod);
        // The record last: while it is there, the next daemon knows what is left to do.
        shared.pod_records.remove(pod.id.as_str())?;
        nri::pod_removed(&shared, &pod.record()).await;
        Ok(())
    })
    .await
}
