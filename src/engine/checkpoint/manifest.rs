//! What a checkpoint of a pod says of itself. It only ever refuses a restore: what the restored pod
//! is, the request says.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::criu::is_component;
use super::{DESCRIPTORS, DIFF, IMAGES, SHM};
use crate::engine::container::Container;
use crate::engine::pod::record::Record;
use crate::error::{Context, Error, Kind, Result};

pub(super) const FILE: &str = "checkpoint.json";
const VERSION: u32 = 1;
/// The files that are read whole are far smaller.
const LARGEST: u64 = 1 << 20;
/// Anybody but the owner may write.
const WRITABLE: u32 = 0o022;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    pod: String,
    namespace: String,
    pub(super) containers: Vec<Dumped>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dumped {
    pub(super) name: String,
    /// The id of the image it ran.
    pub(super) image: String,
}

impl Manifest {
    pub(super) fn of(pod: &Record, containers: &[Arc<Container>]) -> Self {
        let dumped = |container: &Arc<Container>| {
            let record = container.record();
            Dumped { name: record.config.name.clone(), image: record.image_id.clone() }
        };
        Self {
            version: VERSION,
            pod: pod.config.name.clone(),
            namespace: pod.config.namespace.clone(),
            containers: containers.iter().map(dumped).collect(),
        }
    }

    /// Reads and looks over a whole checkpoint.
    ///
    /// # Errors
    /// `NotFound` when there is none; `InvalidArgument` for one that nobody but root can have
    /// written, and that may hold other things than files.
    pub(super) fn read(checkpoint: &Path) -> Result<Self> {
        check_directory(checkpoint)?;
        let manifest: Self = read_json(&checkpoint.join(FILE))?;
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(Error::invalid(format!("the checkpoint has version {version}")));
        }
        for Dumped { name, .. } in &manifest.containers {
            if !is_component(name) {
                return Err(Error::invalid(format!("{name:?} is not a container's name")));
            }
            let directory = checkpoint.join(name);
            check_directory(&directory)?;
            check_file(&directory.join(DIFF))?;
            let images = directory.join(IMAGES);
            check_directory(&images)?;
            for entry in images.read_dir().context("list the images")? {
                check_file(&entry.context("list the images")?.path())?;
            }
        }
        match checkpoint.join(SHM) {
            shm if shm.symlink_metadata().is_ok() => check_file(&shm)?,
            _ => {}
        }
        Ok(manifest)
    }
}

/// Where the standard streams led: the number of each that was a pipe.
pub(super) fn pipes(images: &Path) -> Result<[Option<String>; 3]> {
    let streams: [String; 3] = read_json(&images.join(DESCRIPTORS))?;
    let pipe = |stream: String| {
        let digits = stream.strip_prefix("pipe:[")?.strip_suffix(']')?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(stream)
    };
    Ok(streams.map(pipe))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    check_file(path)?;
    let show = || format!("read {}", path.display());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).with_context(show)?);
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).with_context(show)?;
    serde_json::from_slice(&text).with_context(show).kind(Kind::InvalidArgument)
}

fn check_directory(path: &Path) -> Result<()> {
    check(path, std::fs::Metadata::is_dir, "a directory")
}

fn check_file(path: &Path) -> Result<()> {
    check(path, std::fs::Metadata::is_file, "a regular file")
}

/// CRIU believes its images: they must be such as only root can have written.
fn check(path: &Path, is_right: fn(&std::fs::Metadata) -> bool, kind: &str) -> Result<()> {
    let shown = PathBuf::from(path);
    let shown = shown.display();
    let found = path
        .symlink_metadata()
        .with_context(|| format!("checkpoint_path: {shown}"))
        .kind(Kind::NotFound)?;
    if !is_right(&found) {
        return Err(Error::invalid(format!("checkpoint_path: {shown} is not {kind}")));
    }
    if found.uid() != 0 || found.mode() & WRITABLE != 0 {
        return Err(Error::invalid(format!(
            "checkpoint_path: {shown} can be written by others than root"
        )));
    }
    Ok(())
}
