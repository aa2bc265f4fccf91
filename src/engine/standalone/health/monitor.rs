//! Asks a container how it is for as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use super::super::config::RestartPolicy;
use super::super::record::State;
use super::super::{Standalone, restart, stop};
use super::{Check, Probe, Status, pause};
use crate::engine::actions::Act;
use crate::engine::container::Container;
use crate::engine::container::exec::{self, ExecRequest};
use crate::engine::{Shared, clock};
use crate::error::{Error, Kind, Result};

/// Bytes of a probe's output that are kept.
const MOST_OUTPUT: usize = 4096;

/// The code of a probe that has none.
const NO_CODE: i32 = -1;

/// What a probe is known to have ended with that was killed for its time.
const KILLED: i32 = 137;

/// Asks in a task of its own until the run is over.
pub(in crate::engine::standalone) fn spawn(shared: &Arc<Shared>, container: &Arc<Standalone>) {
    let record = container.record();
    let (Some(check), Some(run)) = (record.config.health.clone(), record.run()) else { return };
    let Ok(running) = shared.containers.find(container.id.as_str()) else { return };
    let monitor = Monitor {
        shared: shared.clone(),
        container: container.clone(),
        running: running.clone(),
        check,
        started_at: run.started_at,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = running.exited() => {}
            () = monitor.follow() => {}
        }
    });
}

struct Monitor {
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    /// The run that is asked.
    running: Arc<Container>,
    check: Check,
    /// Nanoseconds since the epoch.
    started_at: i64,
}

impl Monitor {
    async fn follow(&self) {
        let mut states = self.container.ends();
        while let Some(status) = self.status() {
            // Of a daemon before us: it may have died before it could act.
            if status == Status::Unhealthy && self.is_to_end() {
                return self.end();
            }
            // A paused container is left in peace, and its time begins anew.
            if states.wait_for(|now| !now.is_paused).await.is_err() {
                return;
            }
            let pauses = states.borrow_and_update().pauses;
            let wait = pause(&self.check, status, self.since_start(clock::now()));
            let paused = states.wait_for(|now| now.pauses > pauses);
            if tokio::time::timeout(wait, paused).await.is_ok() {
                continue;
            }
            let probe = self.probe().await;
            // What a frozen process did not do says nothing.
            if states.borrow().pauses == pauses {
                self.note(status, probe);
            }
        }
    }

    /// `None` once the run is over.
    fn status(&self) -> Option<Status> {
        let record = self.container.record();
        record.run().filter(|run| run.started_at == self.started_at)?.health
    }

    fn since_start(&self, at: i64) -> Duration {
        Duration::from_nanos(u64::try_from(at.saturating_sub(self.started_at)).unwrap_or_default())
    }

    async fn probe(&self) -> Probe {
        let began_at = clock::now();
        let (code, output) = match self.ask().await {
            Ok(done) => done,
            Err(error) => (NO_CODE, error.chain()),
        };
        Probe { began_at, ended_at: clock::now(), code, output }
    }

    /// The command's code and what it wrote.
    async fn ask(&self) -> Result<(i32, String)> {
        let (shared, id) = (&self.shared, &self.container.id);
        let command = &self.check.command;
        let request = ExecRequest {
            command: command.clone(),
            tty: false,
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let plan = exec::plan(shared, &self.running, &request)?;
        let exec = plan.id.clone();
        let exec = exec.as_str();
        shared.tell_of_running(id, Act::ExecCreate { exec, command });
        shared.tell_of_running(id, Act::ExecStart { exec, command });
        let limits = exec::Limits { time: Some(self.check.timeout), bytes: MOST_OUTPUT + 1 };
        let ended = exec::try_run(shared, &self.running, plan, limits).await;
        let code = match &ended {
            Ok(output) => Some(output.code),
            Err(error) if error.kind() == Kind::Timeout => Some(KILLED),
            // It never lived.
            Err(_) => None,
        };
        if let Some(code) = code {
            shared.tell_of_running(id, Act::ExecDie { exec, code });
        }
        match ended {
            Ok(output) => Ok((output.code, shown([output.stdout, output.stderr].concat()))),
            Err(error) if error.kind() == Kind::Timeout => Err(Error::new(
                Kind::Timeout,
                format!("Health check exceeded timeout ({:?})", self.check.timeout),
            )),
            // In the words that Docker has for a command that is not there.
            Err(error) => {
                let text = format!("OCI runtime exec failed: exec failed: {}", error.chain());
                Err(Error::new(error.kind(), text))
            }
        }
    }

    fn note(&self, before: Status, probe: Probe) {
        let began_after = self.since_start(probe.began_at);
        let after = self.container.health.lock().note(&self.check, before, began_after, probe);
        if after == before {
            return;
        }
        let noted = self.container.update_and(
            &self.shared,
            |record| {
                if let State::Running(run) = &mut record.state
                    && run.started_at == self.started_at
                {
                    run.health = Some(after);
                }
            },
            |record| {
                if record.run().is_some_and(|run| run.started_at == self.started_at) {
                    self.shared.tell(record, Act::Health(after));
                }
            },
        );
        if let Err(error) = noted {
            let container = self.container.id.as_str();
            tracing::warn!(container, error = error.chain(), "record a container's health");
        }
    }

    /// Whether being unhealthy is a reason to start it again.
    fn is_to_end(&self) -> bool {
        let record = self.container.record();
        matches!(record.config.restart, RestartPolicy::OnUnhealthy { .. })
            && restart::wants(&record, NO_CODE)
    }

    /// In a task of its own: this one goes with the run.
    fn end(&self) {
        let (shared, container) = (self.shared.clone(), self.container.clone());
        tokio::spawn(async move {
            tracing::info!(container = %container.id, "it is unhealthy, and started again");
            if let Err(error) = stop::end(&shared, &container, None, None).await {
                tracing::warn!(container = %container.id, error = error.chain(), "end what is ill");
            }
        });
    }
}

/// As text, and no more than is kept.
fn shown(mut output: Vec<u8>) -> String {
    let is_longer = output.len() > MOST_OUTPUT;
    output.truncate(MOST_OUTPUT);
    let mut text = String::from_utf8_lossy(&output).into_owned();
    if is_longer {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_where_docker_cuts_it() {
        assert_eq!(shown(b"fine\n".to_vec()), "fine\n");
        assert_eq!(shown(vec![b'x'; MOST_OUTPUT]).len(), MOST_OUTPUT);
        let long = shown(vec![b'x'; MOST_OUTPUT + 1]);
        assert_eq!((long.len(), long.ends_with("x...")), (MOST_OUTPUT + 3, true));
        assert_eq!(shown(vec![0xff]), "\u{fffd}");
    }
}
