//! The restart policy: whether an end is followed by another start, and when.

use std::sync::Arc;
use std::time::Duration;

use super::config::RestartPolicy;
use super::health::Status;
use super::record::{Record, State};
use super::{Standalone, start};
use crate::engine::Shared;
use crate::engine::container::phase::End;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A run that lasted so long was a good one: the next delay is the first again.
const GOOD_RUN_NANOS: i64 = 10_000_000_000;

/// Whether the container is to be started again after an end with this code.
pub(super) fn wants(record: &Record, code: i32) -> bool {
    let is_ill = record.run().is_some_and(|run| run.health == Some(Status::Unhealthy));
    !record.is_stopped && grants(record.config.restart, record.restarts, code, is_ill)
}

fn grants(policy: RestartPolicy, restarts: u32, code: i32, is_ill: bool) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { most } => code != 0 && (most == 0 || restarts < most),
        RestartPolicy::OnUnhealthy { most } => {
            (code != 0 || is_ill) && (most == 0 || restarts < most)
        }
    }
}

/// Doubles with each bad run in a row.
fn delay(restarts: u32, end: &End) -> Duration {
    let lasted = end.started_at.map_or(0, |started| end.finished_at - started);
    if lasted >= GOOD_RUN_NANOS {
        return FIRST_DELAY;
    }
    let doubled = 1_u32.checked_shl(restarts).and_then(|factor| FIRST_DELAY.checked_mul(factor));
    doubled.unwrap_or(LONGEST_DELAY).min(LONGEST_DELAY)
}

/// Starts the container again after its delay, unless somebody stops, starts or removes it.
pub(super) fn schedule(shared: &Arc<Shared>, container: &Arc<Standalone>, end: &End) {
    let wait = delay(container.record().restarts, end);
    let (shared, container) = (shared.clone(), container.clone());
    tokio::spawn(async move {
        // Who changes its mind meanwhile need not wait for us.
        let _ = tokio::time::timeout(wait, container.hurry.notified()).await;
        again(&shared, &container).await;
    });
}

/// Starts the container again now. Nothing is done about one that does not wait for that any more.
pub(super) async fn again(shared: &Arc<Shared>, container: &Arc<Standalone>) {
    let _mutation = container.mutation.lock().await;
    let State::Restarting(end) = container.record().state.clone() else { return };
    let counted = container.update(shared, |record| record.restarts += 1);
    let started = match counted {
        Ok(()) => start::start_locked(shared, container).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = started {
        tracing::warn!(container = %container.id, error = error.chain(), "restart");
        let record = container.record();
        if wants(&record, record.exit_code()) {
            let again = container.update(shared, |it| it.state = State::Restarting(end.clone()));
            if again.is_ok() {
                schedule(shared, container, &end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::phase::Reason;

    fn end(lasted: i64) -> End {
        End {
            code: 1,
            started_at: Some(0),
            finished_at: lasted,
            reason: Reason::Error,
            message: String::new(),
        }
    }

    #[test]
    fn a_failure_and_an_illness_are_reasons_as_often_as_the_policy_says() {
        let (failure, illness) =
            (|most| RestartPolicy::OnFailure { most }, |most| RestartPolicy::OnUnhealthy { most });
        for (policy, restarts, code, is_ill, expected) in [
            (RestartPolicy::No, 0, 1, true, false),
            (RestartPolicy::Always, 9, 0, false, true),
            (failure(0), 9, 1, false, true),
            (failure(2), 2, 1, false, false),
            (failure(0), 0, 0, true, false),
            (illness(0), 9, 0, true, true),
            (illness(0), 9, 1, false, true),
            (illness(0), 0, 0, false, false),
            (illness(2), 1, 0, true, true),
            (illness(2), 2, 0, true, false),
        ] {
            let granted = grants(policy, restarts, code, is_ill);
            assert_eq!(granted, expected, "{policy:?} {restarts} {code} {is_ill}");
        }
    }

    #[test]
    fn the_delay_doubles_up_to_a_minute_and_a_good_run_resets_it() {
        let millis = [0, 1, 2, 5, 9, 10, 40].map(|restarts| delay(restarts, &end(1)).as_millis());
        assert_eq!(millis, [100, 200, 400, 3200, 51_200, 60_000, 60_000]);
        assert_eq!(delay(9, &end(GOOD_RUN_NANOS)), FIRST_DELAY);
    }
}
