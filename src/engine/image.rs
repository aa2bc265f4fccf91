//! Images as the engine sees them: what is in use stays.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::layout::Layout;
use crate::config::Config;
use crate::error::Result;
use crate::image::registry::Settings as RegistrySettings;
use crate::image::{Credentials, ImageStore, LayerKey, Settings};

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
    Ok(id.to_string())
}

/// Succeeds on what is absent. Layers under a container stay until it is removed.
pub(super) async fn remove(shared: &Arc<Shared>, reference: &str) -> Result<()> {
    shared.images.remove(reference, layers_in_use(shared)).await
}

/// Layers that containers stand on.
pub(super) fn layers_in_use(shared: &Shared) -> HashSet<LayerKey> {
    let containers = shared.containers.all();
    let mut layers = HashSet::new();
    for container in containers {
        layers.extend(container.record().layers_in_use().cloned());
    }
    layers
}
