//! RestorePod: a new pod whose containers go on where those of a checkpoint were.
//!
//! Each container is created from its request as any other, on the writable layer of the
//! checkpoint; its first process waits for the start. CRIU restores the processes of the checkpoint
//! into copies of that container's mounts, stopped, and they take its place (`verify` looks at them
//! before). StartContainer lets them go on.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::capture::{make_directory, streams};
use super::criu::{Criu, FIRST_OWN, Run, words};
use super::manifest::{self, Manifest};
use super::pod::shm;
use super::under_way::{UnderWay, remove_tree};
use super::{DIFF, IMAGES, SHM, check_supported, verify};
use crate::engine::container::Container;
use crate::engine::container::config::Config;
use crate::engine::container::create::create_from_diff;
use crate::engine::container::phase::Event;
use crate::engine::pod::config::Config as PodConfig;
use crate::engine::pod::{self, Pod};
use crate::engine::{PodKey, Shared, operation};
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::{CriuTask, FIRST_STREAM, Fd, RestorePlan};
use crate::id::{ContainerId, PodId};

/// A restore that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);
const PID_FILE: &str = "pid";

/// The new pod, and its containers by name.
pub(crate) type Restored = (PodId, Vec<(String, ContainerId)>);

/// Makes all of it or nothing.
pub(crate) async fn restore(
    shared: Arc<Shared>,
    checkpoint: PathBuf,
    pod: PodConfig,
    containers: Vec<Config>,
) -> Result<Restored> {
    let criu = Criu::find(&shared)?;
    let manifest = Manifest::read(&checkpoint)?;
    check(&shared, &manifest, &pod, &containers)?;
    operation::run(async move {
        let id = pod::run::run(shared.clone(), pod).await?;
        shared.checkpoints.put(id.as_str(), &UnderWay::Restore)?;
        let restored = restore_all(&shared, &id, &checkpoint, containers, &criu).await;
        let restored = match restored {
            Ok(restored) => Ok((id.clone(), restored)),
            Err(error) => Err(take_back(&shared, &id, error).await),
        };
        shared.checkpoints.remove(id.as_str())?;
        restored
    })
    .await
}

/// What can be refused before anything is made.
fn check(
    shared: &Shared,
    manifest: &Manifest,
    pod: &PodConfig,
    containers: &[Config],
) -> Result<()> {
    if let Some(found) = shared.pods.with_key(&PodKey::of(pod)) {
        let (name, id) = (&pod.name, &found.id);
        let text = format!("pod sandbox {name} exists already as {id}");
        return Err(Error::new(Kind::AlreadyExists, text));
    }
    let dumped = manifest.containers.iter().map(|it| (it.name.as_str(), it.image.as_str()));
    let mut missing: BTreeMap<_, _> = dumped.collect();
    for config in containers {
        let name = &config.name;
        let Some(image) = missing.remove(name.as_str()) else {
            return Err(Error::invalid(format!(
                "container_configs: {name} is not in the checkpoint, or stands there twice"
            )));
        };
        check_supported(pod, config)?;
        let found = shared.images.resolve(&config.image).ok_or_else(|| {
            Error::not_found(format!("image {:?} is not present: pull it first", config.image))
        })?;
        if found.id.to_string() != image {
            return Err(Error::wrong_state(format!(
                "container {name} ran image {image}, and {:?} is another one",
                config.image
            )));
        }
    }
    match missing.keys().next() {
        Some(name) => Err(Error::invalid(format!("container_configs: {name} is missing"))),
        None => Ok(()),
    }
}

async fn take_back(shared: &Arc<Shared>, id: &PodId, error: Error) -> Error {
    match pod::remove::remove(shared.clone(), id.as_str()).await {
        Ok(()) => error,
        Err(left) => {
            let text = format!("{} (and left behind: {})", error.chain(), left.chain());
            Error::new(error.kind(), text)
        }
    }
}

async fn restore_all(
    shared: &Arc<Shared>,
    id: &PodId,
    checkpoint: &Path,
    configs: Vec<Config>,
    criu: &Criu,
) -> Result<Vec<(String, ContainerId)>> {
    let pod = shared.pods.find(id.as_str())?;
    // Nobody may start a container that is not restored yet.
    let _mutation = pod.mutation.lock().await;
    if let Some(shm) = shm(&pod)
        && checkpoint.join(SHM).exists()
    {
        let archive = File::open(checkpoint.join(SHM)).context("open the shared memory")?;
        crate::image::unpack_archive(archive, &shm).await.context("fill the shared memory")?;
    }
    let mut restored = Vec::new();
    for config in configs {
        let name = config.name.clone();
        let directory = checkpoint.join(&name);
        let container =
            create_from_diff(shared, &pod, Arc::new(config), &directory.join(DIFF)).await?;
        restore_one(shared, &pod, &container, &directory.join(IMAGES), criu)
            .await
            .with_context(|| format!("restore container {name}"))?;
        restored.push((name, container.id.clone()));
    }
    Ok(restored)
}

async fn restore_one(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &Arc<Container>,
    images: &Path,
    criu: &Criu,
) -> Result<()> {
    let work = shared.layout.checkpoint(container.id.as_str());
    let stage = work.join("stage");
    remove_tree(&work)?;
    make_directory(&stage)?;
    let outcome = restore_in(shared, pod, container, images, (criu, &work, &stage)).await;
    remove_tree(&work)?;
    outcome
}

async fn restore_in(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &Arc<Container>,
    images: &Path,
    (criu, work, stage): (&Criu, &Path, &Path),
) -> Result<()> {
    let record = container.record();
    let waiting = record.phase.pid().ok_or_else(|| container.is_not("created", &record.phase))?;
    let expected = verify::Expected::of(shared, container, waiting)?;
    let mut args = words(&["--restore-detached", "--restore-sibling", "--leave-stopped"]);
    args.extend(words(&["--pidfile", PID_FILE, "--root"]));
    args.push(stage.join("0").as_os_str().as_bytes().to_vec());
    let mut mounts = vec![b"/".to_vec().into()];
    for mount in expected.mounts().external() {
        let source = stage.join(mounts.len().to_string());
        args.extend([b"--external".to_vec(), mount.key_of_restore(&source)]);
        mounts.push(mount.target.clone().into());
    }
    let mut given = Vec::new();
    let numbers = 0_i32..;
    for ((stream, dumped), now) in numbers.zip(manifest::pipes(images)?).zip(streams(waiting)?) {
        match dumped {
            Some(pipe) if now.starts_with("pipe:[") => {
                let number = FIRST_STREAM + i32::try_from(given.len()).unwrap_or_default();
                args.extend([b"--inherit-fd".to_vec(), format!("fd[{number}]:{pipe}").into()]);
                given.push(stream);
            }
            Some(_) => {
                return Err(Error::wrong_state(format!(
                    "stream {stream} was open in the checkpoint and is not in the request"
                )));
            }
            None => {}
        }
    }
    let results = File::open(work).context("open the results")?;
    let task = CriuTask::Restore(RestorePlan {
        stage: stage.as_os_str().as_bytes().to_vec().into(),
        mounts,
        streams: given,
        results: Fd(FIRST_OWN),
        pid_file: PID_FILE.to_owned(),
    });
    let descriptors = vec![results.into()];
    let run = Run { verb: "restore", args, images, work, patience: PATIENCE, task, descriptors };
    let restored = criu.run(pod, container, run).await?;
    let pid = restored.ok_or_else(|| Error::internal("criu restored no process"))?;
    container.apply(shared, Event::Restored { pid })?;
    expected.check(shared, container, pid)
}
