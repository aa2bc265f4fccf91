//! What a daemon does about the pods of the one before it.
//!
//! | record | monitor answers | becomes |
//! |---|---|---|
//! | Making | yes or no | undone, record deleted: the client's retry makes it anew |
//! | Ready | yes | rejoined; containers take the state that the monitor tells |
//! | Ready | no | Stopped; its containers killed and Exited as their exit records say |
//! | Stopped | – | as it is |
//!
//! Directories without a record are what a crash left between two steps: they are removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::container::phase::{End, Event, Phase};
use super::container::{Container, record as container_record};
use super::events::Change;
use super::image::layer_users;
use super::pod::{Pod, files, phase, record as pod_record, run, watch};
use crate::cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::id::{ContainerId, PodId};
use crate::monitor::client::{Client, Reports};
use crate::monitor::protocol::{ContainerState, KillScope, Reply, Report, Request, State};

/// How long what a crash left running may take to die.
const PATIENCE: Duration = Duration::from_secs(1);

/// A monitor that does not answer its socket within this is as good as gone.
const ANSWER: Duration = Duration::from_secs(1);

pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<()> {
    let mut containers: HashMap<PodId, Vec<container_record::Record>> = HashMap::new();
    for (key, record) in shared.container_records.scan()? {
        if shared.events.announced(Change::Deleted, &key) {
            // All else of it was gone before that was said.
            shared.container_records.remove(&key)?;
            continue;
        }
        containers.entry(record.pod.clone()).or_default().push(record);
    }
    for (_, record) in shared.pod_records.scan()? {
        let id = record.id.clone();
        let of_pod = containers.remove(&id).unwrap_or_default();
        if shared.events.announced(Change::Deleted, id.as_str()) {
            shared.pod_records.remove(id.as_str())?;
            continue;
        }
        if let Err(error) = recover_pod(shared, record, of_pod).await {
            // One damaged pod must not keep the others from coming back.
            tracing::error!(pod = %id, error = error.chain(), "take up a pod again");
        }
    }
    sweep(shared).await?;
    // A stopped pod gave its network back; what a killed daemon was still deleting of it is nobody's.
    let mut living = shared.pods.all();
    living.retain(|pod| pod.record().attachments().next().is_some());
    let living = living.iter().map(|pod| pod.id.clone()).collect();
    if let Err(error) = shared.network.collect(living).await {
        // The operator may be about to install the plugin that is missing.
        tracing::warn!(error = error.chain(), "take back what dead pods had");
    }
    shared.images.sweep(layer_users(shared)).await.context("drop layers that nobody needs")
}

async fn recover_pod(
    shared: &Arc<Shared>,
    record: pod_record::Record,
    containers: Vec<container_record::Record>,
) -> Result<()> {
    let (monitor, reports) = reach(shared, &record).await.unzip();
    let monitor = monitor.map(Arc::new);
    if record.phase == phase::Phase::Making {
        return undo_making(shared, record, monitor).await;
    }
    let pod = Arc::new(Pod::new(record, monitor.clone()));
    shared.pods.insert(pod.id.as_str(), pod.clone());
    for record in containers {
        let container = Arc::new(Container::new(record));
        shared.containers.insert(container.id.clone().as_str(), container);
    }
    shared.announce_untold(&pod);
    match monitor.zip(reports) {
        Some((monitor, reports)) => {
            rejoin(shared, &pod, &monitor).await?;
            watch::spawn(shared, &pod, reports);
            check_network(shared, &pod).await;
        }
        None if pod.record().phase == phase::Phase::Ready => watch::lost(shared, &pod),
        None => {}
    }
    Ok(())
}

/// A network that an operator's plugins disown is said; the pod may still be of use.
async fn check_network(shared: &Shared, pod: &Pod) {
    let record = pod.record();
    let (Some(attachment), Some(pid)) = (&record.attachment, record.monitor_pid) else { return };
    if let Err(error) = shared.network.check(attachment, &pod.id, &run::netns(pid)).await {
        tracing::warn!(pod = %pod.id, error = error.chain(), "the pod's network has changed");
    }
}

async fn reach(shared: &Shared, record: &pod_record::Record) -> Option<(Client, Reports)> {
    let socket = shared.monitor_socket(&record.id);
    tokio::time::timeout(ANSWER, run::reach(&socket)).await.ok()?.ok()
}

async fn undo_making(
    shared: &Arc<Shared>,
    record: pod_record::Record,
    monitor: Option<Arc<Client>>,
) -> Result<()> {
    if let Some(monitor) = monitor {
        run::end_monitor(&monitor).await?;
    }
    shared.network.detach(&record.id, None).await?;
    shared.remove_pod_cgroup(&record)?;
    files::remove_directory(&shared.layout.pod(&record.id))?;
    shared.pod_records.remove(record.id.as_str())
}

/// Brings the containers' records up to what the monitor knows.
async fn rejoin(shared: &Arc<Shared>, pod: &Arc<Pod>, monitor: &Client) -> Result<()> {
    let told = match monitor.call(Request::List, Vec::new()).await? {
        (Reply::Containers(told), _) => told,
        (reply, _) => {
            return Err(Error::internal(format!("the monitor answered {reply:?} to List")));
        }
    };
    let mut told: BTreeMap<ContainerId, State> =
        told.into_iter().map(|ContainerState { container, state }| (container, state)).collect();
    for container in shared.containers_of(&pod.id) {
        match told.remove(&container.id) {
            Some(state) => take_up(shared, &container, state)?,
            None => forgotten(shared, pod, &container)?,
        }
    }
    for (container, _) in told {
        remove_stranger(shared, pod, &container).await?;
    }
    Ok(())
}

/// A container that only the monitor knows: made by a daemon that died before it could answer the
/// client, or its record was damaged.
async fn remove_stranger(shared: &Shared, pod: &Pod, container: &ContainerId) -> Result<()> {
    tracing::warn!(%container, pod = %pod.id, "removing a container without a record");
    // A connection of its own: the reports of the others are not for here.
    let (monitor, mut reports) = run::reach(&shared.monitor_socket(&pod.id)).await?;
    let (signal, scope) = (libc::SIGKILL, KillScope::All);
    let kill = Request::Kill { container: container.clone(), signal, scope };
    if monitor.call(kill, Vec::new()).await.is_ok() {
        let ended = async {
            while let Some(report) = reports.recv().await {
                if matches!(&report, Report::Exited { container: of, .. } if of == container) {
                    return;
                }
            }
        };
        // When it does not die, the deletion says so.
        let _ = tokio::time::timeout(PATIENCE, ended).await;
    }
    let delete = Request::Delete { container: container.clone() };
    monitor.call(delete, Vec::new()).await.context("delete a container without a record")?;
    let group = cgroup::Record::planned(&pod.record().cgroup.path, container.as_str(), None)?;
    remove_group(shared, &group)?;
    shared.remove_process(container)
}

fn take_up(shared: &Shared, container: &Container, state: State) -> Result<()> {
    let known = container.record().phase.clone();
    let event = match (known, state) {
        (Phase::Created { .. }, State::Running { started_at, .. }) => {
            Event::Started { at: started_at }
        }
        (Phase::Created { .. } | Phase::Running { .. }, State::Exited(exit)) => {
            Event::Ended(End::of(exit))
        }
        (_, State::Created { .. } | State::Running { .. } | State::Exited(_)) => return Ok(()),
    };
    container.apply(shared, event)
}

/// A recorded container that the monitor does not know: it was being removed, or never came to be.
fn forgotten(shared: &Shared, pod: &Pod, container: &Container) -> Result<()> {
    container.kill_cgroup(shared);
    let end = shared.exit_record(&pod.id, &container.id).map_or_else(watch::monitor_lost, End::of);
    match container.apply(shared, Event::Ended(end)) {
        Err(error) if error.kind() == Kind::WrongState => Ok(()),
        applied => applied,
    }
}

fn remove_group(shared: &Shared, record: &cgroup::Record) -> Result<()> {
    let mut group = shared.cgroups.open(record)?;
    group.kill(PATIENCE)?;
    group.remove()
}

/// Removes what belongs to no record.
async fn sweep(shared: &Shared) -> Result<()> {
    let mut strays = Vec::new();
    for name in shared.layout.pod_directories()? {
        if shared.pods.find(&name).is_err() {
            end_stray(shared, &name).await?;
            files::remove_directory(&shared.layout.pods().join(&name))?;
            strays.extend(PodId::parse(&name));
        }
    }
    for name in shared.layout.container_roots()? {
        let Ok(id) = ContainerId::parse(&name) else { continue };
        if shared.containers.find(&name).is_err() && !shared.standalones.has(&id) {
            shared.layout.discard(&shared.layout.container_root(&id))?;
        }
    }
    for name in shared.layout.standalone_directories()? {
        let Ok(id) = ContainerId::parse(&name) else { continue };
        if !shared.standalones.has(&id) {
            shared.layout.discard(&shared.layout.standalone(&id))?;
        }
    }
    for (key, record) in shared.container_records.scan()? {
        if shared.containers.find(&key).is_err() {
            remove_group(shared, &record.cgroup)?;
            shared.remove_process(&record.id)?;
            shared.container_records.remove(&key)?;
        }
    }
    for (key, group) in shared.making.scan()? {
        if shared.containers.find(&key).is_err() {
            remove_group(shared, &group)?;
            shared.remove_process(&ContainerId::parse(&key)?)?;
        }
        shared.making.remove(&key)?;
    }
    for pod in strays {
        // Of one with containers it went with the last of them.
        shared.cgroups.open(&shared.own_pod_cgroup(&pod)?)?.remove()?;
    }
    shared.layout.empty_trash()
}

/// The monitor of a pod whose record is gone, with all that runs in the pod.
async fn end_stray(shared: &Shared, pod: &str) -> Result<()> {
    let Ok(pod) = PodId::parse(pod) else { return Ok(()) };
    let socket = shared.monitor_socket(&pod);
    let reached = tokio::time::timeout(ANSWER, run::reach(&socket)).await;
    let Ok(Ok((monitor, _))) = reached else { return Ok(()) };
    tracing::warn!(%pod, "ending a pod sandbox without a record");
    run::end_monitor(&monitor).await
}
