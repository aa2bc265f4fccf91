//! Whether a container does its work: a command of its own is asked, again and again.
//!
//! ```text
//!   start ──▶ Starting ──probe well──▶ Healthy ◀──probe well── Unhealthy
//!                 └──────`retries` failures in a row────────────▲ ▲
//!                                        Healthy ──the same─────┘
//! ```
//!
//! What a probe comes to, and when the next one is due, is decided here from times that are handed
//! in; `monitor` waits and asks. The rules are Docker's: a time between two probes begins when the
//! first has ended, and failures within the start period of one that was never well do not count.

mod monitor;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use self::monitor::spawn;

/// How many results are shown.
const MOST_RESULTS: usize = 5;

/// How it is found out whether a container is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) command: Vec<String>,
    pub(crate) interval: Duration,
    /// A probe that takes longer is killed, and has failed.
    pub(crate) timeout: Duration,
    /// Failures do not count so long after the start.
    pub(crate) start_period: Duration,
    /// Between probes in the start period, before the first one that went well.
    pub(crate) start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub(crate) retries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Starting,
    Healthy,
    Unhealthy,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What one probe came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Nanoseconds since the epoch.
    pub(crate) began_at: i64,
    pub(crate) ended_at: i64,
    /// 0: it went well; -1: it could not be asked, or was killed for its time.
    pub(crate) code: i32,
    pub(crate) output: String,
}

/// What is known of a container beside its status, as long as the daemon lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Results {
    /// Failures since the last probe that went well.
    pub(crate) failing_streak: u32,
    /// The oldest first.
    pub(crate) last: VecDeque<Probe>,
}

#[derive(Default)]
pub(crate) struct Health(Mutex<Results>);

impl Health {
    pub(crate) fn results(&self) -> Results {
        self.lock().clone()
    }

    /// A new run begins; what was seen of the last one stays to be read.
    pub(super) fn begin(&self) {
        self.lock().failing_streak = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Results> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time from the end of a probe, or from the start of the container, to the next probe.
fn pause(check: &Check, status: Status, since_start: Duration) -> Duration {
    match status {
        Status::Starting if since_start < check.start_period => check.start_interval,
        Status::Starting | Status::Healthy | Status::Unhealthy => check.interval,
    }
}

impl Results {
    /// What the status is after this probe, which began so long after the start.
    fn note(
        &mut self,
        check: &Check,
        status: Status,
        began_after: Duration,
        probe: Probe,
    ) -> Status {
        let is_well = probe.code == 0;
        self.last.push_back(probe);
        while self.last.len() > MOST_RESULTS {
            self.last.pop_front();
        }
        if is_well {
            self.failing_streak = 0;
            return Status::Healthy;
        }
        if status == Status::Starting && began_after < check.start_period {
            return status;
        }
        self.failing_streak = self.failing_streak.saturating_add(1);
        if self.failing_streak >= check.retries { Status::Unhealthy } else { status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn check() -> Check {
        Check {
            command: vec!["probe".to_owned()],
            interval: seconds(30),
            timeout: seconds(10),
            start_period: seconds(60),
            start_interval: seconds(5),
            retries: 3,
        }
    }

    fn probe(code: i32) -> Probe {
        Probe { began_at: 1, ended_at: 2, code, output: String::new() }
    }

    /// The statuses after probes with these codes, which begin at these seconds.
    fn run(check: &Check, probes: &[(u64, i32)]) -> (Vec<Status>, Results) {
        let (mut results, mut status) = (Results::default(), Status::Starting);
        let mut statuses = Vec::new();
        for (at, code) in probes {
            status = results.note(check, status, seconds(*at), probe(*code));
            statuses.push(status);
        }
        (statuses, results)
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_heals() {
        use Status::{Healthy, Starting, Unhealthy};
        let check = Check { start_period: Duration::ZERO, ..check() };
        let (statuses, results) =
            run(&check, &[(30, 1), (60, 2), (90, -1), (120, 1), (150, 0), (180, 1), (210, 1)]);
        assert_eq!(statuses, [Starting, Starting, Unhealthy, Unhealthy, Healthy, Healthy, Healthy]);
        assert_eq!(results.failing_streak, 2);
    }

    #[test]
    fn failures_in_the_start_period_count_only_after_a_success() {
        use Status::{Healthy, Starting, Unhealthy};
        let (statuses, results) = run(&check(), &[(5, 1), (10, 1), (15, 1), (59, 1)]);
        assert_eq!((statuses, results.failing_streak), (vec![Starting; 4], 0));
        let (statuses, _) = run(&check(), &[(5, 0), (35, 1), (45, 1), (50, 1)]);
        assert_eq!(statuses, [Healthy, Healthy, Healthy, Unhealthy]);
        let (statuses, results) = run(&check(), &[(59, 1), (60, 1), (90, 1), (120, 1)]);
        assert_eq!(statuses, [Starting, Starting, Starting, Unhealthy]);
        assert_eq!(results.failing_streak, 3);
    }

    #[test]
    fn the_start_interval_lasts_until_it_is_well_or_the_period_is_over() {
        let check = check();
        for (status, since_start, expected) in [
            (Status::Starting, 0, 5),
            (Status::Starting, 59, 5),
            (Status::Starting, 60, 30),
            (Status::Healthy, 10, 30),
            (Status::Unhealthy, 10, 30),
        ] {
            assert_eq!(
                pause(&check, status, seconds(since_start)),
                seconds(expected),
                "{status:?}"
            );
        }
        let plain = Check { start_period: Duration::ZERO, ..check };
        assert_eq!(pause(&plain, Status::Starting, Duration::ZERO), seconds(30));
    }

    #[test]
    fn the_last_five_results_are_kept() {
        let (_, results) = run(&check(), &[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]);
        assert!(results.last.iter().map(|probe| probe.code).eq(2..=6));
    }
}
