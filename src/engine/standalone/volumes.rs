//! The volumes of a standalone container: made and filled before it is, and removed with it when
//! nobody gave them a name.

use std::collections::HashSet;

use super::record::Record;
use crate::engine::Shared;
use crate::engine::container::config::{Mount, MountSource};
use crate::engine::volume::{self, Claim};
use crate::error::{Kind, Result};
use crate::image::Held;

/// Volumes that are about to be a container's.
#[derive(Default)]
pub(super) struct Made {
    claims: Vec<Claim>,
    /// Names of those that were not there before.
    new: Vec<String>,
}

impl Made {
    /// The container came to nothing.
    pub(super) async fn take_back(self, shared: &Shared) {
        let Self { claims, new } = self;
        drop(claims);
        for name in new {
            if let Err(error) = volume::remove_unclaimed(shared, &name, None).await {
                tracing::warn!(volume = name, error = error.chain(), "take back a new volume");
            }
        }
    }
}

/// Makes what is missing, and fills what is empty from the image. Names that are missing in the
/// mounts are written into them.
pub(super) async fn make(shared: &Shared, image: &Held, mounts: &mut [Mount]) -> Result<Made> {
    let mut made = Made::default();
    match make_all(shared, image, mounts, &mut made).await {
        Ok(()) => Ok(made),
        Err(error) => {
            made.take_back(shared).await;
            Err(error)
        }
    }
}

async fn make_all(
    shared: &Shared,
    image: &Held,
    mounts: &mut [Mount],
    made: &mut Made,
) -> Result<()> {
    for mount in mounts {
        let MountSource::Volume(request) = &mut mount.source else { continue };
        let wanted = volume::Request {
            name: request.name.clone(),
            labels: request.labels.clone(),
            options: request.options.clone(),
        };
        let (claim, is_new) = volume::ensure(shared, wanted).await?;
        request.name.clone_from(&claim.volume.record.name);
        if is_new {
            made.new.push(request.name.clone());
        }
        let volume = claim.volume.clone();
        made.claims.push(claim);
        if !request.is_not_filled {
            volume::fill(shared, &volume, image, &mount.container_path).await?;
        }
    }
    Ok(())
}

/// Those that another container has as well stay.
pub(super) async fn remove_anonymous(shared: &Shared, record: &Record) -> Result<()> {
    let names: HashSet<&str> = record.config.container.volumes().collect();
    for name in names {
        let is_anonymous = shared.volumes.find(name).is_ok_and(|volume| volume.record.is_anonymous);
        if !is_anonymous {
            continue;
        }
        match volume::remove_unclaimed(shared, name, Some(&record.id)).await {
            Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
            other => other?,
        }
    }
    Ok(())
}
