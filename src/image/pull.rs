//! Pulling: from a name to an image in the store.
//!
//! ```text
//!   resolve the name ▶ choose the platform ▶ configuration ▶ layers, several at a time ▶ commit
//!                                                             │
//!                                 present: leased ── or ── fetched: blob ▶ unpack ▶ staged
//! ```
//!
//! A pull is a task of its own: a waiter that goes away disturbs nobody, and the work goes on, so
//! that a client that tries again finds it further. Pulls of one name with the same credentials
//! are one pull; pulls of different images that need the same layer share its download, which is
//! broken off when the last of them has failed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Semaphore, mpsc, watch};

use super::config::ConfigDocument;
use super::digest::Digest;
use super::manifest::{Descriptor, Document, LayerBlob, Manifest};
use super::platform::Platform;
use super::progress::{LayerProgress, LayerState, Progress};
use super::reference::Reference;
pub(crate) use super::registry::auth::{CredentialFields, Credentials};
use super::registry::{self, Served, Session};
use super::store::{
    ImageId, ImageStore, LayerSource, NewImage, NewLayer, Staged, blocking, chain_id,
};
use super::unpack::{Blob, Limits, unpack};
use crate::error::{Context, Error, Kind, Result};

/// Pieces between the network and the inflating thread: enough to ride out a slow file.
const PIECES: usize = 64;
/// An index may point to another one; real ones do not go deeper.
const DEEPEST_INDEX: usize = 3;

/// A result that several waiters can have.
type Outcome<T> = Option<Result<T, (Kind, String)>>;

/// Layers that are fetched and unpacked at once, of all pulls: more would not be there earlier, only hold more memory and
/// threads.
const LAYERS_AT_ONCE: usize = 8;

/// What is being pulled now.
pub(super) struct Pulls {
    images: Mutex<HashMap<Key, ImagePull>>,
    layers: Mutex<HashMap<Digest, Weak<LayerPull>>>,
    places: Semaphore,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            images: Mutex::default(),
            layers: Mutex::default(),
            places: Semaphore::new(LAYERS_AT_ONCE),
        }
    }
}

/// What one pull is told from another by. Without a platform it is for this machine.
type Key = (Reference, Credentials, Option<Platform>);

#[derive(Clone)]
struct ImagePull {
    outcome: watch::Receiver<Outcome<ImageId>>,
    progress: Arc<Progress>,
}

/// One layer on its way; the work ends with the last holder.
struct LayerPull {
    outcome: watch::Receiver<Outcome<Arc<Staged>>>,
    task: tokio::task::AbortHandle,
}

impl Drop for LayerPull {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pulls {
    /// The pulls in progress and how far each is.
    pub(super) fn progress(&self) -> Vec<(Reference, Arc<Progress>)> {
        let images = lock(&self.images);
        images
            .iter()
            .map(|((reference, _, _), pull)| (reference.clone(), Arc::clone(&pull.progress)))
            .collect()
    }
}

/// Takes the pull out of the list however its task ends.
struct Listed {
    store: ImageStore,
    key: Key,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.store.shared.pulls.images).remove(&self.key);
    }
}

pub(super) async fn pull(
    store: &ImageStore,
    reference: &str,
    credentials: Credentials,
) -> Result<ImageId> {
    let reference = Reference::parse(reference)?;
    begin(store, (reference, credentials, None)).done().await
}

/// A pull that is under way.
pub(crate) struct Pull {
    reference: Reference,
    pull: ImagePull,
}

impl Pull {
    pub(crate) fn layers(&self) -> Vec<Arc<LayerProgress>> {
        self.pull.progress.layers()
    }

    /// The image's id, once it is there.
    pub(crate) async fn done(&self) -> Result<ImageId> {
        let reference = &self.reference;
        wait(self.pull.outcome.clone()).await.with_context(|| format!("pull image {reference}"))
    }
}

pub(super) fn begin(store: &ImageStore, key: Key) -> Pull {
    let reference = key.0.clone();
    Pull { reference, pull: join_or_start(store, key) }
}

fn join_or_start(store: &ImageStore, key: Key) -> ImagePull {
    let mut images = lock(&store.shared.pulls.images);
    if let Some(pull) = images.get(&key) {
        return pull.clone();
    }
    let (done, outcome) = watch::channel(None);
    let progress = Arc::new(Progress::default());
    let pull = ImagePull { outcome, progress: Arc::clone(&progress) };
    images.insert(key.clone(), pull.clone());
    let listed = Listed { store: store.clone(), key };
    tokio::spawn(async move {
        let result = Box::pin(fetch(&listed.store, &listed.key, &progress)).await;
        // Off the list first: who asks after the failure gets a new try.
        drop(listed);
        done.send_replace(Some(result.map_err(|error| (error.kind(), error.chain()))));
    });
    pull
}

async fn wait<T: Clone>(mut outcome: watch::Receiver<Outcome<T>>) -> Result<T> {
    let ended = outcome
        .wait_for(Option::is_some)
        .await
        .map_err(|_| Error::internal("the work ended without a result"))?;
    match &*ended {
        Some(Ok(value)) => Ok(value.clone()),
        Some(Err((kind, text))) => Err(Error::new(*kind, text.clone())),
        None => Err(Error::internal("the work ended without a result")),
    }
}

async fn fetch(
    store: &ImageStore,
    (reference, credentials, wanted): &Key,
    progress: &Arc<Progress>,
) -> Result<ImageId> {
    let session = Arc::new(store.shared.registry.session(reference, credentials)?);
    let top = session.resolve().await?;
    let resolved = top.digest.clone();
    let (manifest, served) = choose_manifest(&session, top, wanted.as_ref()).await?;
    if wanted.is_none()
        && let Some(id) = present(store, reference, &resolved, &served.digest)
    {
        return Ok(id);
    }
    check_config_type(&manifest.config)?;
    let config = session.document(&manifest.config, registry::Document::Blob).await?;
    let document = ConfigDocument::parse(&config.bytes)?;
    let platform = &document.config.platform;
    if !platform.os.is_empty() && platform.os != "linux" {
        let text = format!("the image is for {platform}, not for linux");
        return Err(Error::new(Kind::Unsupported, text));
    }
    if let Some(wanted) = wanted.as_ref().filter(|it| it.architecture != platform.architecture) {
        return Err(Error::not_found(format!("the image is for {platform}, not for {wanted}")));
    }
    if document.diff_ids.len() != manifest.layers.len() {
        return Err(Error::invalid(format!(
            "the manifest lists {} layers, the configuration {}",
            manifest.layers.len(),
            document.diff_ids.len()
        )));
    }
    let layers = fetch_layers(store, &session, &manifest, &document.diff_ids, progress).await?;
    let (layers, held): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
    let new = NewImage {
        // A digest in the reference decides; the tag beside it is only a remark of the writer.
        tags: match (reference.digest(), wanted) {
            (None, None) => reference.tagged_name().into_iter().collect(),
            (_, _) => Vec::new(),
        },
        // The name stands for what this machine runs; an image for another has that of its own manifest.
        digest: Some(reference.digested_name(match wanted {
            None => &resolved,
            Some(_) => &served.digest,
        })),
        manifest: (served.digest, served.bytes),
        config: (config.digest, config.bytes),
        values: document.config,
        annotations: manifest.annotations.clone(),
        layers,
        is_synced: true,
    };
    let committing = store.clone();
    let id = blocking(move || committing.shared.commit(&new)).await?;
    note_sources(store, reference, (&id, &manifest.layers, &document.diff_ids)).await;
    // Until here, so that another pull finds the layers either under way or in the store.
    drop(held);
    Ok(id)
}

/// A push to the same registry need not send these layers again.
async fn note_sources(
    store: &ImageStore,
    from: &Reference,
    (id, blobs, diff_ids): (&ImageId, &[Descriptor], &[Digest]),
) {
    let Some(image) = store.resolve(&id.to_string()) else { return };
    let blobs = blobs.iter().zip(diff_ids).map(|(descriptor, diff_id)| LayerBlob {
        descriptor: descriptor.clone(),
        diff_id: diff_id.clone(),
    });
    let sources = blobs.map(|blob| LayerSource::new(from, &blob));
    if let Err(error) = store.add_sources(image.layers.iter().cloned().zip(sources).collect()).await
    {
        tracing::warn!(error = error.chain(), "where layers are from is not noted");
    }
}

async fn choose_manifest(
    session: &Session,
    mut served: Served,
    wanted: Option<&Platform>,
) -> Result<(Manifest, Served)> {
    for _ in 0..=DEEPEST_INDEX {
        let entries = match Document::parse(&served.bytes, &served.media_type)? {
            Document::Manifest(manifest) => return Ok((manifest, served)),
            Document::Index(entries) => entries,
        };
        let wanted = wanted.cloned().unwrap_or_else(Platform::host);
        let entry = wanted
            .choose(&entries)
            .ok_or_else(|| Error::not_found(format!("the image is not there for {wanted}")))?;
        let mut below = session.document(entry, registry::Document::Manifest).await?;
        // What the index promised counts, not what the server calls it.
        if !entry.media_type.is_empty() {
            below.media_type.clone_from(&entry.media_type);
        }
        served = below;
    }
    Err(Error::invalid("the image's index is nested too deeply"))
}

/// The image, if nothing about it has changed.
fn present(
    store: &ImageStore,
    reference: &Reference,
    resolved: &Digest,
    manifest: &Digest,
) -> Option<ImageId> {
    let image = store.resolve(&reference.to_string())?;
    let is_same =
        image.manifest == *manifest && image.digests.contains(&reference.digested_name(resolved));
    is_same.then(|| image.id.clone())
}

fn check_config_type(config: &Descriptor) -> Result<()> {
    match config.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json"
        | "application/octet-stream"
        | "" => Ok(()),
        other => Err(Error::new(
            Kind::Unsupported,
            format!("this is not a container image: its configuration is of the type {other:?}"),
        )),
    }
}

/// The layers in order, each with what keeps its download shared.
async fn fetch_layers(
    store: &ImageStore,
    session: &Arc<Session>,
    manifest: &Manifest,
    diff_ids: &[Digest],
    progress: &Arc<Progress>,
) -> Result<Vec<(NewLayer, Option<Arc<LayerPull>>)>> {
    progress.begin(&manifest.layers);
    let mut chain: Option<Digest> = None;
    let mut wanted = Vec::with_capacity(diff_ids.len());
    let layers = manifest.layers.iter().zip(diff_ids).zip(progress.layers());
    for (index, ((descriptor, diff_id), progress)) in layers.enumerate() {
        let here = chain_id(chain.as_ref(), diff_id);
        let (descriptor, diff_id, chain_id) = (descriptor.clone(), diff_id.clone(), here.clone());
        wanted.push(Wanted { index, descriptor, diff_id, chain: chain_id, progress });
        chain = Some(here);
    }
    let fetching = wanted.into_iter().map(|layer| {
        let (store, session) = (store.clone(), Arc::clone(session));
        lease_or_fetch(store, session, layer)
    });
    let mut layers: Vec<_> = stream::iter(fetching)
        .buffer_unordered(store.shared.settings.parallel_layers.max(1))
        .try_collect()
        .await?;
    layers.sort_by_key(|(index, _, _)| *index);
    Ok(layers.into_iter().map(|(_, layer, held)| (layer, held)).collect())
}

/// A layer of the image that is being pulled.
struct Wanted {
    index: usize,
    descriptor: Descriptor,
    diff_id: Digest,
    chain: Digest,
    progress: Arc<LayerProgress>,
}

async fn lease_or_fetch(
    store: ImageStore,
    session: Arc<Session>,
    layer: Wanted,
) -> Result<(usize, NewLayer, Option<Arc<LayerPull>>)> {
    let Wanted { index, descriptor, diff_id, chain, progress } = layer;
    if let Some(lease) = store.shared.lease_layer(&diff_id, &chain) {
        progress.is_now(LayerState::Present);
        return Ok((index, NewLayer::Present(diff_id, lease), None));
    }
    progress.is_now(LayerState::Fetching);
    let (staged, held) = fetch_layer(&store, &session, &descriptor, &diff_id, &progress)
        .await
        .with_context(|| format!("layer {}", descriptor.digest))?;
    progress.is_now(LayerState::Done);
    Ok((index, NewLayer::Unpacked(staged), Some(held)))
}

async fn fetch_layer(
    store: &ImageStore,
    session: &Arc<Session>,
    descriptor: &Descriptor,
    diff_id: &Digest,
    progress: &Arc<LayerProgress>,
) -> Result<(Arc<Staged>, Arc<LayerPull>)> {
    loop {
        let (pull, is_own) = join_or_start_layer(store, session, descriptor, diff_id, progress);
        match wait(pull.outcome.clone()).await {
            Ok(staged) => return Ok((staged, pull)),
            // Somebody else's registry or credentials failed; ours may not.
            Err(_) if !is_own => {}
            Err(error) => return Err(error),
        }
    }
}

fn join_or_start_layer(
    store: &ImageStore,
    session: &Arc<Session>,
    descriptor: &Descriptor,
    diff_id: &Digest,
    progress: &Arc<LayerProgress>,
) -> (Arc<LayerPull>, bool) {
    let mut layers = lock(&store.shared.pulls.layers);
    let running = layers.get(diff_id).and_then(Weak::upgrade);
    if let Some(pull) = running
        && !matches!(&*pull.outcome.borrow(), Some(Err(_)))
    {
        return (pull, false);
    }
    let (done, outcome) = watch::channel(None);
    let work = {
        let (store, session) = (store.clone(), Arc::clone(session));
        let (descriptor, diff_id) = (descriptor.clone(), diff_id.clone());
        let progress = Arc::clone(progress);
        async move {
            let staged = Box::pin(stage_layer(&store, &session, &descriptor, &diff_id, &progress));
            let staged = staged.await.map(Arc::new);
            done.send_replace(Some(staged.map_err(|error| (error.kind(), error.chain()))));
        }
    };
    let pull = Arc::new(LayerPull { outcome, task: tokio::spawn(work).abort_handle() });
    layers.retain(|_, pull| pull.strong_count() > 0);
    layers.insert(diff_id.clone(), Arc::downgrade(&pull));
    (pull, true)
}

/// Fetches and unpacks at the same time.
async fn stage_layer(
    store: &ImageStore,
    session: &Session,
    descriptor: &Descriptor,
    diff_id: &Digest,
    progress: &LayerProgress,
) -> Result<Staged> {
    // Nobody closes it.
    let _place = store.shared.pulls.places.acquire().await.ok();
    let staging = Arc::new(store.shared.layers.stage()?);
    let (pieces, received) = mpsc::channel(PIECES);
    let fetching = async {
        let result = session.blob(descriptor, &pieces, &progress.received).await;
        // Tells the reader that nothing more comes.
        drop(pieces);
        result
    };
    let unpacking = unpack(Blob::new(received), &staging, diff_id, Limits::default());
    match tokio::join!(fetching, unpacking) {
        (Ok(()), Ok(unpacked)) => Ok(Staged::new(staging, unpacked)),
        (Ok(()), Err(error)) => Err(error),
        // The reader stopped first, so its error is the cause.
        (Err(error), Err(cause)) if error.kind() == Kind::Cancelled => Err(cause),
        (Err(error), _) => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are right after every single change, so a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
