//! A container takes the place of another one while both run, so that nobody who asks finds nobody.
//!
//! ```text
//!               the old one                        the new one
//!   start       published ports, all names         aside: a name of its own
//!   take over   aside                              ports and names, by one transaction of the packet filter
//!   then        its open connections end
//! ```
//!
//! The old one is not stopped here: it goes on aside until whoever asked for this has removed it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

use super::record::{Record, Run, State};
use super::{Standalone, run};
use crate::engine::pod::config::OwnNetwork;
use crate::engine::pod::phase::Phase;
use crate::engine::pod::{self, Pod, attach};
use crate::engine::{Shared, clock, names, operation};
use crate::error::{Error, Kind, Result};
use crate::id::PodId;
use crate::net::ports::{HostPort, PortRequest};
use crate::net::{PortMapping, Protocol};

/// Who has looked a name up a moment ago connects within this time.
const QUIET: Duration = Duration::from_secs(1);

/// Without a healthcheck, so long a life and what it listens on stand for health.
const STEADY_NANOS: i64 = 1_000_000_000;

/// How long it may take to listen where the old one does.
const READY: Duration = Duration::from_secs(30);

const LOOK: Duration = Duration::from_millis(20);

/// Returns when connections to `old` have ended, or after `patience`.
///
/// # Errors
/// `WrongState` unless both run and `new` is aside, `Timeout` when it does not listen where `old` does, and what publishing
/// ports may give. Then `old` has what it had.
pub(crate) async fn take_over(
    shared: Arc<Shared>,
    new: Arc<Standalone>,
    old: Arc<Standalone>,
    patience: Duration,
) -> Result<()> {
    operation::run(async move {
        check_places(&new.record(), &old.record())?;
        check_networks(&shared, &new.record(), &old.record())?;
        let answering = answers(&shared, &new, &old);
        timeout(READY, answering).await.unwrap_or_else(|_| {
            let message = format!("container {} does not answer where {} does", new.id, old.id);
            Err(Error::new(Kind::Timeout, message))
        })?;
        hand_over(&shared, &new, &old).await?;
        let _ = timeout(patience.max(QUIET), rests(&shared, &old)).await;
        Ok(())
    })
    .await
}

/// Until it listens on what is published wherever the old one does. Without a healthcheck it must have lived for a while,
/// too: with one it is the caller who has waited for it.
async fn answers(shared: &Shared, new: &Standalone, old: &Standalone) -> Result<()> {
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        let (record, old_run) = (new.record(), run_of(&old.record())?);
        let own = run_of(&record)?;
        if own.health.is_none() && clock::now() - own.started_at < STEADY_NANOS {
            continue;
        }
        let (theirs, ours) = (listening(shared, &old_run).await?, listening(shared, &own).await?);
        let is_answered = |wish: &PortRequest| {
            let is_same = |it: &&PortMapping| {
                HostPort::This(it.host_port) == wish.host_port && it.protocol == wish.protocol
            };
            wish.protocol != Protocol::Tcp
                || ours.contains(&wish.container_port)
                || !old_run
                    .ports
                    .iter()
                    .filter(is_same)
                    .any(|it| theirs.contains(&it.container_port))
        };
        if wishes(&record, &old_run).iter().all(is_answered) {
            return Ok(());
        }
    }
}

async fn hand_over(shared: &Arc<Shared>, new: &Standalone, old: &Standalone) -> Result<()> {
    // Whoever holds two takes them in this order.
    let (first, second) = if new.id < old.id { (new, old) } else { (old, new) };
    let _first = first.mutation.lock().await;
    let _second = second.mutation.lock().await;
    let (record, old_run) = (new.record(), run_of(&old.record())?);
    // Somebody else may have done the same while this one waited.
    check_places(&record, &old.record())?;
    check_networks(shared, &record, &old.record())?;
    let (to, from) = (pod(shared, &run_of(&record)?)?, pod(shared, &old_run)?);
    let reservation = shared.network.reserve(wishes(&record, &old_run)).await?;
    let is_ipv6 = shared.networks.way_out_ipv6(&record.networks).is_some();
    let ports = run::shown_by_family(&reservation.mappings, is_ipv6);
    let (first, second) = if to.id < from.id { (&to, &from) } else { (&from, &to) };
    let _first = first.mutation.lock().await;
    let _second = second.mutation.lock().await;
    attach::hand_over(shared, &from, &to, ports.clone()).await?;
    let taken = |record: &mut Record| {
        set(record, false, ports);
        record.took_from = Some(old.id.clone());
    };
    let recorded = new
        .update(shared, taken)
        .and_then(|()| old.update(shared, |record| set(record, true, Vec::new())))
        .and_then(|()| new.update(shared, |record| record.took_from = None));
    if let Err(error) = recorded {
        let given = |record: &mut Record| {
            set(record, true, Vec::new());
            record.took_from = None;
        };
        let back = attach::hand_over(shared, &to, &from, old_run.ports.clone()).await;
        let back = back.and_then(|()| new.update(shared, given));
        let back = back.and_then(|()| old.update(shared, |it| set(it, false, old_run.ports)));
        if let Err(error) = back.and_then(|()| attach::handed_over(shared, &from)) {
            tracing::error!(container = %old.id, error = error.chain(), "hand ports back");
        }
        return Err(error);
    }
    attach::handed_over(shared, &to)?;
    names::publish(shared).await
}

/// # Errors
/// `WrongState` unless `new` is to take a place that `old` has.
fn check_places(new: &Record, old: &Record) -> Result<()> {
    if new.id == old.id || !new.is_aside {
        let message = format!("container {} was not started aside", new.id);
        return Err(Error::wrong_state(message));
    }
    if old.is_aside {
        return Err(Error::wrong_state(format!("container {} is aside itself", old.id)));
    }
    Ok(())
}

fn check_networks(shared: &Shared, new: &Record, old: &Record) -> Result<()> {
    let (new_run, old_run) = (run_of(new)?, run_of(old)?);
    let has_ports = !new.config.ports.is_empty() || !old_run.ports.is_empty();
    for run in [new_run, old_run].iter().filter(|_| has_ports) {
        let record = pod(shared, run)?.record();
        if !matches!(record.config.own_network(), OwnNetwork::Networks(_) | OwnNetwork::Isolated) {
            let message =
                "ports are handed over in networks that clients made, not in the default one";
            return Err(Error::new(Kind::Unsupported, message));
        }
    }
    Ok(())
}

/// What the daemon before did not come to write: the pods' records say who has taken whose place. After a boot there are no
/// pods, and the record of the one who has taken it says so.
pub(super) async fn recover(shared: &Arc<Shared>) {
    let mut pods = shared.pods.all();
    pods.retain(|pod| pod.record().phase == Phase::Ready);
    let taken: BTreeSet<PodId> =
        pods.iter().filter_map(|pod| pod.record().taken_from.clone()).collect();
    let mut has_changed = false;
    for container in shared.standalones.all() {
        let _mutation = container.mutation.lock().await;
        let record = container.record();
        let Ok(run) = run_of(&record) else { continue };
        let Some(pod) = pods.iter().find(|pod| pod.id == run.pod) else { continue };
        let ports = pod.record().config.ports.clone();
        let is_aside = is_aside(&record, &pod.record(), &taken);
        if (record.is_aside, &run.ports) == (is_aside, &ports) {
            continue;
        }
        has_changed = true;
        if let Err(error) = container.update(shared, |record| set(record, is_aside, ports)) {
            tracing::error!(container = %container.id, error = error.chain(), "finish a takeover");
        }
    }
    has_changed |= settle(shared);
    if has_changed {
        names::publish_or_log(shared).await;
    }
    for pod in pods {
        if let Err(error) = attach::handed_over(shared, &pod) {
            tracing::error!(pod = %pod.id, error = error.chain(), "finish a takeover");
        }
    }
}

/// Of two containers whose records both claim a place, the one that has taken it keeps it. Whether that changed something.
fn settle(shared: &Shared) -> bool {
    let mut has_changed = false;
    for new in shared.standalones.all() {
        let record = new.record();
        let Some(old) = &record.took_from else { continue };
        has_changed = true;
        let old = shared.standalones.find(old.as_str()).ok().filter(|_| !record.is_aside);
        let settled = old.map_or(Ok(()), |it| it.update(shared, |old| set(old, true, Vec::new())));
        let settled = settled.and_then(|()| new.update(shared, |record| record.took_from = None));
        if let Err(error) = settled {
            tracing::error!(container = %new.id, error = error.chain(), "finish a takeover");
        }
    }
    has_changed
}

/// Where it wants to publish something, its pod says by its ports whether it does.
fn is_aside(record: &Record, pod: &pod::record::Record, taken: &BTreeSet<PodId>) -> bool {
    if pod.taken_from.is_some() {
        false
    } else if taken.contains(&pod.id) {
        true
    } else if record.config.ports.is_empty() {
        record.is_aside
    } else {
        pod.config.ports.is_empty()
    }
}

fn set(record: &mut Record, is_aside: bool, ports: Vec<PortMapping>) {
    record.is_aside = is_aside;
    if let State::Running(run) = &mut record.state {
        run.ports = ports;
    }
}

/// Until nobody has been connected to it for a while, or it has ended.
async fn rests(shared: &Shared, old: &Standalone) -> Result<()> {
    let mut ticks = interval(LOOK);
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < QUIET {
        ticks.tick().await;
        let pod = pod(shared, &run_of(&old.record())?)?;
        if let Some(pid) = namespace(&pod)
            && shared.network.sockets(pid).await?.open > 0
        {
            quiet_since = Instant::now();
        }
    }
    Ok(())
}

/// What it wants to publish.
fn wishes(record: &Record, old: &Run) -> Vec<PortRequest> {
    record.config.ports.iter().map(|request| wish(request, &old.ports)).collect()
}

/// Where one port is as good as another, that of the old one is best.
fn wish(request: &PortRequest, old: &[PortMapping]) -> PortRequest {
    let will_do = |port| match request.host_port {
        HostPort::This(_) => false,
        HostPort::Among(first, last) => (first..=last).contains(&port),
        HostPort::Any => true,
    };
    let same = old.iter().find(|it| {
        (it.protocol, it.container_port) == (request.protocol, request.container_port)
            && (request.host_ip.is_none() || request.host_ip == it.host_ip)
            && will_do(it.host_port)
    });
    match same {
        Some(port) => PortRequest { host_port: HostPort::This(port.host_port), ..*request },
        None => *request,
    }
}

/// # Errors
/// `WrongState` in Docker's words for what does not run.
fn run_of(record: &Record) -> Result<Run> {
    let run = record.run().filter(|run| run.end.is_none()).cloned();
    run.ok_or_else(|| Error::wrong_state(format!("container {} is not running", record.id)))
}

fn pod(shared: &Shared, run: &Run) -> Result<Arc<Pod>> {
    shared.pods.find(run.pod.as_str())
}

async fn listening(shared: &Shared, run: &Run) -> Result<BTreeSet<u16>> {
    let pod = pod(shared, run)?;
    match namespace(&pod) {
        Some(pid) => Ok(shared.network.sockets(pid).await?.listening),
        None => Ok(BTreeSet::new()),
    }
}

/// A process in the network namespace of a pod that has one of its own.
fn namespace(pod: &Pod) -> Option<i32> {
    let record = pod.record();
    record.attachments().next().and(record.monitor_pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_no_choice_is_that_of_the_old_one() {
        let mapping = |host_port, container_port| PortMapping {
            protocol: Protocol::Tcp,
            host_port,
            container_port,
            host_ip: None,
        };
        let request = |container_port, host_port| PortRequest {
            protocol: Protocol::Tcp,
            container_port,
            host_ip: None,
            host_port,
        };
        let ports = vec![mapping(8081, 80), mapping(49_152, 443)];
        let own = [
            (request(80, HostPort::Among(8080, 8082)), HostPort::This(8081)),
            (request(80, HostPort::Among(9000, 9001)), HostPort::Among(9000, 9001)),
            (request(443, HostPort::Any), HostPort::This(49_152)),
            (request(8443, HostPort::Any), HostPort::Any),
            (request(81, HostPort::This(80)), HostPort::This(80)),
        ];
        for (request, expected) in own {
            assert_eq!(wish(&request, &ports).host_port, expected, "{request:?}");
        }
    }
}
