//! The first files of a volume: what the image has where it is mounted.
//!
//! They are copied beside the volume, and moved into it when they are whole. A daemon that is
//! killed in between leaves it empty, or its successor moves what is left.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, openat2};
use rustix::io::Errno;

use super::Volume;
use crate::engine::Shared;
use crate::engine::layout::{Layout, make_private};
use crate::error::{Context, Result};
use crate::image::{Held, copy_tree};

/// Fills an empty volume with the image's directory at `path`, whose owner and mode it gets.
/// Nothing happens if there is no such directory, or something in the volume.
pub(in crate::engine) async fn fill(
    shared: &Shared,
    volume: &Volume,
    image: &Held,
    path: &Path,
) -> Result<()> {
    let record = &volume.record;
    if !record.options.is_empty() {
        // A directory of the host: what is in it is somebody else's to say.
        return Ok(());
    }
    let context = || format!("fill volume {}", record.name);
    let _filling = volume.filling.lock().await;
    let Places { data, new, ready } = Places::of(&shared.layout, &record.name);
    if !is_empty(&data).with_context(context)? {
        return Ok(());
    }
    let root = shared.images.mount(&image.image, None, None)?;
    let Some(source) = open_below(&root, path).with_context(context)? else { return Ok(()) };
    make_private(&new)?;
    if let Err(error) = copy_tree(source, &new).await.with_context(context) {
        shared.layout.discard(&new)?;
        return Err(error);
    }
    fs::rename(&new, &ready).with_context(context)?;
    let (name, layout) = (record.name.clone(), shared.layout.clone());
    let moving = tokio::task::spawn_blocking(move || take_up(&layout, &name));
    moving.await.with_context(context)?.with_context(context)
}

struct Places {
    data: PathBuf,
    new: PathBuf,
    ready: PathBuf,
}

impl Places {
    fn of(layout: &Layout, name: &str) -> Self {
        let volume = layout.volume(name);
        Self {
            data: layout.volume_data(name),
            new: volume.join("_new"),
            ready: volume.join("_ready"),
        }
    }
}

/// Moves what is whole into the volume, and drops what is not.
pub(super) fn take_up(layout: &Layout, name: &str) -> Result<()> {
    let Places { data, new, ready } = Places::of(layout, name);
    layout.discard(&new)?;
    if !ready.exists() {
        return Ok(());
    }
    let root = fs::symlink_metadata(&ready).context("stat the copy")?;
    // The daemon's own directories: no link of anybody's leads here.
    rustix::fs::chown(&data, Some(Uid::from_raw(root.uid())), Some(Gid::from_raw(root.gid())))
        .context("chown the volume")?;
    rustix::fs::chmod(&data, Mode::from_raw_mode(root.mode())).context("chmod the volume")?;
    for entry in ready.read_dir().context("list the copy")? {
        let entry = entry.context("list the copy")?;
        let moved = rustix::fs::renameat_with(
            rustix::fs::CWD,
            entry.path(),
            rustix::fs::CWD,
            data.join(entry.file_name()),
            rustix::fs::RenameFlags::NOREPLACE,
        );
        match moved {
            // A container that has the volume was faster.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context("move the copy into the volume"),
        }
    }
    layout.discard(&ready)
}

fn is_empty(directory: &Path) -> io::Result<bool> {
    Ok(directory.read_dir()?.next().is_none())
}

/// Links are the image's: they lead nowhere but inside it.
fn open_below(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("open {} in the image", path.display())),
    }
}
