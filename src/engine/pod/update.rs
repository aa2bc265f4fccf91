//! UpdatePodSandboxResources: what a pod may use now.
//!
//! kubelet makes the cgroups of its pods and resizes them itself, before it tells us. The cgroup of a
//! pod that names no parent is ours, and resized here; it is there while the pod has containers.

use std::sync::Arc;

use super::Pod;
use super::phase::Phase;
use super::record::Limits;
use crate::cgroup::Resources;
use crate::engine::{Shared, nri, operation};
use crate::error::{Context, Error, Result};

/// What is `None` in `change` stays as it is.
pub(crate) async fn update(shared: Arc<Shared>, id: &str, change: Limits) -> Result<()> {
    let pod = shared.pods.find(id)?;
    operation::run(async move {
        let _mutation = pod.mutation.lock().await;
        let record = pod.record();
        if record.phase != Phase::Ready {
            return Err(Error::wrong_state(format!("pod sandbox {} is not ready", pod.id.short())));
        }
        let known = record.limits();
        let limits = Limits {
            overhead: change.overhead.or(known.overhead),
            resources: change.resources.or(known.resources),
        };
        {
            let _steady = shared.nri.steady().await;
            nri::pod_updating(&shared, &record, &limits).await?;
            apply(&shared, &pod, &limits)
                .with_context(|| format!("update pod sandbox {}", pod.id.short()))?;
            pod.limits_applied(&shared, limits)?;
        }
        nri::pod_updated(&shared, &pod.record()).await;
        Ok(())
    })
    .await
}

/// To the pod's own cgroup, if that is ours and there.
pub(crate) fn apply(shared: &Shared, pod: &Pod, limits: &Limits) -> Result<()> {
    let record = pod.record();
    if !record.config.cgroup_parent.is_empty() {
        return Ok(());
    }
    let group = shared.cgroups.open(&record.cgroup)?;
    if group.exists() { group.update(&total(limits)) } else { Ok(()) }
}

/// What the containers may use and what the pod costs beside them. Where the containers are not
/// limited, the pod is not.
fn total(limits: &Limits) -> Resources {
    let Some(resources) = limits.resources.clone() else { return Resources::default() };
    let overhead = limits.overhead.clone().unwrap_or_default();
    Resources {
        cpu_quota: sum(resources.cpu_quota, overhead_quota(&resources, &overhead)),
        cpu_shares: resources.cpu_shares.map(|it| it + overhead.cpu_shares.unwrap_or(0)),
        memory_limit: sum(resources.memory_limit, overhead.memory_limit),
        memory_swap_limit: sum(resources.memory_swap_limit, overhead.memory_limit),
        ..resources
    }
}

/// Negative is unlimited.
fn sum(limit: Option<i64>, more: Option<i64>) -> Option<i64> {
    limit.map(|limit| match more {
        Some(more) if limit >= 0 && more >= 0 => limit.saturating_add(more),
        Some(_) | None => limit,
    })
}

/// The overhead's quota in the period of the containers.
fn overhead_quota(resources: &Resources, overhead: &Resources) -> Option<i64> {
    /// The kernel's, where none is set.
    const PERIOD: u64 = 100_000;
    let period = |of: &Resources| i128::from(of.cpu_period.unwrap_or(PERIOD).max(1));
    let quota = i128::from(overhead.cpu_quota?);
    i64::try_from(quota * period(resources) / period(overhead)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(resources: Resources, overhead: Resources) -> Limits {
        Limits { overhead: Some(overhead), resources: Some(resources) }
    }

    #[test]
    fn a_pod_may_use_what_its_containers_may_and_its_overhead() {
        let resources = Resources {
            cpu_period: Some(100_000),
            cpu_quota: Some(50_000),
            cpu_shares: Some(512),
            memory_limit: Some(100),
            ..Resources::default()
        };
        let overhead = Resources {
            cpu_period: Some(50_000),
            cpu_quota: Some(5_000),
            memory_limit: Some(20),
            ..Resources::default()
        };
        let total = total(&limits(resources, overhead));
        assert_eq!((total.cpu_quota, total.cpu_shares), (Some(60_000), Some(512)));
        assert_eq!((total.memory_limit, total.memory_swap_limit), (Some(120), None));
    }

    #[test]
    fn an_unlimited_container_makes_an_unlimited_pod() {
        let unlimited = Resources { cpu_quota: Some(-1), ..Resources::default() };
        let overhead =
            Resources { cpu_quota: Some(1000), memory_limit: Some(1), ..Resources::default() };
        let total = total(&limits(unlimited, overhead));
        assert_eq!((total.cpu_quota, total.memory_limit), (Some(-1), None));
    }
}
