//! Volumes: the files of other images in a container, read-only, and those of the engine's volumes.
//!
//! Either is mounted whole, detached; a path inside it is checked here and copied out by the
//! container's own init. What goes wrong with an image begins with the word by which kubelet
//! knows it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use serde_bytes::ByteBuf;

use super::config::{Config, MountSource, VolumeRequest};
use super::record::ImageVolume;
use crate::engine::plan::Volume;
use crate::engine::{Shared, volume};
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::TargetKind;
use crate::image::{Held, Owners};

/// The prefix that the interface gives such errors.
const FAILED: &str = "ImageVolumeMountFailed";

/// The volumes of one container.
#[derive(Default)]
pub(super) struct Volumes {
    pub(super) mounts: Vec<Volume>,
    pub(super) records: Vec<ImageVolume>,
    /// Keeps their layers until the container's record does.
    pub(super) held: Vec<Held>,
}

/// Mounts what the request's mounts name.
pub(super) fn open(
    shared: &Shared,
    config: &Config,
    owners: Option<Owners<'_>>,
) -> Result<Volumes> {
    let mut volumes = Volumes::default();
    for (index, mount) in config.mounts.iter().enumerate() {
        let (image, sub_path) = match &mount.source {
            MountSource::Image { image, sub_path, user_specified_image: _ } => (image, sub_path),
            MountSource::Volume(request) => {
                let target = mount.container_path.clone();
                volumes.mounts.push(of_engine(shared, target, request)?);
                continue;
            }
            MountSource::Host(_) | MountSource::Tmpfs => continue,
        };
        let named = format!("{FAILED}: mounts[{index}]");
        let held = shared.images.hold(image).ok_or_else(|| {
            Error::not_found(format!("{named}.image: {image:?} is not present: pull it first"))
        })?;
        let tree = shared.images.mount(&held.image, None, owners).context(named.as_str())?;
        let path = sub_path.trim_end_matches('/');
        let kind = kind_of(&tree, path).context(format!("{named}.image_sub_path"))?;
        volumes.mounts.push(Volume {
            target: mount.container_path.clone(),
            tree,
            part: (!path.is_empty()).then(|| ByteBuf::from(path)),
            kind,
        });
        volumes.records.push(ImageVolume {
            container_path: mount.container_path.clone(),
            image_id: held.image.id.to_string(),
            layers: held.image.layers.clone(),
        });
        volumes.held.push(held);
    }
    Ok(volumes)
}

fn of_engine(shared: &Shared, target: PathBuf, request: &VolumeRequest) -> Result<Volume> {
    let VolumeRequest { name, sub_path, .. } = request;
    let tree = volume::open(shared, name)?;
    let path = sub_path.trim_matches('/');
    let kind = kind_of(&tree, path).with_context(|| format!("sub-path of volume {name}"))?;
    let part = (!path.is_empty()).then(|| ByteBuf::from(path));
    Ok(Volume { target, tree, part, kind })
}

/// Links are the tree's: they lead nowhere but inside it.
fn kind_of(tree: &OwnedFd, path: &str) -> Result<TargetKind> {
    if path.is_empty() {
        return Ok(TargetKind::Directory);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(tree.as_fd(), path, flags, Mode::empty(), resolve)
        .with_context(|| format!("{path:?} in it"))
        .kind(Kind::InvalidArgument)?;
    let found = statx(&found, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE).context("stat")?;
    let found = FileType::from_raw_mode(found.stx_mode.into());
    if found.is_dir() {
        Ok(TargetKind::Directory)
    } else if found.is_file() {
        Ok(TargetKind::File)
    } else {
        Err(Error::invalid(format!("{path:?} is neither a directory nor a file")))
    }
}
