//! UpdateContainerResources: new limits for a created or running container.

use std::sync::Arc;

use super::Container;
use super::phase::Phase;
use crate::cgroup::Resources;
use crate::engine::{Shared, nri, operation};
use crate::error::{Context, Error, Result};

/// What is `None` or empty in `change` stays as it is.
pub(crate) async fn update(
    shared: Arc<Shared>,
    id: &str,
    change: Resources,
    oom_score_adj: Option<i32>,
) -> Result<()> {
    let container = shared.containers.find(id)?;
    operation::run(async move {
        let pod = shared.pods.find(container.record().pod.as_str())?;
        let _mutation = pod.mutation.lock().await;
        check_phase(&container)?;
        {
            let _steady = shared.nri.steady().await;
            let (change, others) = nri::container_updating(&shared, &container, change).await?;
            apply(&shared, &container, change, oom_score_adj).await?;
            others.make(&shared).await?;
        }
        nri::container_updated(&shared, &container).await;
        Ok(())
    })
    .await
}

/// Writes limits, without asking anybody. Takes no lock of the pod, for plugins that change one
/// container while another one is being made.
pub(crate) async fn apply(
    shared: &Shared,
    container: &Container,
    change: Resources,
    oom_score_adj: Option<i32>,
) -> Result<()> {
    let _limits = container.limits.lock().await;
    // Of a removed one nothing may be written any more.
    shared.containers.find(container.id.as_str())?;
    check_phase(container)?;
    let record = container.record();
    shared
        .cgroups
        .open(&record.cgroup)?
        .update(&change)
        .with_context(|| format!("update container {}", container.id.short()))?;
    if let (Some(score), Some(pid)) = (oom_score_adj, record.phase.pid()) {
        set_oom_score(pid, score)?;
    }
    container.resources_applied(shared, merged(&record.resources, change))
}

fn check_phase(container: &Container) -> Result<()> {
    match container.record().phase {
        Phase::Created { .. } | Phase::Running { .. } => Ok(()),
        Phase::Exited(_) => {
            Err(Error::wrong_state(format!("container {} has exited", container.id.short())))
        }
    }
}

/// Lowering the score needs `CAP_SYS_RESOURCE`, which a container in a container has not: kubelet
/// sends the score with every update, and the limits must not fail for it.
fn set_oom_score(pid: i32, score: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, score.to_string().as_bytes()));
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            tracing::warn!(pid, score, "the kernel refuses this oom_score_adj");
            Ok(())
        }
        written => written.with_context(|| format!("write {path}")),
    }
}

pub(crate) fn merged(applied: &Resources, change: Resources) -> Resources {
    let mut hugepages = applied.hugepage_limits.clone();
    for (size, limit) in change.hugepage_limits {
        hugepages.retain(|(known, _)| *known != size);
        hugepages.push((size, limit));
    }
    let mut unified = applied.unified.clone();
    unified.extend(change.unified);
    Resources {
        cpu_period: change.cpu_period.or(applied.cpu_period),
        cpu_quota: change.cpu_quota.or(applied.cpu_quota),
        cpu_shares: change.cpu_shares.or(applied.cpu_shares),
        cpuset_cpus: change.cpuset_cpus.or_else(|| applied.cpuset_cpus.clone()),
        cpuset_mems: change.cpuset_mems.or_else(|| applied.cpuset_mems.clone()),
        memory_limit: change.memory_limit.or(applied.memory_limit),
        memory_swap_limit: change.memory_swap_limit.or(applied.memory_swap_limit),
        memory_reservation: change.memory_reservation.or(applied.memory_reservation),
        pids_limit: change.pids_limit.or(applied.pids_limit),
        blkio_weight: change.blkio_weight.or(applied.blkio_weight),
        // No door changes these.
        blkio_devices: applied.blkio_devices.clone(),
        hugepage_limits: hugepages,
        unified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let applied = Resources {
            cpu_shares: Some(512),
            memory_limit: Some(1 << 20),
            hugepage_limits: vec![("2MB".into(), 0), ("1GB".into(), 0)],
            ..Resources::default()
        };
        let change = Resources {
            memory_limit: Some(2 << 20),
            hugepage_limits: vec![("2MB".into(), 4)],
            ..Resources::default()
        };

        let merged = merged(&applied, change);

        assert_eq!((merged.cpu_shares, merged.memory_limit), (Some(512), Some(2 << 20)));
        assert_eq!(merged.hugepage_limits, [("1GB".to_owned(), 0), ("2MB".to_owned(), 4)]);
    }
}
