//! The end of `compose up` in the foreground: what runs is stopped or killed, whatever goes wrong with one of it.

use super::containers::{self, Container, at_once};
use super::converge::Act;
use super::{hooks, others};
use crate::error::{Failure, Result};
use crate::output;

/// Whether there is something to end.
pub(super) fn is_to_stop(container: &Container) -> bool {
    matches!(container.state(), "running" | "restarting" | "paused")
}

/// Stops or kills the services that were named, or all. The first failure is told when all are through.
pub(super) fn end_all(act: &Act<'_>, verb: &str) -> Result<()> {
    let Act { cais, project, named, .. } = act;
    let mut all = containers::of_project(cais, &project.name)?;
    all.retain(|it| {
        is_to_stop(it)
            && project.service(&it.service).is_some()
            && (named.is_empty() || named.contains(&it.service))
    });
    let groups = others::backwards(all);
    if verb == "stop" {
        return in_turn(&groups, |group| at_once(group, |it| stop(act, it)));
    }
    at_once(&groups.concat(), |it| {
        ended(act.cais.client.post(others::timed(it, verb, None)), it, "Killed")
    })
}

fn stop(act: &Act<'_>, container: &Container) -> Result<()> {
    let Act { cais, project, making, .. } = act;
    // In one that is paused or waits for its next start nothing can be run.
    let prepared = if container.is_running() {
        gone_is_fine(hooks::run(cais, Some(project), container, "pre_stop")).map(drop)
    } else {
        Ok(())
    };
    let stopped = cais.client.post(others::timed(container, "stop", making.timeout));
    prepared.and(ended(stopped, container, "Stopped"))
}

fn ended(outcome: Result<()>, container: &Container, word: &str) -> Result<()> {
    if gone_is_fine(outcome)? {
        output::notice(&format!(" Container {}  {word}", container.name));
    }
    Ok(())
}

/// Whether it was done; what has ended by itself needs no more.
fn gone_is_fine(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Err(Failure { status: Some(404 | 409), .. }) => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// Goes through all, and keeps the first failure.
fn in_turn<T>(items: &[T], act: impl Fn(&T) -> Result<()>) -> Result<()> {
    let outcomes: Vec<Result<()>> = items.iter().map(act).collect();
    outcomes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn one_that_fails_keeps_none_from_its_turn() {
        let seen = RefCell::new(Vec::new());
        let outcome = in_turn(&[1, 2, 3], |it| {
            seen.borrow_mut().push(*it);
            if *it == 3 { Ok(()) } else { Err(Failure::new(it.to_string())) }
        });
        assert_eq!(outcome, Err(Failure::new("1")));
        assert_eq!(*seen.borrow(), [1, 2, 3]);
    }

    #[test]
    fn what_has_ended_by_itself_is_no_failure() {
        let refused = |status| Err(Failure { status: Some(status), ..Failure::new("a") });
        assert_eq!(gone_is_fine(Ok(())), Ok(true));
        assert_eq!(gone_is_fine(refused(404)), Ok(false));
        assert_eq!(gone_is_fine(refused(409)), Ok(false));
        assert_eq!(gone_is_fine(refused(500)), refused(500).map(|()| true));
    }
}
