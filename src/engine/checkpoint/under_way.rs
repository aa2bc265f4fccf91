//! What is under way, on disk before it begins: so that a killed daemon's successor thaws what was
//! frozen, and takes back what was half made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{Shared, pod};
use crate::error::{Context, Result};
use crate::id::{ContainerId, PodId};

/// One per pod: each holds the pod's lock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum UnderWay {
    Checkpoint {
        containers: Vec<ContainerId>,
        /// Files and directories that are no good half written.
        remove: Vec<PathBuf>,
        /// A directory that was empty.
        empty: Option<PathBuf>,
    },
    Restore,
}

/// After the pods are taken up. What cannot be taken back is logged, and tried by the next daemon.
pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<()> {
    for (key, what) in shared.checkpoints.scan()? {
        let id = PodId::parse(&key)?;
        match take_back(shared, &id, what).await {
            Ok(()) => shared.checkpoints.remove(&key)?,
            Err(error) => {
                tracing::error!(pod = %id, error = error.chain(), "take back a checkpoint");
            }
        }
    }
    Ok(())
}

async fn take_back(shared: &Arc<Shared>, pod: &PodId, what: UnderWay) -> Result<()> {
    match what {
        UnderWay::Checkpoint { containers, remove, empty } => {
            for id in containers {
                let Ok(container) = shared.containers.find(id.as_str()) else { continue };
                let group = shared.cgroups.open(&container.record().cgroup)?;
                if group.exists() {
                    group.thaw()?;
                }
            }
            remove.iter().try_for_each(|path| remove_tree(path))?;
            empty.iter().try_for_each(|path| clear(path))
        }
        UnderWay::Restore => pod::remove::remove(shared.clone(), pod.as_str()).await,
    }
}

/// Succeeds on what is gone.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what is in a directory.
pub(super) fn clear(directory: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("list {}", directory.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", directory.display()))?;
        remove_tree(&entry.path())?;
    }
    Ok(())
}
