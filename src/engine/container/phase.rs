//! The life of a container.
//!
//! ```text
//!   Created ──started──▶ Running ──ended──▶ Exited ──remove──▶ (record deleted)
//!     │ ▲ restored
//!     ├─┘
//!      └────────────────ended──────────────────▲
//! ```
//!
//! A phase holds what is true in it and nothing else: no pid after the exit, no exit code before.

use serde::{Deserialize, Serialize};

use crate::engine::clock;
use crate::engine::events::Change;
use crate::error::{Error, Result};
use crate::monitor::protocol::ExitStatus;

/// The exit code of a container whose program could not be executed, as kubelet's users know it.
const FAILED_START: i32 = 128;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Created { pid: i32 },
    Running { pid: i32, started_at: i64 },
    Exited(End),
}

/// How a container ended. Times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) code: i32,
    /// `None`: the user's program never ran.
    pub(crate) started_at: Option<i64>,
    pub(crate) finished_at: i64,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// The words kubelet and crictl show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    Completed,
    Error,
    OomKilled,
    /// The program could not be executed.
    StartError,
    /// Its monitor died; how the container ended is not known beyond that it was killed.
    MonitorLost,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::MonitorLost => "MonitorLost",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Started {
        at: i64,
    },
    /// Another process waits in place of the first one.
    Restored {
        pid: i32,
    },
    Ended(End),
}

impl Phase {
    /// The whole transition table; a pair that is not listed is refused.
    pub(crate) fn after(&self, event: Event) -> Result<Self> {
        match (self, event) {
            (Self::Created { pid }, Event::Started { at }) => {
                Ok(Self::Running { pid: *pid, started_at: at })
            }
            (Self::Created { .. }, Event::Restored { pid }) => Ok(Self::Created { pid }),
            (Self::Created { .. } | Self::Running { .. }, Event::Ended(end)) => {
                Ok(Self::Exited(end))
            }
            (
                Self::Running { .. } | Self::Exited(_),
                Event::Started { .. } | Event::Restored { .. },
            ) => Err(Error::wrong_state(format!("the container is already {}", self.name()))),
            (Self::Exited(_), Event::Ended(_)) => {
                Err(Error::wrong_state("the container has already exited"))
            }
        }
    }

    /// After the monitor said that the program cannot be executed. Its report of the child's exit
    /// may have come first, and knows no better reason.
    pub(crate) fn after_failed_start(&self, message: &str) -> Result<Self> {
        let end = |finished_at| End {
            code: FAILED_START,
            started_at: None,
            finished_at,
            reason: Reason::StartError,
            message: message.to_owned(),
        };
        match self {
            Self::Created { .. } => Ok(Self::Exited(end(clock::now()))),
            Self::Exited(known) => Ok(Self::Exited(end(known.finished_at))),
            Self::Running { .. } => Err(Error::wrong_state("the container is already running")),
        }
    }

    /// What has happened between this phase and a later one, in order. Who was quick is seen
    /// exited before it was seen running.
    pub(crate) fn changes_to(&self, later: &Self) -> &'static [Change] {
        match (self, later) {
            (Self::Created { .. }, Self::Running { .. }) => &[Change::Started],
            (Self::Created { .. }, Self::Exited(End { started_at: Some(_), .. })) => {
                &[Change::Started, Change::Stopped]
            }
            (Self::Created { .. } | Self::Running { .. }, Self::Exited(_)) => &[Change::Stopped],
            (Self::Created { .. } | Self::Running { .. } | Self::Exited(_), _) => &[],
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Running { .. } => "running",
            Self::Exited(_) => "exited",
        }
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Self::Created { pid } | Self::Running { pid, .. } => Some(*pid),
            Self::Exited(_) => None,
        }
    }
}

impl End {
    /// What the status of the first process and the OOM counter say together.
    pub(crate) fn of(exit: crate::monitor::protocol::Exit) -> Self {
        let code = exit.status.code();
        // Only a killed init makes the container OOMKilled: one killed child may well be survived.
        let reason = match exit.status {
            ExitStatus::Signal(libc::SIGKILL) if exit.oom_killed => Reason::OomKilled,
            ExitStatus::Code(137) if exit.oom_killed => Reason::OomKilled,
            ExitStatus::Code(0) => Reason::Completed,
            ExitStatus::Code(_) | ExitStatus::Signal(_) => Reason::Error,
        };
        Self {
            code,
            started_at: exit.started_at,
            finished_at: exit.finished_at,
            reason,
            message: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::monitor::protocol::Exit;

    fn exit(status: ExitStatus, oom_killed: bool) -> Exit {
        Exit { status, started_at: Some(1), finished_at: 2, oom_killed }
    }

    #[test]
    fn an_exited_container_refuses_every_event() {
        let end = End::of(exit(ExitStatus::Code(0), false));
        let exited = Phase::Exited(end.clone());

        for event in [Event::Started { at: 3 }, Event::Restored { pid: 3 }, Event::Ended(end)] {
            assert_eq!(exited.after(event).unwrap_err().kind(), Kind::WrongState);
        }
    }

    #[test]
    fn every_change_is_told_once_also_of_who_was_quick() {
        let exited = |started_at| {
            let exit = exit(ExitStatus::Code(0), false);
            Phase::Exited(End { started_at, ..End::of(exit) })
        };
        let (created, running) =
            (Phase::Created { pid: 7 }, Phase::Running { pid: 7, started_at: 1 });

        assert_eq!(created.changes_to(&running), [Change::Started]);
        assert_eq!(running.changes_to(&exited(Some(1))), [Change::Stopped]);
        assert_eq!(created.changes_to(&exited(Some(1))), [Change::Started, Change::Stopped]);
        assert_eq!(created.changes_to(&exited(None)), [Change::Stopped]);
        // More is known of the same end.
        assert_eq!(exited(Some(1)).changes_to(&exited(None)), []);
        assert_eq!(running.changes_to(&running), []);
    }

    #[test]
    fn a_container_may_end_before_it_was_started() {
        let end = End::of(exit(ExitStatus::Signal(9), false));
        assert_eq!(
            Phase::Created { pid: 7 }.after(Event::Ended(end.clone())).unwrap(),
            Phase::Exited(end)
        );
    }

    #[test]
    fn only_a_kill_for_memory_is_oom_killed() {
        let killed = |status, oom| End::of(exit(status, oom)).reason;

        assert_eq!(killed(ExitStatus::Signal(9), true), Reason::OomKilled);
        assert_eq!(killed(ExitStatus::Signal(9), false), Reason::Error);
        assert_eq!(killed(ExitStatus::Signal(15), true), Reason::Error);
        assert_eq!(killed(ExitStatus::Code(0), true), Reason::Completed);
    }
}
