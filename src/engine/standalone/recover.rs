//! What a daemon does about the standalone containers of the one before it.
//!
//! | record | its pod | becomes |
//! |---|---|---|
//! | Running | was rejoined, or its end is known | supervised as before; an end is dealt with now |
//! | Running | gone | Exited: its end on record, or 137 as after a boot; then its restart policy, in the order of `boot` |
//! | any other | is there: the start was not over | taken down |
//! | Restarting | – | started again, in the order of `boot` |
//! | Created, Exited | – | as it is, or started as its restart policy says, or removed where its run was to be its end |
//!
//! Records are loaded before pods are taken up, whose layers and directories they hold.

use std::sync::Arc;

use super::config::RestartPolicy;
use super::record::State;
use super::{Standalone, boot, health, log, remove, supervise, takeover};
use crate::engine::Shared;
use crate::error::Result;

/// Before pods are taken up.
pub(in crate::engine) fn load(shared: &Shared) -> Result<()> {
    for (_, record) in shared.standalone_records.scan()? {
        shared.standalones.insert(Arc::new(Standalone::new(record)));
    }
    Ok(())
}

/// When pods are taken up.
pub(crate) async fn recover(shared: &Arc<Shared>) {
    take_back_starts(shared).await;
    takeover::recover(shared).await;
    let mut due = Vec::new();
    for container in shared.standalones.all() {
        let record = container.record();
        match &record.state {
            State::Running(run) if shared.pods.find(run.pod.as_str()).is_ok() => {
                if container.streams_opened(shared, &run.pod).await.is_ok() {
                    supervise::spawn(shared, &container, run.pod.clone());
                    health::spawn(shared, &container);
                    // The daemon before may have died between moving the log and asking for a new one.
                    log::spawn(shared, &container, true);
                }
            }
            State::Running(_) => {
                let end = supervise::recorded_end(&container);
                let _mutation = container.mutation.lock().await;
                if supervise::ended(shared, &container, &end).await {
                    due.push(container.clone());
                }
            }
            State::Restarting(_) => due.push(container.clone()),
            // It was to go when it ended, and its daemon died in between.
            State::Created { .. } | State::Exited { .. }
                if record.config.auto_remove && record.runs > 0 =>
            {
                let _mutation = container.mutation.lock().await;
                remove::auto_remove(shared, &container).await;
            }
            State::Exited { .. } if is_due(record.config.restart, record.is_stopped) => {
                due.push(container.clone());
            }
            State::Created { .. } | State::Exited { .. } => {}
        }
    }
    boot::start_all(shared, &due);
}

/// Takes down the pods of starts that were not over: no record has them.
async fn take_back_starts(shared: &Arc<Shared>) {
    let containers = shared.standalones.all();
    for pod in shared.pods.all() {
        let is_ours = pod.record().config.standalone.is_some();
        let is_run = |it: &Arc<Standalone>| it.record().run().is_some_and(|run| run.pod == pod.id);
        if is_ours && !containers.iter().any(is_run) {
            supervise::take_down(shared, &pod.id).await;
        }
    }
}

/// `always` means also after somebody stopped it, once the daemon was away.
fn is_due(policy: RestartPolicy, is_stopped: bool) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !is_stopped,
        RestartPolicy::No | RestartPolicy::OnFailure { .. } | RestartPolicy::OnUnhealthy { .. } => {
            false
        }
    }
}
