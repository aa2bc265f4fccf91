//! Ending, signalling, pausing and renaming.
//!
//! None of these waits for the container's lock while something runs: a second call must be able
//! to cut the first one short.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::record::{Run, State};
use super::{Standalone, names, start};
use crate::engine::actions::Act;
use crate::engine::container::phase::Phase;
use crate::engine::container::{signal, stop as engine_stop};
use crate::engine::{Shared, operation};
use crate::error::{Context, Error, Kind, Result};
use crate::monitor::protocol::{KillScope, Request};

/// # Errors
/// Never for what does not run: it returns false.
pub(crate) async fn stop(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    signal: Option<i32>,
    timeout: Option<Duration>,
) -> Result<bool> {
    operation::run(async move {
        let was_running = halt(&shared, &container, signal, timeout).await?;
        if was_running {
            shared.tell(&container.record(), Act::Plain("stop"));
        }
        Ok(was_running)
    })
    .await
}

/// As [`stop`], for callers that run to their end and tell of it themselves.
pub(super) async fn halt(
    shared: &Arc<Shared>,
    container: &Arc<Standalone>,
    signal: Option<i32>,
    timeout: Option<Duration>,
) -> Result<bool> {
    container.update(shared, |record| record.is_stopped = true)?;
    end(shared, container, signal, timeout).await
}

/// Ends the run that is under way. False if there is none.
pub(super) async fn end(
    shared: &Arc<Shared>,
    container: &Arc<Standalone>,
    signal: Option<i32>,
    timeout: Option<Duration>,
) -> Result<bool> {
    let record = container.record();
    let run = match &record.state {
        State::Running(run) => run,
        State::Restarting(_) => {
            cancel_restart(shared, container).await?;
            return Ok(true);
        }
        State::Created { .. } | State::Exited { .. } => return Ok(false),
    };
    if run.is_paused {
        thaw(shared, container)?;
    }
    let timeout = timeout.unwrap_or(record.config.stop_timeout);
    if let Ok(running) = shared.containers.find(container.id.as_str()) {
        // Without patience only a signal of the caller's choice comes before SIGKILL.
        if signal.is_some() || !timeout.is_zero() {
            let signal = signal.unwrap_or(running.record().stop_signal);
            shared.tell(&record, Act::Kill { signal });
            send(shared, container, run, signal, KillScope::Init).await?;
            let _ = tokio::time::timeout(timeout, running.exited()).await;
        }
        if !has_ended(shared, container) {
            shared.tell(&record, Act::Kill { signal: libc::SIGKILL });
        }
        engine_stop::stop_container(shared, &running, Duration::ZERO).await?;
    }
    container.rests().await;
    Ok(true)
}

async fn cancel_restart(shared: &Shared, container: &Standalone) -> Result<()> {
    container.hurry.notify_one();
    let _mutation = container.mutation.lock().await;
    container.update(shared, |record| {
        if let State::Restarting(end) = &record.state {
            record.state = State::Exited { end: end.clone(), failure: None };
        }
    })
}

/// Stops what runs and starts it again.
pub(crate) async fn restart(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    signal: Option<i32>,
    timeout: Option<Duration>,
) -> Result<()> {
    operation::run(async move {
        // Its own policy must not come first.
        container.update(&shared, |record| record.is_stopped = true)?;
        container.is_restarting.store(true, Ordering::SeqCst);
        let restarted = end_and_start(&shared, &container, signal, timeout).await;
        container.is_restarting.store(false, Ordering::SeqCst);
        restarted
    })
    .await
}

async fn end_and_start(
    shared: &Arc<Shared>,
    container: &Arc<Standalone>,
    signal: Option<i32>,
    timeout: Option<Duration>,
) -> Result<()> {
    if end(shared, container, signal, timeout).await? {
        shared.tell(&container.record(), Act::Plain("stop"));
    }
    let _mutation = container.mutation.lock().await;
    container.update(shared, |record| (record.is_stopped, record.is_aside) = (false, false))?;
    start::start_locked(shared, container).await?;
    shared.tell(&container.record(), Act::Plain("restart"));
    Ok(())
}

/// # Errors
/// `WrongState` in Docker's words for what does not run.
pub(crate) async fn kill(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    signal: i32,
) -> Result<()> {
    operation::run(async move {
        let record = container.record();
        let Some(run) = record.run() else {
            return Err(Error::wrong_state(format!(
                "cannot kill container: {}: container {} is not running",
                record.name, record.id
            )));
        };
        let stop_signal = shared.containers.find(record.id.as_str())?.record().stop_signal;
        if signal == libc::SIGKILL || signal == stop_signal {
            container.update(&shared, |record| record.is_stopped = true)?;
        }
        let scope = if signal == libc::SIGKILL { KillScope::All } else { KillScope::Init };
        // Before the end that it may bring is told.
        shared.tell(&record, Act::Kill { signal });
        send(&shared, &container, run, signal, scope).await?;
        // A frozen process dies of nothing.
        if run.is_paused && signal == libc::SIGKILL {
            thaw(&shared, &container)?;
        }
        if signal == libc::SIGKILL {
            container.rests().await;
        }
        Ok(())
    })
    .await
}

async fn send(
    shared: &Shared,
    container: &Standalone,
    run: &Run,
    signal: i32,
    scope: KillScope,
) -> Result<()> {
    let pod = shared.pods.find(run.pod.as_str())?;
    let Ok(monitor) = pod.monitor() else { return Ok(()) };
    let request = Request::Kill { container: container.id.clone(), signal, scope };
    match monitor.call(request, Vec::new()).await {
        // It ended by itself meanwhile.
        Err(error)
            if matches!(error.kind(), Kind::WrongState | Kind::NotFound | Kind::Unavailable) =>
        {
            Ok(())
        }
        answer => answer.map(drop).context("signal the container"),
    }
}

pub(crate) async fn pause(shared: Arc<Shared>, container: Arc<Standalone>) -> Result<()> {
    operation::run(async move {
        let record = container.record();
        match record.run() {
            None => return Err(not_running(&container)),
            Some(run) if run.is_paused => {
                let id = &record.id;
                return Err(Error::wrong_state(format!("Container {id} is already paused")));
            }
            Some(_) => {}
        }
        group(&shared, &container)?.freeze().context("pause the container")?;
        set_paused(&shared, &container, true)?;
        shared.tell(&record, Act::Plain("pause"));
        Ok(())
    })
    .await
}

pub(crate) async fn unpause(shared: Arc<Shared>, container: Arc<Standalone>) -> Result<()> {
    operation::run(async move {
        let record = container.record();
        match record.run() {
            None => Err(not_running(&container)),
            Some(run) if !run.is_paused => {
                let id = &record.id;
                Err(Error::wrong_state(format!("Container {id} is not paused")))
            }
            Some(_) => {
                thaw(&shared, &container)?;
                shared.tell(&record, Act::Plain("unpause"));
                Ok(())
            }
        }
    })
    .await
}

fn thaw(shared: &Shared, container: &Standalone) -> Result<()> {
    group(shared, container)?.thaw().context("resume the container")?;
    set_paused(shared, container, false)
}

fn group(shared: &Shared, container: &Standalone) -> Result<crate::cgroup::Cgroup> {
    let running = shared.containers.find(container.id.as_str())?;
    shared.cgroups.open(&running.record().cgroup)
}

fn set_paused(shared: &Shared, container: &Standalone, is_paused: bool) -> Result<()> {
    container.update(shared, |record| {
        if let State::Running(run) = &mut record.state {
            run.is_paused = is_paused;
        }
    })
}

/// # Errors
/// `WrongState` in Docker's words.
pub(super) fn not_running(container: &Standalone) -> Error {
    Error::wrong_state(format!("container {} is not running", container.id))
}

pub(crate) async fn rename(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    name: &str,
) -> Result<()> {
    let name = names::check(name)?;
    operation::run(async move {
        let _mutation = container.mutation.lock().await;
        let old = container.record().name.clone();
        if old == name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        shared.standalones.claim(&name, &container.id)?;
        let renamed = container.update(&shared, |record| record.name.clone_from(&name));
        let freed = if renamed.is_ok() { &old } else { &name };
        shared.standalones.release(freed, &container.id);
        renamed?;
        shared.tell(&container.record(), Act::Rename { old: &old });
        crate::engine::names::publish(&shared).await
    })
    .await
}

/// The signal that `text` names.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    signal::parse(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

/// Whether the run's first process has ended, though its end is not on record yet.
pub(super) fn has_ended(shared: &Shared, container: &Standalone) -> bool {
    let found = shared.containers.find(container.id.as_str());
    found.is_ok_and(|found| matches!(found.record().phase, Phase::Exited(_)))
}
