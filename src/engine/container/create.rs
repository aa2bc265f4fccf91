//! CreateContainer: everything but the `execve`.
//!
//! ```text
//! record ─ writable layer ─ overlay ─ spec ─ plugins ─ plan ─ binds ─ cgroup ─ log ─ init that waits
//! ```
//!
//! The record comes first, so that whatever a killed daemon leaves behind has a name the next one
//! finds. What the image and the host's paths are is decided here, once, as descriptors.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::config::Config;
use super::owners::PodOwners;
use super::phase::Phase;
use super::record::{ImageVolume, Record};
use super::volumes::Volumes;
use super::{Container, log, owners, signal, volumes};
use crate::cgroup;
use crate::engine::clock::now;
use crate::engine::events::Change;
use crate::engine::pod::phase::Phase as PodPhase;
use crate::engine::pod::{Pod, files, update};
use crate::engine::undo::Undo;
use crate::engine::{ContainerKey, Rendering, Shared, cdi, nri, plan, spec};
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::{ContainerPlan, Stdin};
use crate::id::ContainerId;
use crate::image::{Held, Image, Life, Writable};
use crate::monitor::protocol::{Reply, Request};
use crate::nri::Steady;

/// Makes the container, or finds the one that an earlier call with the same key made.
pub(crate) async fn create(shared: Arc<Shared>, pod: &str, config: Config) -> Result<ContainerId> {
    let pod = shared.pods.find(pod)?;
    let key =
        ContainerKey { pod: pod.id.clone(), name: config.name.clone(), attempt: config.attempt };
    let config = Arc::new(config);
    let work = {
        let shared = shared.clone();
        let key = key.clone();
        move || async move {
            // Before the lock, and never under it: Stop waits for that lock, and must not queue.
            let _entered = shared.gate.enter().await;
            let _mutation = pod.mutation.lock().await;
            make_or_find(&shared, &pod, &key, config).await
        }
    };
    shared.container_flights.join(key, work).await
}

/// Makes a container whose writable layer begins as that of an archive. For a caller that holds the
/// pod's mutation lock and made the pod: nobody else can have made the container.
pub(in crate::engine) async fn create_from_diff(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    config: Arc<Config>,
    diff: &Path,
) -> Result<Arc<Container>> {
    let held = hold_image(shared, &config)?;
    let id = make(shared, pod, config, (&held.image, Beginning::Archive(diff))).await?;
    shared.containers.find(id.as_str())
}

/// Makes a container on files that the caller has mounted. `image` says what it stands for; nobody
/// looks for its layers. For the caller that made the pod: nobody else knows of it.
pub(in crate::engine) async fn create_mounted(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    config: Arc<Config>,
    (image, mounted): (&Image, Mounted),
) -> Result<Arc<Container>> {
    let _entered = shared.gate.enter().await;
    let _mutation = pod.mutation.lock().await;
    let id = make(shared, pod, config, (image, Beginning::Mounted(mounted))).await?;
    shared.containers.find(id.as_str())
}

/// Files that are mounted already, detached.
pub(in crate::engine) struct Mounted {
    pub(in crate::engine) rootfs: OwnedFd,
    /// One for each mount of the request that is a volume.
    pub(in crate::engine) volumes: Vec<plan::Volume>,
}

/// What a container's root file system begins as.
enum Beginning<'a> {
    Image,
    /// The image, and a writable layer that is not empty.
    Archive(&'a Path),
    Mounted(Mounted),
}

async fn make_or_find(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    key: &ContainerKey,
    config: Arc<Config>,
) -> Result<ContainerId> {
    if let Some(found) = shared.containers.with_key(key) {
        if found.record().config == config {
            return Ok(found.id.clone());
        }
        return Err(Error::new(
            Kind::AlreadyExists,
            format!(
                "container {} attempt {} exists already in this pod sandbox as {}",
                key.name, key.attempt, found.id
            ),
        ));
    }
    if pod.record().phase != PodPhase::Ready {
        return Err(Error::wrong_state(format!("pod sandbox {} is not ready", pod.id.short())));
    }
    let held = hold_image(shared, &config)?;
    make(shared, pod, config, (&held.image, Beginning::Image)).await
}

/// Until the container's record keeps the layers itself.
fn hold_image(shared: &Shared, config: &Config) -> Result<Held> {
    shared.images.hold(&config.image).ok_or_else(|| {
        Error::not_found(format!("image {:?} is not present: pull it first", config.image))
    })
}

async fn make(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    config: Arc<Config>,
    (image, beginning): (&Image, Beginning<'_>),
) -> Result<ContainerId> {
    let id = config.standalone.clone().map_or_else(ContainerId::generate, Ok)?;
    let mut undo = Undo::default();
    let place = Place { shared, pod, id: &id };
    let owners = match &beginning {
        Beginning::Image | Beginning::Archive(_) => PodOwners::open(pod).await?,
        // Who mounted it has seen to them.
        Beginning::Mounted(_) => None,
    };
    let of_files = owners.as_ref().map(PodOwners::of_files);
    let Volumes { mounts, records, held: _until_the_end } = match &beginning {
        Beginning::Image | Beginning::Archive(_) => volumes::open(shared, &config, of_files)?,
        Beginning::Mounted(_) => Volumes::default(),
    };
    let files = Files {
        image,
        beginning,
        owners: owners.as_ref(),
        volumes: mounts,
        volume_records: records,
    };
    match assemble(place, config, files, &mut undo).await {
        Ok((container, steady)) => {
            undo.forget();
            let container = Arc::new(container);
            shared.containers.insert(id.as_str(), container.clone());
            shared.container_changed(Change::Created, &container);
            drop(steady);
            nri::container_created(shared, &container).await;
            Ok(id)
        }
        Err(error) => Err(undo.run(error).await),
    }
}

/// What is made where, and under which name.
#[derive(Clone, Copy)]
struct Place<'a> {
    shared: &'a Arc<Shared>,
    pod: &'a Arc<Pod>,
    id: &'a ContainerId,
}

/// What the container's file system is made of.
struct Files<'a> {
    image: &'a Image,
    beginning: Beginning<'a>,
    /// `None`: the files belong to the host's users.
    owners: Option<&'a PodOwners>,
    volumes: Vec<plan::Volume>,
    volume_records: Vec<ImageVolume>,
}

async fn assemble(
    Place { shared, pod, id }: Place<'_>,
    config: Arc<Config>,
    Files { image, beginning, owners, mut volumes, volume_records }: Files<'_>,
    undo: &mut Undo,
) -> Result<(Container, Steady)> {
    let pod_record = pod.record();
    let log_path =
        log::path(pod_record.config.log_directory.as_deref(), config.log_path.as_deref())?;

    let here = Place { shared, pod, id };
    let rootfs = match beginning {
        Beginning::Image => mount_rootfs(here, &config, (image, None, owners), undo).await?,
        Beginning::Archive(diff) => {
            mount_rootfs(here, &config, (image, Some(diff), owners), undo).await?
        }
        Beginning::Mounted(mounted) => {
            volumes = mounted.volumes;
            mounted.rootfs
        }
    };
    let cdi = cdi::edits(&shared.config.cdi.spec_dirs, &config)?;
    let mut bundle = spec::build(&spec::Input {
        pod: &pod_record.config,
        config: &config,
        image: &image.config,
        rootfs: rootfs.as_fd(),
        files: &files::for_containers(&shared.layout.pod(&pod.id)),
        host: &shared.host,
        filters: &shared.filters,
        cdi: &cdi,
    })?;
    let steady = shared.nri.steady().await;
    let making = nri::InTheMaking { pod: &pod_record, id, config: &config, image };
    let others = nri::container_specified(shared, making, &mut bundle, undo).await?;
    let choices =
        plan::Choices { stdin: stdin(&config), hierarchies: shared.cgroups.legacy_names() };
    let draft = plan::draft(&bundle, &choices)?;
    let group = make_cgroup(shared, pod, id, &bundle, undo)?;
    let log = log_path.as_deref().map(log::open).transpose()?;
    let bind_owners = owners::open_all(pod, draft.owners()).await?;
    let parts = plan::Parts { rootfs, owners: bind_owners, volumes, cgroup: group.join()?, log };
    let (plan, descriptors) = draft.complete(parts)?;

    shared.keep_process(id, &plan.process)?;
    undo.push("remove the exec template", {
        let (shared, id) = (shared.clone(), id.clone());
        async move { shared.remove_process(&id) }
    });
    let user = plan.process.user.clone();
    let pid = ask_monitor(pod, id, plan, descriptors).await?;
    undo.push("delete the container from its monitor", delete(pod.clone(), id.clone()));
    group.release_holder()?;
    // Last, because it cannot be taken back.
    others.make(shared).await?;

    let record = Record {
        id: id.clone(),
        pod: pod.id.clone(),
        image_id: image.id.to_string(),
        image_ref: image.digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
        image_name: image.name_like(&config.user_specified_image),
        layers: image.layers.clone(),
        image_volumes: volume_records,
        created_at: now(),
        phase: Phase::Created { pid },
        log_path,
        resources: bundle.resources,
        user,
        stop_signal: stop_signal(&config, image),
        cgroup: group.record().clone(),
        config,
        rendering: Rendering::default(),
    };
    shared.container_records.put(id.as_str(), &record)?;
    shared.making.remove(id.as_str())?;
    Ok((Container::new(record), steady))
}

async fn mount_rootfs(
    Place { shared, pod: _, id }: Place<'_>,
    config: &Config,
    (image, diff, owners): (&Image, Option<&Path>, Option<&PodOwners>),
    undo: &mut Undo,
) -> Result<OwnedFd> {
    let (upper, work) = shared.layout.make_container_root(id)?;
    // A standalone container's goes with the container, not with a run of it.
    if config.standalone.is_none() {
        undo.push("discard the writable layer", {
            let (shared, id) = (shared.clone(), id.clone());
            async move { shared.layout.discard(&shared.layout.container_root(&id)) }
        });
    }
    if let Some(diff) = diff {
        let archive = File::open(diff).context("open the writable layer's archive")?;
        crate::image::unpack_archive(archive, &upper).await.context("fill the writable layer")?;
    }
    let life = if shared.is_kept(config) { Life::Long } else { Life::Short };
    let writable = Writable { upper: &upper, work: &work, life };
    let owners = owners.map(PodOwners::of_files);
    shared.images.mount(image, Some(writable), owners).context("mount the image")
}

fn make_cgroup(
    shared: &Arc<Shared>,
    pod: &Pod,
    id: &ContainerId,
    bundle: &spec::Bundle,
    undo: &mut Undo,
) -> Result<cgroup::Cgroup> {
    let parent = pod.record().cgroup.path.clone();
    // A killed daemon's successor finds the group by this note.
    let holder = pod.record().monitor_pid.and_then(rustix::process::Pid::from_raw);
    let planned = cgroup::Record::planned(&parent, id.as_str(), holder)?;
    shared.making.put(id.as_str(), &planned)?;
    undo.push("forget the cgroup", {
        let (shared, id) = (shared.clone(), id.clone());
        async move { shared.making.remove(id.as_str()) }
    });
    let group = shared
        .cgroups
        .create(&cgroup::Request {
            parent: &parent,
            name: id.as_str(),
            resources: &bundle.resources,
            devices: bundle.devices.as_deref(),
            holder,
        })
        .context("make the cgroup")?;
    undo.push("remove the cgroup", {
        let (shared, record) = (shared.clone(), group.record().clone());
        async move { shared.cgroups.open(&record)?.remove() }
    });
    // The pod's own group may have come with its first container.
    if let Some(limits) = &pod.record().limits {
        update::apply(shared, pod, limits).context("limit the pod")?;
    }
    Ok(group)
}

fn stdin(config: &Config) -> Stdin {
    match (config.stdin, config.stdin_once) {
        (false, _) => Stdin::Closed,
        (true, false) => Stdin::Open,
        (true, true) => Stdin::Once,
    }
}

/// The request's, the image's, or SIGTERM; an image's that means nothing counts as none.
fn stop_signal(config: &Config, image: &Image) -> i32 {
    let of_image = || image.config.stop_signal.as_deref().and_then(signal::parse);
    config.stop_signal.or_else(of_image).unwrap_or(libc::SIGTERM)
}

async fn ask_monitor(
    pod: &Pod,
    id: &ContainerId,
    plan: ContainerPlan,
    descriptors: Vec<OwnedFd>,
) -> Result<i32> {
    let request = Request::Create { container: id.clone(), plan: Box::new(plan) };
    let (reply, _) = pod
        .monitor()?
        .call(request, descriptors)
        .await
        .with_context(|| format!("create container {}", id.short()))?;
    let Reply::Created { pid } = reply else {
        return Err(Error::internal(format!("the monitor answered {reply:?} to Create")));
    };
    Ok(pid)
}

async fn delete(pod: Arc<Pod>, id: ContainerId) -> Result<()> {
    pod.monitor()?.call(Request::Delete { container: id }, Vec::new()).await.map(drop)
}
