//! RunPodSandbox: from a configuration to a pod that containers can be created in.
//!
//! ```text
//! record (Making) ─ state directory ─ monitor ─ namespaces ─ network ─ files ─ plugins ─ record (Ready)
//! ```
//!
//! Each acquisition is followed by its undo. The record comes first, so that whatever a killed
//! daemon leaves behind has a name the next one finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{Config, OwnNetwork};
use super::phase::Phase;
use super::record::Record;
use super::{Pod, attach, files, join, watch};
use crate::engine::clock::now;
use crate::engine::events::Change;
use crate::engine::undo::Undo;
use crate::engine::{PodKey, Rendering, Shared, nri, spec};
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::Namespace;
use crate::id::PodId;
use crate::monitor::client::{Client, Reports};
use crate::monitor::protocol::Request;
use crate::monitor::spawn::{exited, listen};

/// Makes the pod, or finds the one that an earlier call with the same key made.
pub(crate) async fn run(shared: Arc<Shared>, config: Config) -> Result<PodId> {
    let key = PodKey::of(&config);
    let config = Arc::new(config);
    let work = {
        let shared = shared.clone();
        let key = key.clone();
        move || make_or_find(shared, key, config)
    };
    shared.pod_flights.join(key, work).await
}

async fn make_or_find(shared: Arc<Shared>, key: PodKey, config: Arc<Config>) -> Result<PodId> {
    if let Some(pod) = shared.pods.with_key(&key) {
        let found = pod.record();
        if found.phase == Phase::Ready && found.config == config {
            return Ok(found.id.clone());
        }
        return Err(Error::new(
            Kind::AlreadyExists,
            format!(
                "pod sandbox {}/{} attempt {} exists already as {}",
                config.namespace, config.name, config.attempt, found.id
            ),
        ));
    }
    check(&shared, &config)?;
    let id = PodId::generate()?;
    let record = Record {
        cgroup: shared.pod_cgroup(&id, &config)?,
        id,
        config,
        created_at: now(),
        phase: Phase::Making,
        limits: None,
        stopped_at: 0,
        monitor_pid: None,
        attachment: None,
        joined: BTreeMap::new(),
        asks_names: false,
        way_out: None,
        way_out_ipv6: None,
        taken_from: None,
        rendering: Rendering::default(),
    };
    make(&shared, record).await
}

/// What can be refused before anything is made.
fn check(shared: &Shared, config: &Config) -> Result<()> {
    if !config.runtime_handler.is_empty() {
        let handler = &config.runtime_handler;
        return Err(Error::invalid(format!("runtime_handler: {handler:?} is not configured")));
    }
    if config.user_namespace.is_some() && !shared.has_user_namespaces {
        return Err(Error::new(
            Kind::Unsupported,
            "namespace_options.userns_options: needs user namespaces and Linux 6.15 or later",
        ));
    }
    Ok(())
}

async fn make(shared: &Arc<Shared>, record: Record) -> Result<PodId> {
    let _entered = shared.gate.enter().await;
    let id = record.id.clone();
    let mut undo = Undo::default();
    shared.pod_records.put(id.as_str(), &record)?;
    undo.push("remove the record", {
        let (shared, id) = (shared.clone(), id.clone());
        async move { shared.pod_records.remove(id.as_str()) }
    });
    let made = match assemble(shared, record, &mut undo).await {
        Ok(made) => publish(shared, made, &mut undo).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => {
            undo.forget();
            Ok(id)
        }
        Err(error) => Err(undo.run(error).await),
    }
}

/// A pod that is whole and that nobody sees yet.
struct Made {
    record: Record,
    monitor: Arc<Client>,
    reports: Reports,
}

async fn publish(shared: &Arc<Shared>, made: Made, undo: &mut Undo) -> Result<()> {
    let Made { mut record, monitor, reports } = made;
    let _steady = shared.nri.steady().await;
    nri::pod_made(shared, &record, undo).await?;
    record.phase = Phase::Ready;
    shared.pod_records.put(record.id.as_str(), &record)?;
    let pod = Arc::new(Pod::new(record, Some(monitor)));
    watch::spawn(shared, &pod, reports);
    shared.pods.insert(pod.id.as_str(), pod.clone());
    shared.pod_changed(Change::Created, &pod);
    shared.pod_changed(Change::Started, &pod);
    Ok(())
}

async fn assemble(shared: &Arc<Shared>, mut record: Record, undo: &mut Undo) -> Result<Made> {
    let directory = shared.layout.pod(&record.id);
    files::make_directory(&directory)?;
    undo.push("remove the state directory", {
        let directory = directory.clone();
        async move { files::remove_directory(&directory) }
    });

    // On cgroup v1 that is a directory in each of many hierarchies: time enough while the monitor starts.
    let group = tokio::task::spawn_blocking({
        let (shared, id, config) = (shared.clone(), record.id.clone(), record.config.clone());
        move || shared.make_pod_cgroup(&id, &config)
    });
    let started = start_monitor(shared, &record.id, undo).await;
    if let Some(group) = group.await.context("make the pod's cgroup")? {
        undo.push("remove the pod's cgroup", {
            let (shared, group) = (shared.clone(), group.clone());
            async move { shared.cgroups.open(&group)?.remove() }
        });
        record.cgroup = group;
    }
    let Started { monitor, reports, pid } = started?;
    record.monitor_pid = Some(pid);
    // From here on a killed daemon's successor can end this monitor.
    shared.pod_records.put(record.id.as_str(), &record)?;
    set_up(shared, &monitor, &record.config, &directory).await?;

    let attached = attach::attach(shared, &record, &monitor, pid, undo).await?;
    record.attachment = attached.attachment;
    record.joined = attached.joined;
    record.way_out = attached.way_out;
    record.way_out_ipv6 = attached.way_out_ipv6;
    record.asks_names = attached.asks_names;
    let joined = match record.config.own_network() {
        OwnNetwork::Joined(other) => Some(shared.layout.pod(other)),
        OwnNetwork::Attached | OwnNetwork::Networks(_) | OwnNetwork::Isolated => None,
    };
    let hostname = spec::hostname(&record.config, &shared.host);
    files::write(&directory, &record, &hostname, joined.as_deref())?;
    Ok(Made { record, monitor, reports })
}

struct Started {
    monitor: Arc<Client>,
    reports: Reports,
    pid: i32,
}

async fn start_monitor(shared: &Arc<Shared>, id: &PodId, undo: &mut Undo) -> Result<Started> {
    let socket = shared.monitor_socket(id);
    let spawned = shared.monitors.spawn(listen(&socket)?, id.as_str(), None)?;
    let pid = spawned.pid;
    // Whoever starts a process has to wait for it, or it stays as a zombie.
    tokio::spawn(exited(spawned.pidfd));
    let (monitor, reports) = reach(&socket).await?;
    let monitor = Arc::new(monitor);
    undo.push("end the monitor", {
        let monitor = monitor.clone();
        async move { end_monitor(&monitor).await }
    });
    Ok(Started { monitor, reports, pid })
}

/// Connects to a monitor and asks for its reports.
pub(crate) async fn reach(socket: &Path) -> Result<(Client, Reports)> {
    let (monitor, reports) = Client::connect(socket).await?;
    monitor.call(Request::Subscribe, Vec::new()).await.context("subscribe to the monitor")?;
    Ok((monitor, reports))
}

/// Asks the monitor to go and waits until it has: its namespaces are gone then.
pub(crate) async fn end_monitor(monitor: &Client) -> Result<()> {
    // A monitor that is gone already cannot answer, and need not.
    let _ = monitor.call(Request::Shutdown, Vec::new()).await;
    monitor.closed().await;
    Ok(())
}

async fn set_up(
    shared: &Shared,
    monitor: &Client,
    config: &Config,
    directory: &Path,
) -> Result<()> {
    let mut descriptors = vec![files::open_directory(&directory.join("exits"))?];
    let joined = join::open(shared, config, &mut descriptors).await?;
    let mut plan = spec::pod_plan(config, &shared.host, joined)?;
    if plan.network == Namespace::New {
        let ours = shared.network.pod_sysctls(config.standalone.is_some())?.iter();
        // The pod's own come last and win.
        plan.sysctls.splice(0..0, ours.map(|(key, value)| ((*key).into(), (*value).into())));
    }
    monitor
        .call(Request::SetUpPod(Box::new(plan)), descriptors)
        .await
        .context("set up the pod's namespaces")?;
    Ok(())
}

/// The pod's network namespace: the one its monitor lives in.
pub(crate) fn netns(monitor: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{monitor}/ns/net"))
}
