//! Making room: what nobody needs goes, and the bytes it took are counted.

use std::collections::HashSet;
use std::sync::Arc;

use super::image::{self, Removal};
use super::standalone::record::{Record, State};
use super::standalone::{self, Removal as ContainerRemoval};
use super::stats::bytes_below;
use super::{Shared, actions};
use crate::error::{Kind, Result};
use crate::id::ContainerId;
use crate::image::Image;

/// Removes the standalone containers that rest and that `wanted` names: their ids, and the bytes
/// of their writable layers. Their volumes stay.
pub(super) async fn containers(
    shared: &Arc<Shared>,
    wanted: &(dyn Fn(&Record) -> bool + Send + Sync),
) -> Result<(Vec<ContainerId>, u64)> {
    let (mut removed, mut bytes) = (Vec::new(), 0);
    for container in shared.standalones.all() {
        let record = container.record();
        let rests = matches!(record.state, State::Created { .. } | State::Exited { .. });
        if !rests || !wanted(&record) {
            continue;
        }
        let size = writable_size(shared, &record.id).await;
        let removal = ContainerRemoval { is_forced: false, with_volumes: false };
        match standalone::remove(shared.clone(), container, removal).await {
            Ok(()) => {
                bytes += size;
                removed.push(record.id.clone());
            }
            // Somebody started it, or was faster.
            Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    shared.tell_of_pruning(actions::Kind::Container, bytes);
    Ok((removed, bytes))
}

/// Bytes that a container's writable layer takes on disk; 0 if it has none.
pub(super) async fn writable_size(shared: &Shared, id: &ContainerId) -> u64 {
    bytes_below(shared.layout.container_root(id).join("upper")).await
}

/// Removes the images that no container of either door has and that `wanted` names: what became of
/// each, and the bytes their layers took.
pub(super) async fn images(
    shared: &Arc<Shared>,
    wanted: &(dyn Fn(&Image) -> bool + Send + Sync),
) -> Result<(Vec<Removal>, u64)> {
    let before = shared.images.usage().bytes;
    let mut removed = Vec::new();
    for found in shared.images.list() {
        let id = found.id.to_string();
        if found.pinned || !wanted(&found) || users(shared).contains(&id) {
            continue;
        }
        match image::remove_name(shared, &found, &id, true).await {
            Ok(removal) => removed.push(removal),
            // Somebody began to use it, or was faster.
            Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    let bytes = before.saturating_sub(shared.images.usage().bytes);
    shared.tell_of_pruning(actions::Kind::Image, bytes);
    Ok((removed, bytes))
}

/// Ids of the images that containers of both doors were made from, or have as volumes.
fn users(shared: &Shared) -> HashSet<String> {
    let mut ids = HashSet::new();
    for container in shared.containers.all() {
        let record = container.record();
        ids.insert(record.image_id.clone());
        ids.extend(record.image_volumes.iter().map(|volume| volume.image_id.clone()));
    }
    ids.extend(shared.standalones.all().iter().map(|it| it.record().image_id.clone()));
    ids
}
