//! What follows the end of a run: its last words delivered, its pod removed, the end on record,
//! and what the container is to do then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::record::{Record, State};
use super::{Standalone, remove, restart};
use crate::engine::Shared;
use crate::engine::actions::Act;
use crate::engine::container::Container;
use crate::engine::container::phase::{End, Phase, Reason};
use crate::engine::names;
use crate::engine::pod::{self, watch::monitor_lost};
use crate::id::PodId;

/// How long a client that does not read may keep a run that is over.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Follows the run in this pod to its end.
pub(super) fn spawn(shared: &Arc<Shared>, container: &Arc<Standalone>, pod: PodId) {
    let (shared, container) = (shared.clone(), container.clone());
    tokio::spawn(async move {
        // Without a container in it the run was over before we came.
        let end = match shared.containers.find(container.id.as_str()) {
            Ok(run) => end_of(&run).await,
            Err(_) => recorded_end(&container),
        };
        container.carriers.close();
        let _ = tokio::time::timeout(LAST_WORDS, container.carriers.wait()).await;
        container.carriers.reopen();
        let mutation = container.mutation.lock().await;
        container.streams_closed().await;
        keep_end(&shared, &container, &end);
        take_down(&shared, &pod).await;
        over(&shared, &container, end).await;
        drop(mutation);
    });
}

async fn end_of(run: &Container) -> End {
    run.exited().await;
    match &run.record().phase {
        Phase::Exited(end) => end.clone(),
        Phase::Created { .. } | Phase::Running { .. } => monitor_lost(),
    }
}

/// With the pod, what else knows the end is removed.
fn keep_end(shared: &Shared, container: &Standalone, end: &End) {
    let kept = container.update(shared, |record| {
        if let State::Running(run) = &mut record.state {
            run.end = Some(end.clone());
        }
    });
    if let Err(error) = kept {
        tracing::error!(container = %container.id, error = error.chain(), "record an end");
    }
}

/// The end of a run that is not there any more.
pub(super) fn recorded_end(container: &Standalone) -> End {
    let record = container.record();
    record.run().and_then(|run| run.end.clone()).unwrap_or_else(monitor_lost)
}

pub(super) async fn take_down(shared: &Arc<Shared>, pod: &PodId) {
    let has_names = names::concern(shared, pod);
    if let Err(error) = pod::remove::remove(shared.clone(), pod.as_str()).await {
        // Its ports and cgroup may be held; the next daemon tries again.
        tracing::error!(%pod, error = error.chain(), "take down a run that is over");
    }
    if has_names {
        names::publish_or_log(shared).await;
    }
}

/// For callers that hold the container's mutation lock.
pub(super) async fn over(shared: &Arc<Shared>, container: &Arc<Standalone>, end: End) {
    if ended(shared, container, &end).await {
        restart::schedule(shared, container, &end);
    }
}

/// Puts an end on record; whether the container is to be started again. For callers that hold its mutation lock.
pub(super) async fn ended(shared: &Arc<Shared>, container: &Arc<Standalone>, end: &End) -> bool {
    let record = container.record();
    let again = restart::wants(&record, end.code);
    let state = match again {
        true => State::Restarting(end.clone()),
        false => State::Exited { end: end.clone(), failure: None },
    };
    let told = |record: &Record| {
        if end.reason == Reason::OomKilled {
            shared.tell(record, Act::Plain("oom"));
        }
        shared.tell(record, Act::Die(end));
        shared.tell_of_leaving(record);
    };
    if let Err(error) = container.update_and(shared, |record| record.state = state, told) {
        tracing::error!(container = %container.id, error = error.chain(), "record an end");
    }
    if !again && record.config.auto_remove && !container.is_restarting.load(Ordering::SeqCst) {
        remove::auto_remove(shared, container).await;
    }
    again
}
