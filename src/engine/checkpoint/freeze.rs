//! Containers that are stopped together.

use std::sync::Arc;

use crate::cgroup::Cgroup;
use crate::engine::Shared;
use crate::engine::container::Container;
use crate::error::{Context, Result};

/// Frozen until it is dropped, on whatever way that comes about.
pub(super) struct Frozen {
    groups: Vec<Cgroup>,
}

/// Returns when every process of every container has stopped. On an error none stays frozen.
pub(super) async fn freeze(shared: &Shared, containers: &[Arc<Container>]) -> Result<Frozen> {
    let mut groups = Vec::new();
    for container in containers {
        groups.push(shared.cgroups.open(&container.record().cgroup)?);
    }
    let freezing = tokio::task::spawn_blocking(move || {
        let mut frozen = Frozen { groups: Vec::new() };
        for group in groups {
            group.freeze()?;
            frozen.groups.push(group);
        }
        Ok(frozen)
    });
    freezing.await.context("freeze the containers")?
}

impl Frozen {
    pub(super) async fn thaw(mut self) -> Result<()> {
        let groups = std::mem::take(&mut self.groups);
        let thawing = tokio::task::spawn_blocking(move || thaw_all(&groups));
        thawing.await.context("thaw the containers")?
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = thaw_all(&self.groups) {
            tracing::error!(error = error.chain(), "thaw containers");
        }
    }
}

/// All, also when one of them fails.
fn thaw_all(groups: &[Cgroup]) -> Result<()> {
    let mut outcome = Ok(());
    for group in groups {
        // One that was removed meanwhile has nothing to thaw.
        if group.exists()
            && let Err(error) = group.thaw()
        {
            outcome = Err(error);
        }
    }
    outcome
}
