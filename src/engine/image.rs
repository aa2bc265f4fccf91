//! Images as the engine sees them: what is in use stays.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::actions::ImageAct;
use super::layout::Layout;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::registry::Settings as RegistrySettings;
use crate::image::{Credentials, Image, ImageStore, LayerKey, Settings, chain_id};

pub(super) fn open_store(config: &Config, layout: &Layout) -> Result<ImageStore> {
    let patience = Duration::from_secs(config.registry.patience_secs);
    let registry = RegistrySettings {
        hosts_directories: vec![config.registry.config_path.clone()],
        response_timeout: patience,
        stall_time: patience,
        stall_bytes: config.registry.patience_secs << 10,
        ..RegistrySettings::default()
    };
    let settings =
        Settings { registry, pinned: config.images.pinned.clone(), ..Settings::default() };
    ImageStore::open(&layout.root().join("images"), settings)
}

/// The id of the pulled image. The pull goes on for others when its caller hangs up.
pub(super) async fn pull(
    shared: &Arc<Shared>,
    reference: &str,
    credentials: Credentials,
) -> Result<String> {
    let id = shared.images.pull(reference, credentials).await?;
    shared.tell_of_image(&id, ImageAct::Pull(&Reference::parse(reference)?));
    Ok(id.to_string())
}

/// Succeeds on what is absent. Layers under a container stay until it is removed.
///
/// # Errors
/// `WrongState` for the image of a standalone container, which is started from it again.
pub(super) async fn remove(shared: &Arc<Shared>, reference: &str) -> Result<()> {
    let found = shared.images.resolve(reference);
    if let Some(image) = &found {
        check_unused(shared, image, None, false)?;
    }
    shared.images.remove(reference, layer_users(shared)).await?;
    if let Some(image) = &found {
        tell_removal(shared, image, image.tags.len(), shared.images.resolve(reference).is_none());
    }
    Ok(())
}

/// Names are taken away first, and with the last the image goes.
fn tell_removal(shared: &Shared, image: &Image, untagged: usize, is_gone: bool) {
    for _ in 0..untagged {
        shared.tell_of_held_image(image, ImageAct::Plain("untag"));
    }
    if is_gone {
        shared.tell_of_held_image(image, ImageAct::Plain("delete"));
    }
}

/// What became of an image that was to be removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Names that were taken away.
    pub(crate) untagged: Vec<String>,
    /// The image, and its layers' chain from the newest down, if it went.
    pub(crate) deleted: Vec<String>,
}

/// Takes the name away; with its last name the image goes. Named by its id, it goes at once.
///
/// # Errors
/// `WrongState` in Docker's words for an image that a container needs, and for one of several
/// repositories that is named by its id and not forced.
pub(super) async fn remove_name(
    shared: &Arc<Shared>,
    image: &Image,
    text: &str,
    force: bool,
) -> Result<Removal> {
    let name = Reference::parse(text).ok().filter(|name| {
        let known = name.tagged_name().is_some_and(|tag| image.tags.contains(&tag));
        let digest = name.digest().map(|digest| name.digested_name(digest));
        known || digest.is_some_and(|digest| image.digests.contains(&digest))
    });
    let short = image.id.hex().get(..12).unwrap_or_default();
    let is_named = name.is_some();
    match name {
        Some(name) if image.tags.len() + usize::from(name.digest().is_some()) > 1 => {
            let untagged = name.digest().map(|digest| name.digested_name(digest));
            let untagged = untagged.or_else(|| name.tagged_name()).into_iter().collect();
            shared.images.untag(name).await?;
            tell_removal(shared, image, 1, false);
            return Ok(Removal { untagged, deleted: Vec::new() });
        }
        Some(_) => {}
        None if repositories(image).len() > 1 && !force => {
            return Err(Error::wrong_state(format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in \
                 multiple repositories"
            )));
        }
        None => {}
    }
    check_unused(shared, image, is_named.then_some(text), force)?;
    let layers = shared.images.layer_sizes(image);
    shared.images.remove(&image.id.to_string(), layer_users(shared)).await?;
    let mut deleted: Vec<String> = chain(layers.iter().map(|(diff_id, _)| diff_id)).collect();
    deleted.push(image.id.to_string());
    deleted.reverse();
    let untagged: Vec<String> = image.tags.iter().chain(&image.digests).cloned().collect();
    tell_removal(shared, image, untagged.len(), true);
    Ok(Removal { untagged, deleted })
}

/// # Errors
/// `WrongState` in Docker's words when a standalone container has the image: one that runs keeps
/// it, one that does not gives way to force.
fn check_unused(shared: &Shared, image: &Image, name: Option<&str>, force: bool) -> Result<()> {
    let id = image.id.to_string();
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    for container in shared.standalones.all() {
        let record = container.record();
        if record.image_id != id || (force && record.run().is_none()) {
            continue;
        }
        let (image, container) = (short(image.id.hex()), short(record.id.as_str()));
        return Err(Error::wrong_state(match (name, record.run()) {
            (Some(name), None) => format!(
                "conflict: unable to remove repository reference {name:?} (must force) - \
                 container {container} is using its referenced image {image}"
            ),
            (None, None) => format!(
                "conflict: unable to delete {image} (must be forced) - image is being used by \
                 stopped container {container}"
            ),
            (_, Some(_)) => format!(
                "conflict: unable to delete {image} (cannot be forced) - image is being used by \
                 running container {container}"
            ),
        }));
    }
    Ok(())
}

fn repositories(image: &Image) -> HashSet<String> {
    let names = image.tags.iter().chain(&image.digests);
    names.filter_map(|name| Reference::parse(name).ok()).map(|name| name.name()).collect()
}

/// The names of the stacks that end in each layer, the base first.
fn chain<'a>(layers: impl Iterator<Item = &'a Digest>) -> impl Iterator<Item = String> {
    layers.scan(None, |below: &mut Option<Digest>, diff_id| {
        let here = chain_id(below.as_ref(), diff_id);
        *below = Some(here.clone());
        Some(here.to_string())
    })
}

/// Layers that containers stand on.
pub(super) fn layers_in_use(shared: &Shared) -> HashSet<LayerKey> {
    let containers = shared.containers.all();
    let mut layers = HashSet::new();
    for container in containers {
        layers.extend(container.record().layers_in_use().cloned());
    }
    for container in shared.standalones.all() {
        layers.extend(container.record().layers.iter().cloned());
    }
    layers
}

/// The same, for who asks when nobody changes the store.
pub(super) fn layer_users(
    shared: &Arc<Shared>,
) -> impl FnOnce() -> HashSet<LayerKey> + Send + 'static {
    let shared = shared.clone();
    move || layers_in_use(&shared)
}
