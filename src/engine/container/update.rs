//! UpdateContainerResources: new limits for a created or running container.

use std::sync::Arc;

use super::phase::Phase;
use crate::cgroup::Resources;
use crate::engine::{Shared, operation};
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
        let record = container.record();
        let pod = shared.pods.find(record.pod.as_str())?;
        let _mutation = pod.mutation.lock().await;
        let record = container.record();
        if let Phase::Exited(_) = record.phase {
            return Err(Error::wrong_state(format!(
                "container {} has exited",
                container.id.short()
            )));
        }
        shared
            .cgroups
            .open(&record.cgroup)?
            .update(&change)
            .with_context(|| format!("update container {}", container.id.short()))?;
        if let (Some(score), Some(pid)) = (oom_score_adj, record.phase.pid()) {
            set_oom_score(pid, score)?;
        }
        container.resources_applied(&shared, merged(&record.resources, change))
    })
    .await
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

fn merged(applied: &Resources, change: Resources) -> Resources {
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
        pids_limit: change.pids_limit.or(applied.pids_limit),
        blkio_weight: change.blkio_weight.or(applied.blkio_weight),
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
