//! After a restart: what the daemon before us recorded and did not get to announce.

use super::Change;
use crate::engine::Shared;
use crate::engine::container::Container;
use crate::engine::container::phase::Phase;
use crate::engine::pod::Pod;
use crate::engine::pod::phase::Phase as PodPhase;

impl Shared {
    /// Of the pod and its containers, as their records say.
    pub(in crate::engine) fn announce_untold(&self, pod: &Pod) {
        let record = pod.record();
        let untold = |change, since| !self.events.is_told(change, pod.id.as_str(), since);
        for change in [Change::Created, Change::Started] {
            if untold(change, record.created_at) {
                self.pod_changed(change, pod);
            }
        }
        for container in self.containers_of(&pod.id) {
            for (change, since) in changes(&container) {
                if !self.events.is_told(change, container.id.as_str(), since) {
                    self.container_changed(change, &container);
                }
            }
        }
        if record.phase == PodPhase::Stopped && untold(Change::Stopped, record.stopped_at) {
            self.pod_changed(Change::Stopped, pod);
        }
    }
}

/// What has happened to a container, and when.
fn changes(container: &Container) -> Vec<(Change, i64)> {
    let record = container.record();
    let mut changes = vec![(Change::Created, record.created_at)];
    match &record.phase {
        Phase::Created { .. } => {}
        Phase::Running { started_at, .. } => changes.push((Change::Started, *started_at)),
        Phase::Exited(end) => {
            changes.extend(end.started_at.map(|at| (Change::Started, at)));
            changes.push((Change::Stopped, end.finished_at));
        }
    }
    changes
}
