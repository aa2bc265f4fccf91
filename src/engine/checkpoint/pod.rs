//! CheckpointPod: all containers of a pod at one moment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::capture::{capture, make_directory, write_json, write_tree};
use super::criu::{Criu, is_component};
use super::deadline::Deadline;
use super::freeze::freeze;
use super::manifest::{self, Manifest};
use super::under_way::{UnderWay, clear};
use super::{SHM, check_supported};
use crate::engine::container::Container;
use crate::engine::container::phase::Phase;
use crate::engine::pod::Pod;
use crate::engine::pod::phase::Phase as PodPhase;
use crate::engine::{Shared, operation};
use crate::error::{Context, Error, Result};

/// Writes into `output`, an empty directory, what the containers are while all of them are frozen.
/// They run again when it returns, and on an error the directory is empty again.
pub(crate) async fn checkpoint(
    shared: Arc<Shared>,
    id: &str,
    output: PathBuf,
    containers: Vec<String>,
) -> Result<()> {
    let criu = Criu::find(&shared)?;
    let pod = shared.pods.find(id)?;
    operation::run(async move {
        let _mutation = pod.mutation.lock().await;
        let containers = running(&shared, &pod, &containers)?;
        check_output(&output)?;
        let under_way = UnderWay::Checkpoint {
            containers: containers.iter().map(|container| container.id.clone()).collect(),
            remove: Vec::new(),
            empty: Some(output.clone()),
        };
        shared.checkpoints.put(pod.id.as_str(), &under_way)?;
        let frozen = freeze(&shared, &containers).await;
        let written = match frozen {
            Ok(frozen) => {
                let captured = capture_all(&shared, &pod, &containers, &output, &criu).await;
                let thawed = frozen.thaw().await;
                captured.and(thawed)
            }
            Err(error) => Err(error),
        };
        if written.is_err() {
            clear(&output)?;
        }
        shared.checkpoints.remove(pod.id.as_str())?;
        written
    })
    .await
}

/// What is to be captured: exactly what runs.
fn running(shared: &Shared, pod: &Pod, named: &[String]) -> Result<Vec<Arc<Container>>> {
    let record = pod.record();
    if record.phase != PodPhase::Ready {
        return Err(Error::wrong_state(format!("pod sandbox {} is not ready", pod.id.short())));
    }
    let mut wanted = BTreeSet::new();
    for name in named {
        let container = shared.containers.find(name)?;
        if container.record().pod != pod.id {
            return Err(Error::invalid(format!(
                "container_ids: {name} is not of pod sandbox {}",
                pod.id.short()
            )));
        }
        if !wanted.insert(container.id.clone()) {
            return Err(Error::invalid(format!("container_ids: {name} stands there twice")));
        }
    }
    let mut running = shared.containers_of(&pod.id);
    running.retain(|container| matches!(container.record().phase, Phase::Running { .. }));
    let ids: BTreeSet<_> = running.iter().map(|container| container.id.clone()).collect();
    if let Some(missing) = ids.difference(&wanted).next() {
        return Err(Error::wrong_state(format!("container_ids: {missing} runs and is not named")));
    }
    if let Some(other) = wanted.difference(&ids).next() {
        return Err(Error::wrong_state(format!("container_ids: {other} does not run")));
    }
    if running.is_empty() {
        return Err(Error::wrong_state("no container of the pod sandbox runs"));
    }
    let mut names = BTreeSet::new();
    for container in &running {
        let name = container.record().config.name.clone();
        if !is_component(&name) || name == SHM || name == manifest::FILE {
            let why = format!("the container's name {name:?} cannot be that of a directory");
            return Err(Error::wrong_state(why));
        }
        check_supported(&record.config, &container.record().config)?;
        if !names.insert(name.clone()) {
            return Err(Error::wrong_state(format!("two running containers are named {name}")));
        }
    }
    Ok(running)
}

fn check_output(output: &Path) -> Result<()> {
    let show = || format!("output_path: {}", output.display());
    let found = output
        .symlink_metadata()
        .with_context(show)
        .map_err(|error| error.with_kind(crate::error::Kind::NotFound))?;
    if !found.is_dir() {
        return Err(Error::invalid(format!("{} is not a directory", show())));
    }
    if output.read_dir().with_context(show)?.next().is_some() {
        return Err(Error::wrong_state(format!("{} is not empty", show())));
    }
    Ok(())
}

async fn capture_all(
    shared: &Arc<Shared>,
    pod: &Pod,
    containers: &[Arc<Container>],
    output: &Path,
    criu: &Criu,
) -> Result<()> {
    let deadline = Deadline::after(None);
    for container in containers {
        let directory = output.join(&container.record().config.name);
        make_directory(&directory)?;
        capture(shared, pod, container, &directory, (criu, deadline)).await?;
    }
    if let Some(shm) = shm(pod) {
        let archive = output.join(SHM);
        let copying = tokio::task::spawn_blocking(move || write_tree(&shm, &archive, deadline));
        copying.await.context("copy the shared memory")??;
    }
    let manifest = Manifest::of(&pod.record(), containers);
    let manifest = serde_json::to_value(&manifest).context("encode the manifest")?;
    // Last: with it the checkpoint is whole.
    write_json(&output.join(manifest::FILE), &manifest)
}

/// The pod's shared memory in the root of its monitor, which nobody else can change; `None` with
/// the host's.
pub(super) fn shm(pod: &Pod) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/proc/{}/root/shm", pod.record().monitor_pid?));
    path.is_dir().then_some(path)
}
