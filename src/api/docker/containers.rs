//! Containers: made, started, ended, waited for, removed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};

use super::call::Call;
use super::convert::{
    container as convert, create, health, host, mounts, network, platform, update,
};
use super::reply::{self, Answer};
use super::wire::container::{CreateRequest, Created, Processes, Waited};
use super::{Door, images};
use crate::cgroup::{BlkioDevice, BlkioLimit, Resources};
use crate::engine::actions::Act;
use crate::engine::container::config::Mount;
use crate::engine::container::record::Record as PodContainer;
use crate::engine::standalone::config::{Ipc, Network};
use crate::engine::standalone::{Removal, Standalone, Started};
use crate::engine::{Sight, parse_signal};
use crate::error::{Context, Error, Kind, Result};
use crate::id::ContainerId;

/// In Docker's words.
const NO_WEIGHT: &str =
    "Your kernel does not support Block I/O weight or the cgroup is not mounted";

const NO_DEVICE_WEIGHT: &str =
    "Your kernel does not support Block I/O weight_device or the cgroup is not mounted";

/// As for a stop.
const PATIENCE_SECONDS: u64 = 10;

/// A container of either door.
pub(super) enum Found {
    Standalone(Arc<Standalone>),
    /// Of a kubelet's pod: it can be looked at.
    Pod(Arc<PodContainer>),
}

/// # Errors
/// `NotFound` in Docker's words.
pub(super) fn find(door: &Door, text: &str) -> Result<Found> {
    let missing = match door.engine.standalone(text) {
        Ok(found) => return Ok(Found::Standalone(found)),
        Err(error) if error.kind() == Kind::NotFound => error,
        Err(error) => return Err(error),
    };
    let name = text.strip_prefix('/').unwrap_or(text);
    let all = door.engine.containers(Sight::Own);
    let is_it = |it: &&Arc<PodContainer>| {
        it.id.as_str() == text || door.engine.pod_container_name(it).as_deref() == Some(name)
    };
    if let Some(found) = all.iter().find(is_it) {
        return Ok(Found::Pod(found.clone()));
    }
    let mut begins = all.iter().filter(|it| !text.is_empty() && it.id.as_str().starts_with(text));
    match (begins.next(), begins.next()) {
        (Some(found), None) => Ok(Found::Pod(found.clone())),
        _ => Err(missing),
    }
}

/// For what changes a container: those of pods belong to their kubelet.
///
/// # Errors
/// `NotFound`, and `WrongState` for a pod's.
pub(super) fn standalone(door: &Door, text: &str) -> Result<Arc<Standalone>> {
    match find(door, text)? {
        Found::Standalone(found) => Ok(found),
        Found::Pod(found) => Err(Error::wrong_state(format!(
            "container {} belongs to a Kubernetes pod: it can be looked at, and changed by its \
             kubelet only",
            found.id
        ))),
    }
}

/// Of a container in which something can be executed.
pub(super) fn running_id(door: &Door, text: &str) -> Result<ContainerId> {
    Ok(match find(door, text)? {
        Found::Standalone(found) => found.record().id.clone(),
        Found::Pod(found) => found.id.clone(),
    })
}

pub(super) async fn create(door: &Door, call: Call) -> Answer {
    let name = call.query.text("name").unwrap_or_default().to_owned();
    let wanted_platform = call.query.text("platform").map(str::to_owned);
    let body: Value = call.json().await?;
    let request = create::request(&body)?;
    let wanted = request.image.clone().unwrap_or_default();
    if wanted.is_empty() {
        return Err(Error::invalid("no image specified"));
    }
    let image = images::find(door, &wanted)?;
    platform::check_image(wanted_platform.as_deref(), &image, &wanted)?;
    let from = volumes_from(door, &request)?;
    let gateway = door.engine.node_network().map(|(_, gateway, _)| gateway);
    let mut config = create::config(&request, &image, &body, from, gateway)?;
    let about_image = images::document(door, &image)?.config.unwrap_or_default();
    if let Some(merged) = health::merged(&request, &about_image)? {
        config.health = health::check(&merged, &request, &about_image);
        config.request["Config"]["Healthcheck"] = json!(merged);
    }
    // By their ids from now on: a name may be somebody else's tomorrow.
    let id = |other: &str| Ok::<_, Error>(standalone(door, other)?.record().id.to_string());
    if let Network::Container(other) = &mut config.network {
        *other = id(other)?;
    }
    // Not 404, which to clients means that the image is missing.
    let kind = Kind::InvalidArgument;
    if let Ipc::Container(other) = &mut config.sharing.ipc {
        let found = id(other).with_context(|| format!("can't join IPC of container {other}"));
        *other = found.kind(kind)?;
    }
    if let Some(other) = &mut config.sharing.pid_of {
        let found = id(other).with_context(|| format!("can't join PID namespace of {other}"));
        *other = found.kind(kind)?;
    }
    config.links = network::links(&door.engine, &config.network, &request)?;
    let mut warnings = request.host_config.as_ref().map(host::discarded).unwrap_or_default();
    warnings.extend(without_weights(door, &mut config.container.resources));
    let networks = network::memberships(&door.engine, &config.network, &request)?;
    let made = door.engine.create_standalone(&name, &wanted, config, networks).await?;
    reply::created(&Created { id: made.record().id.to_string(), warnings })
}

/// Takes weights of block I/O away where the machine has none, and says so.
fn without_weights(door: &Door, resources: &mut Resources) -> Vec<String> {
    let is_weight = |it: &BlkioDevice| it.what == BlkioLimit::Weight;
    let has_devices = resources.blkio_devices.iter().any(is_weight);
    if (resources.blkio_weight.is_none() && !has_devices) || door.engine.can_weigh_io() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if resources.blkio_weight.take().is_some() {
        warnings.push(format!("{NO_WEIGHT}. Weight discarded."));
    }
    if has_devices {
        resources.blkio_devices.retain(|it| !is_weight(it));
        warnings.push(format!("{NO_DEVICE_WEIGHT}. Weight-device discarded."));
    }
    warnings
}

/// What cannot be changed is refused, and then nothing is.
pub(super) async fn update(door: &Door, id: &str, call: Call) -> Answer {
    let container = standalone(door, id)?;
    let body: Value = call.json().await?;
    let update = update::request(&container.record(), &body)?;
    if update.resources.blkio_weight.is_some() && !door.engine.can_weigh_io() {
        return Err(Error::new(Kind::Unsupported, NO_WEIGHT));
    }
    door.engine.update_standalone(&container, update).await.map_err(|error| {
        let message = format!("Cannot update container {id}: {}", error.chain());
        Error::new(error.kind(), message)
    })?;
    reply::json(&update::reply())
}

/// The mounts of the containers that `--volumes-from` names.
fn volumes_from(door: &Door, request: &CreateRequest) -> Result<Vec<Mount>> {
    let host = request.host_config.as_ref();
    let mut all = Vec::new();
    for text in host.and_then(|host| host.volumes_from.as_ref()).into_iter().flatten() {
        let (name, mode) = text.split_once(':').unwrap_or((text, ""));
        let record = standalone(door, name)?.record();
        all.extend(mounts::of_another(&record.config.container.mounts, mode)?);
    }
    Ok(all)
}

pub(super) fn inspect(door: &Door, id: &str) -> Answer {
    match find(door, id)? {
        Found::Standalone(found) => reply::json(&convert::details(&door.engine, &found.record())?),
        Found::Pod(found) => reply::json(&convert::pod_details(&door.engine, &found)?),
    }
}

/// `aside=1` is Cais' own: see [`take_over`].
pub(super) async fn start(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    match door.engine.start_standalone(&container, call.query.switch("aside")).await? {
        Started::Now => reply::nothing(),
        Started::Before => reply::unchanged(),
    }
}

pub(super) async fn stop(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    let (signal, timeout) = ending(call)?;
    match door.engine.stop_standalone(&container, signal, timeout).await? {
        true => reply::nothing(),
        false => reply::unchanged(),
    }
}

pub(super) async fn restart(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    let (signal, timeout) = ending(call)?;
    door.engine.restart_standalone(&container, signal, timeout).await?;
    reply::nothing()
}

/// The signal and the patience that a caller asks for.
fn ending(call: &Call) -> Result<(Option<i32>, Option<Duration>)> {
    let signal = call.query.text("signal").map(parse_signal).transpose()?;
    let timeout = call.query.number::<i64>("t")?.map(create::seconds_or_for_ever);
    Ok((signal, timeout))
}

pub(super) async fn kill(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    let signal = parse_signal(call.query.text("signal").unwrap_or("KILL"))?;
    door.engine.kill_standalone(&container, signal).await?;
    reply::nothing()
}

pub(super) async fn pause(door: &Door, id: &str) -> Answer {
    door.engine.pause_standalone(&standalone(door, id)?).await?;
    reply::nothing()
}

pub(super) async fn unpause(door: &Door, id: &str) -> Answer {
    door.engine.unpause_standalone(&standalone(door, id)?).await?;
    reply::nothing()
}

pub(super) async fn rename(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    let name = call.query.text("name").unwrap_or_default();
    door.engine.rename_standalone(&container, name).await?;
    reply::nothing()
}

pub(super) async fn remove(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    if call.query.switch("link") {
        return create::unsupported("removing a link");
    }
    let removal =
        Removal { is_forced: call.query.switch("force"), with_volumes: call.query.switch("v") };
    door.engine.remove_standalone(&container, removal).await?;
    reply::nothing()
}

/// Cais' own: a container that was started aside takes the published ports and the names of `from`, without a moment in
/// which nobody has them. The answer comes when connections to `from` have ended, or after `t` seconds.
pub(super) async fn take_over(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    let from = call.query.text("from");
    let from = from.ok_or_else(|| Error::invalid("from: whose place is it to take?"))?;
    let old = standalone(door, from)?;
    let patience = Duration::from_secs(call.query.number("t")?.unwrap_or(PATIENCE_SECONDS));
    door.engine.take_over_standalone(&container, &old, patience).await?;
    reply::nothing()
}

/// The head goes out at once: clients wait for it before they start the container.
pub(super) fn wait(door: &Door, id: &str, call: &Call) -> Answer {
    let container = standalone(door, id)?;
    let condition = call.query.text("condition").unwrap_or("not-running").to_owned();
    if !matches!(condition.as_str(), "not-running" | "next-exit" | "removed") {
        return Err(Error::invalid(format!("invalid condition: {condition:?}")));
    }
    let mut ends = container.ends();
    let before = *ends.borrow_and_update();
    let code = async move {
        // The sender is part of the container, which is held.
        let ended = ends.wait_for(|now| match condition.as_str() {
            "removed" => now.is_removed,
            "next-exit" => now.count > before.count || now.is_removed,
            _ => !now.is_running,
        });
        let code = ended.await.map_or(0, |now| now.code);
        drop(container);
        let mut line = serde_json::to_vec(&Waited { status_code: code }).unwrap_or_default();
        line.push(b'\n');
        Bytes::from(line)
    };
    Ok(reply::stream("application/json", code.into_stream().boxed()))
}

/// Docker asks the host's ps, and so do we: its options are the client's to choose.
pub(super) async fn top(door: &Door, id: &str, call: &Call) -> Answer {
    let container = running_id(door, id)?;
    let pids = door.engine.processes(&container)?;
    if pids.is_empty() {
        return Err(Error::wrong_state(format!("container {container} is not running")));
    }
    let arguments = call.query.text("ps_args").unwrap_or("-ef");
    let (titles, processes) = super::top::list(arguments, &pids).await?;
    door.engine.acted_on(&container, Act::Plain("top"));
    reply::json(&Processes { titles, processes })
}
