//! What plugins want of containers that exist.

use std::sync::Arc;
use std::time::Duration;

use cais_proto::nri::v1alpha1::{ContainerEviction, ContainerUpdate, LinuxResources};

use super::resources;
use crate::cgroup::Resources;
use crate::engine::Shared;
use crate::engine::container::{stop, update};
use crate::error::{Context, Error, Kind, Result};

/// What an evicted container has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Wishes of plugins that came with the answer to an event.
#[derive(Debug, Default)]
pub(in crate::engine) struct Changes {
    pub(super) updates: Vec<ContainerUpdate>,
    pub(super) evictions: Vec<ContainerEviction>,
}

impl Changes {
    /// # Errors
    /// When an update fails whose failure is not to be ignored; those before it stay.
    pub(in crate::engine) async fn make(self, shared: &Arc<Shared>) -> Result<()> {
        let Self { updates, evictions } = self;
        evict(shared, evictions);
        for (update, error) in all(shared, updates).await {
            if !update.ignore_failure {
                return Err(error).context("what NRI plugins ask of other containers");
            }
            tracing::warn!(error = error.chain(), "an update of an NRI plugin fails");
        }
        Ok(())
    }
}

/// Those that failed, each with its reason.
pub(super) async fn all(
    shared: &Arc<Shared>,
    updates: Vec<ContainerUpdate>,
) -> Vec<(ContainerUpdate, Error)> {
    let mut failed = Vec::new();
    for update in updates {
        if let Err(error) = one(shared, &update).await {
            failed.push((update, error));
        }
    }
    failed
}

/// For answers that nothing depends on.
pub(super) async fn all_or_warn(shared: &Arc<Shared>, updates: Vec<ContainerUpdate>) {
    for (_, error) in all(shared, updates).await {
        tracing::warn!(error = error.chain(), "an update of an NRI plugin fails");
    }
}

async fn one(shared: &Arc<Shared>, asked: &ContainerUpdate) -> Result<()> {
    let container = shared.containers.find(&asked.container_id)?;
    let wanted = asked.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let wanted = wanted.cloned().unwrap_or_default();
    if !wanted.devices.is_empty() {
        let text = "linux.resources.devices: cannot change after the creation";
        return Err(Error::new(Kind::Unsupported, text));
    }
    let mut change = Resources::default();
    resources::lay(&wanted, &mut change)?;
    if wanted == LinuxResources::default() {
        return Ok(());
    }
    update::apply(shared, &container, change, None).await
}

/// Ends containers in the background: a plugin, and what it was asked about, do not wait for that.
pub(super) fn evict(shared: &Arc<Shared>, evictions: Vec<ContainerEviction>) {
    for ContainerEviction { container_id, reason } in evictions {
        let shared = shared.clone();
        tokio::spawn(async move {
            tracing::info!(container = container_id, reason, "evicted by an NRI plugin");
            if let Err(error) = stop::stop(shared, &container_id, GRACE).await {
                tracing::warn!(container = container_id, error = error.chain(), "evict");
            }
        });
    }
}
