//! One run: a pod with the one container in it, started.

use std::net::IpAddr;
use std::sync::Arc;

use super::config::Network;
use super::health::Status;
use super::record::{Record, Run};
use super::{Standalone, share};
use crate::engine::container::phase::Phase;
use crate::engine::networks::membership::{Link, Membership};
use crate::engine::pod::config::{Config as PodConfig, OwnNetwork, PortMapping, Standalone as Own};
use crate::engine::{Shared, clock, container as engine_container, names, pod};
use crate::error::{Context, Error, Kind, Result};
use crate::id::PodId;
use crate::net::{Attachment, Family};

/// The log of a container, in its own directory.
pub(crate) const LOG: &str = "container.log";

/// After an error nothing of the run is left.
pub(super) async fn make(shared: &Arc<Shared>, container: &Standalone) -> Result<Run> {
    let record = container.record();
    let ports = if record.is_aside { Vec::new() } else { record.config.ports.clone() };
    let reservation = shared.network.reserve(ports).await;
    let reservation = reservation.map_err(|error| no_port(&record, error))?;
    let is_ipv6 = shared.networks.way_out_ipv6(&record.networks).is_some();
    let ports = shown_by_family(&reservation.mappings, is_ipv6);
    let config = pod_config(shared, &record, ports.clone())?;
    let pod = pod::run::run(shared.clone(), config).await;
    // They are published, or will not be.
    drop(reservation);
    let pod = pod.map_err(|error| in_the_way(&record, &ports, error))?;
    shared.tell_of_joining(&record);
    match run_named(shared, container, &record, &pod).await {
        Ok((pid, started_at)) => {
            let health = record.config.health.as_ref().map(|_| Status::Starting);
            Ok(Run { pod, pid, started_at, ports, is_paused: false, health, end: None })
        }
        Err(error) => {
            let has_names = names::concern(shared, &pod);
            if let Err(error) = pod::remove::remove(shared.clone(), pod.as_str()).await {
                tracing::warn!(%pod, error = error.chain(), "undo a start that failed");
            }
            if has_names {
                names::publish_or_log(shared).await;
            }
            shared.tell_of_leaving(&record);
            Err(error)
        }
    }
}

/// A port on every address of the host is one of each family, as clients see it.
pub(super) fn shown_by_family(ports: &[PortMapping], is_ipv6: bool) -> Vec<PortMapping> {
    let by_family = |port: &PortMapping| match (port.host_ip, is_ipv6) {
        (None, true) => [Family::Ipv4, Family::Ipv6]
            .map(|family| PortMapping { host_ip: Some(family.any()), ..*port })
            .to_vec(),
        (None, false) | (Some(_), _) => vec![*port],
    };
    ports.iter().flat_map(by_family).collect()
}

/// The names of the container are answered before its program is there to ask for others.
async fn run_named(
    shared: &Arc<Shared>,
    container: &Standalone,
    record: &Record,
    pod: &PodId,
) -> Result<(i32, i64)> {
    if names::concern(shared, pod) {
        names::publish(shared).await.context("failed to set up container networking")?;
    }
    run_in(shared, container, record, pod).await
}

/// The pid of the first process, and when it was started.
async fn run_in(
    shared: &Arc<Shared>,
    container: &Standalone,
    record: &Record,
    pod: &PodId,
) -> Result<(i32, i64)> {
    let config = record.config.container.clone();
    let id = engine_container::create::create(shared.clone(), pod.as_str(), config).await?;
    container.streams_opened(shared, pod).await?;
    let made = shared.containers.find(id.as_str())?;
    let pid = made.record().phase.pid().unwrap_or_default();
    engine_container::start::start(shared.clone(), id.as_str()).await?;
    let started_at = match &made.record().phase {
        Phase::Running { started_at, .. } => Some(*started_at),
        Phase::Exited(end) => end.started_at,
        Phase::Created { .. } => None,
    };
    Ok((pid, started_at.unwrap_or_else(clock::now)))
}

fn pod_config(shared: &Shared, record: &Record, ports: Vec<PortMapping>) -> Result<PodConfig> {
    let config = &record.config;
    let security = &config.container.security;
    let (network, hostname) = network(shared, record)?;
    let mut hosts = config.hosts.clone();
    for link in &config.links {
        hosts.extend(linked(shared, record, link)?);
    }
    let mut sysctls = config.sysctls.clone();
    if network.is_joined() {
        // They are the other container's.
        sysctls.retain(|key, _| !key.starts_with("net."));
    }
    Ok(PodConfig {
        name: record.name.clone(),
        uid: record.id.to_string(),
        namespace: String::new(),
        attempt: record.runs,
        hostname,
        log_directory: Some(shared.layout.standalone(&record.id)),
        dns: config.dns.clone(),
        ports,
        labels: config.container.labels.clone(),
        annotations: config.container.annotations.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        sysctls,
        overhead: None,
        resources: None,
        namespaces: security.namespaces.clone(),
        user_namespace: security.user_namespace.clone(),
        privileged: security.privileged,
        readonly_rootfs: security.readonly_rootfs,
        run_as_user: None,
        run_as_group: None,
        supplemental_groups: Vec::new(),
        seccomp: security.seccomp.clone(),
        apparmor: security.apparmor.clone(),
        selinux: None,
        runtime_handler: String::new(),
        standalone: Some(Own {
            network,
            domainname: config.domainname.clone(),
            hosts,
            shm_size: config.shm_size,
            sharing: share::of(shared, &config.sharing)?,
        }),
    })
}

/// Whose network it is, and the host name that goes with it.
fn network(shared: &Shared, record: &Record) -> Result<(OwnNetwork, String)> {
    let config = &record.config;
    let own_name = || match config.hostname.as_str() {
        "" => record.id.as_str().get(..12).unwrap_or_default().to_owned(),
        name => name.to_owned(),
    };
    match &config.network {
        Network::Host => Ok((OwnNetwork::Attached, own_name())),
        // The common case is that of every pod.
        Network::Bridge | Network::Custom(_) if record.networks == [Membership::node()] => {
            Ok((OwnNetwork::Attached, own_name()))
        }
        Network::Bridge | Network::Custom(_) => {
            Ok((OwnNetwork::Networks(record.networks.clone()), own_name()))
        }
        Network::None => Ok((OwnNetwork::Isolated, own_name())),
        Network::Container(other) => {
            let found = shared.standalones.find(other)?;
            let record = found.record();
            let run = record.run().ok_or_else(|| {
                Error::wrong_state(format!(
                    "cannot join network of a non running container: {}",
                    found.id
                ))
            })?;
            let pod = shared.pods.find(run.pod.as_str())?;
            let name = pod.record().config.hostname.clone();
            Ok((OwnNetwork::Joined(run.pod.clone()), name))
        }
    }
}

/// What a container that it is linked to is called in it: the alias, its host name and its name.
fn linked(shared: &Shared, record: &Record, link: &Link) -> Result<Vec<(IpAddr, String)>> {
    let other = shared.standalones.find(&link.container)?.record();
    let name = &other.name;
    let run = other.run().ok_or_else(|| {
        let (own, alias) = (&record.name, &link.alias);
        Error::wrong_state(format!(
            "Cannot link to a non running container: /{name} AS /{own}/{alias}"
        ))
    })?;
    let pod = shared.pods.find(run.pod.as_str())?.record();
    let address = pod.attachment.as_ref().and_then(Attachment::ipv4).ok_or_else(|| {
        Error::wrong_state(format!(
            "Cannot link to /{name}, as it does not belong to the default network"
        ))
    })?;
    let mut names = vec![link.alias.clone()];
    for more in [&pod.config.hostname, name] {
        if !names.contains(more) {
            names.push(more.clone());
        }
    }
    Ok(names.into_iter().map(|name| (address.into(), name)).collect())
}

/// A port that somebody else has, in the words that clients look for.
fn in_the_way(record: &Record, ports: &[PortMapping], error: Error) -> Error {
    if error.kind() != Kind::AlreadyExists || ports.is_empty() {
        return error;
    }
    let chain = error.chain();
    // As `20/tcp` or `127.0.0.1:20/tcp`, which `8020/tcp` is not.
    let is_it = |port: &&PortMapping| {
        let shown = format!("{}/{}", port.host_port, port.protocol.as_str());
        [" ", ":"].iter().any(|before| chain.contains(&format!("{before}{shown}")))
    };
    let at = ports.iter().find(is_it).map_or_else(String::new, |port| {
        let host = port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        format!("Bind for {host}:{} failed: ", port.host_port)
    });
    not_connected(record, &format!("{at}port is already allocated: {chain}"))
}

fn no_port(record: &Record, error: Error) -> Error {
    let is_in_use = matches!(error.kind(), Kind::AlreadyExists | Kind::Exhausted);
    if is_in_use { not_connected(record, &error.chain()) } else { error }
}

fn not_connected(record: &Record, why: &str) -> Error {
    Error::internal(format!(
        "failed to set up container networking: driver failed programming external connectivity \
         on endpoint {}: {why}",
        record.name
    ))
}
