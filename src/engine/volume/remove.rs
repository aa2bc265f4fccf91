//! Removing volumes: files first, then the record.

use std::sync::Arc;

use super::Volume;
use crate::engine::stats::bytes_below;
use crate::engine::{Shared, actions, operation};
use crate::error::{Error, Kind, Result};
use crate::id::ContainerId;

/// Ids of the containers that have the volume.
pub(crate) fn users(shared: &Shared, name: &str) -> Vec<ContainerId> {
    let all = shared.standalones.all().into_iter().map(|container| container.record());
    let has = |record: &crate::engine::standalone::record::Record| {
        record.config.container.volumes().any(|volume| volume == name)
    };
    all.filter(|record| has(record)).map(|record| record.id.clone()).collect()
}

/// # Errors
/// In Docker's words: `NotFound`, and `WrongState` while a container has it.
pub(crate) async fn remove(shared: Arc<Shared>, name: &str) -> Result<()> {
    let name = name.to_owned();
    operation::run(async move { remove_unclaimed(&shared, &name, None).await }).await
}

/// As [`remove`], for a caller that runs to its end. The container `except` is about to go.
pub(in crate::engine) async fn remove_unclaimed(
    shared: &Shared,
    name: &str,
    except: Option<&ContainerId>,
) -> Result<()> {
    use std::sync::atomic::Ordering;

    let _changes = shared.volumes.changes.lock().await;
    let volume = shared.volumes.find(name)?;
    let mut users = users(shared, name);
    users.retain(|user| Some(user) != except);
    if !users.is_empty() || volume.claims.load(Ordering::SeqCst) > 0 {
        let users: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
        return Err(Error::wrong_state(format!(
            "remove {name}: volume is in use - [{}]",
            users.join(", ")
        )));
    }
    shared.layout.discard(&shared.layout.volume(name))?;
    shared.volume_records.remove(name)?;
    shared.volumes.forget(name);
    shared.tell_of_volume("destroy", name, &[]);
    Ok(())
}

/// Removes those that nobody has and `wanted` names: their names, and the bytes they took.
pub(crate) async fn prune(
    shared: Arc<Shared>,
    wanted: impl Fn(&Volume) -> bool + Send + 'static,
) -> Result<(Vec<String>, u64)> {
    operation::run(async move {
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for volume in shared.volumes.all() {
            let name = &volume.record.name;
            if !wanted(&volume) || !users(&shared, name).is_empty() {
                continue;
            }
            let size = size(&shared, name).await;
            match remove_unclaimed(&shared, name, None).await {
                Ok(()) => {
                    bytes += size;
                    removed.push(name.clone());
                }
                // Somebody took it, or was faster.
                Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        shared.tell_of_pruning(actions::Kind::Volume, bytes);
        Ok((removed, bytes))
    })
    .await
}

/// Bytes on disk; of what stands for a directory of the host, none.
pub(in crate::engine) async fn size(shared: &Shared, name: &str) -> u64 {
    bytes_below(shared.layout.volume_data(name)).await
}
