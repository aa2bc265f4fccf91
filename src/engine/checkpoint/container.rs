//! CheckpointContainer: one container into an archive; it runs on.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags};

use super::capture::{capture, create, make_directory};
use super::check_supported;
use super::criu::Criu;
use super::deadline::{Deadline, Timed, exceeded};
use super::freeze::freeze;
use super::under_way::{UnderWay, remove_tree};
use crate::engine::container::Container;
use crate::engine::pod::Pod;
use crate::engine::{Shared, operation};
use crate::error::{Context, Error, Kind, Result};
use crate::id::random_hex;
use crate::image::pack;

/// Writes `location`, which must not exist yet. With a timeout the call ends about then; nothing is
/// left of the archive, and the container runs on, on every error.
pub(crate) async fn checkpoint(
    shared: Arc<Shared>,
    id: &str,
    location: PathBuf,
    timeout: Option<Duration>,
) -> Result<()> {
    let deadline = Deadline::after(timeout);
    let criu = Criu::find(&shared)?;
    let container = shared.containers.find(id)?;
    operation::run(async move {
        let pod = shared.pods.find(container.record().pod.as_str())?;
        let locking = tokio::time::timeout(deadline.patience()?, pod.mutation.lock());
        let _mutation = locking.await.map_err(|_| exceeded())?;
        container.check_running()?;
        check_supported(&pod.record().config, &container.record().config)?;
        let partial = partial(&location)?;
        let staging = shared.layout.checkpoint(container.id.as_str());
        let under_way = UnderWay::Checkpoint {
            containers: vec![container.id.clone()],
            remove: vec![staging.clone(), partial.clone()],
            empty: None,
        };
        shared.checkpoints.put(pod.id.as_str(), &under_way)?;
        let written = write(&shared, (&pod, &container), (&staging, &partial), (&criu, deadline));
        let written = match written.await {
            Ok(()) => publish(&partial, &location),
            Err(error) => Err(error),
        };
        remove_tree(&partial)?;
        remove_tree(&staging)?;
        shared.checkpoints.remove(pod.id.as_str())?;
        written
    })
    .await
}

async fn write(
    shared: &Arc<Shared>,
    (pod, container): (&Pod, &Arc<Container>),
    (staging, partial): (&Path, &Path),
    (criu, deadline): (&Criu, Deadline),
) -> Result<()> {
    remove_tree(staging)?;
    make_directory(staging)?;
    let frozen = freeze(shared, std::slice::from_ref(container)).await?;
    let captured = capture(shared, pod, container, staging, (criu, deadline)).await;
    let thawed = frozen.thaw().await;
    captured?;
    thawed?;
    let (staging, partial) = (staging.to_owned(), partial.to_owned());
    let packing = tokio::task::spawn_blocking(move || pack(&staging, &partial, deadline));
    packing.await.context("pack the archive")?
}

fn pack(staging: &Path, partial: &Path, deadline: Deadline) -> Result<()> {
    let out = Timed { inner: io::BufWriter::new(create(partial)?), deadline };
    let mut out = pack::write(&pack::open(staging)?, out)?;
    out.flush().context("write the archive")?;
    deadline.patience().map(drop)
}

/// The archive's name until it is whole, beside where it will be.
fn partial(location: &Path) -> Result<PathBuf> {
    let show = || format!("location: {location:?} does not name a file");
    let name = location.file_name().ok_or_else(|| Error::invalid(show()))?;
    let directory = location.parent().ok_or_else(|| Error::invalid(show()))?;
    if !directory.is_dir() {
        let directory = directory.display();
        return Err(Error::not_found(format!("location: there is no directory {directory}")));
    }
    if location.symlink_metadata().is_ok() {
        return Err(exists(location));
    }
    Ok(directory.join(format!(".{}.{}", name.to_string_lossy(), &random_hex()?)))
}

fn publish(partial: &Path, location: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, partial, CWD, location, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST) => Err(exists(location)),
        renamed => renamed.with_context(|| format!("make {}", location.display())),
    }
}

fn exists(location: &Path) -> Error {
    Error::new(Kind::AlreadyExists, format!("location: {} exists already", location.display()))
}
