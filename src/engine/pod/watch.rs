//! What a pod's monitor reports, and what it means when it falls silent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Pod;
use crate::engine::container::phase::{End, Event, Reason};
use crate::engine::{Shared, clock, nri};
use crate::error::{Error, Kind};
use crate::monitor::client::Reports;
use crate::monitor::protocol::Report;

/// Follows the monitor until its connection closes.
pub(crate) fn spawn(shared: &Arc<Shared>, pod: &Arc<Pod>, mut reports: Reports) {
    // Weak: a removed pod must not live on in the task that watches it.
    let (shared, pod) = (shared.clone(), Arc::downgrade(pod));
    tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            apply(&shared, report);
        }
        let Some(pod) = pod.upgrade() else { return };
        // A monitor that was asked to go is no longer the pod's; any other was killed.
        if pod.monitor().is_ok() {
            lost(&shared, &pod);
        }
    });
}

fn apply(shared: &Arc<Shared>, report: Report) {
    match report {
        Report::Exited { container, exit } => {
            let Ok(container) = shared.containers.find(container.as_str()) else { return };
            // A program that could not be executed: StartContainer gets to know why, and says so.
            if exit.started_at.is_none() && container.is_starting.load(Ordering::SeqCst) {
                return;
            }
            let applied = container.apply(shared, Event::Ended(End::of(exit)));
            nri::container_exited(shared, &container);
            report_failure(applied, container.id.as_str());
        }
        // Goes to whoever started the exec, on a connection of its own.
        Report::ExecExited { .. } => {}
    }
}

/// The monitor is gone: the kernel killed its children with it (`PR_SET_PDEATHSIG`), and what
/// escaped that dies here.
pub(crate) fn lost(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    tracing::warn!(pod = %pod.id, "the pod's monitor is gone; its containers are killed");
    for container in shared.containers_of(&pod.id) {
        container.kill_cgroup(shared);
        let exit = shared.exit_record(&pod.id, &container.id);
        let end = exit.map_or_else(monitor_lost, End::of);
        let applied = container.apply(shared, Event::Ended(end));
        nri::container_exited(shared, &container);
        report_failure(applied, container.id.as_str());
    }
    if let Err(error) = pod.stopped(shared) {
        tracing::error!(pod = %pod.id, error = error.chain(), "record that the pod stopped");
    }
}

/// The end of a container of which nothing is known but that it was killed.
pub(crate) fn monitor_lost() -> End {
    End {
        code: 137,
        started_at: None,
        finished_at: clock::now(),
        reason: Reason::MonitorLost,
        message: "the pod's monitor was killed".into(),
    }
}

fn report_failure(applied: Result<(), Error>, container: &str) {
    match applied {
        Ok(()) => {}
        // Told twice, by report and by record: the first one counted.
        Err(error) if error.kind() == Kind::WrongState => {}
        Err(error) => tracing::error!(container, error = error.chain(), "record an exit"),
    }
}
