//! The files of one container, written while it is frozen.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::criu::Criu;
use super::deadline::{Deadline, Timed};
use super::{DESCRIPTORS, DIFF, IMAGES};
use crate::engine::container::Container;
use crate::engine::container::record::Record;
use crate::engine::pod::{Pod, files};
use crate::engine::{Shared, cdi, clock, spec};
use crate::error::{Context, Result};
use crate::image::pack;

/// Writes everything of a frozen container into an empty directory.
pub(super) async fn capture(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &Arc<Container>,
    directory: &Path,
    (criu, deadline): (&Criu, Deadline),
) -> Result<()> {
    let record = container.record();
    let pid = record.phase.pid().ok_or_else(|| container.is_not("running", &record.phase))?;
    let images = directory.join(IMAGES);
    make_directory(&images)?;
    criu.dump(shared, (pod, container), (&images, directory), deadline.patience()?).await?;
    write_json(&images.join(DESCRIPTORS), &json!(streams(pid)?))?;
    write_json(&directory.join("config.dump"), &config(&record))?;
    write_json(&directory.join("spec.dump"), &describe(shared, pod, &record, pid)?)?;

    let upper = shared.layout.container_root(&container.id).join("upper");
    let (log, directory) = (record.log_path.clone(), directory.to_owned());
    let copying = tokio::task::spawn_blocking(move || {
        write_tree(&upper, &directory.join(DIFF), deadline)?;
        match log {
            Some(log) => copy_log(&log, &directory.join("container.log")),
            None => Ok(()),
        }
    });
    copying.await.context("copy the container's files")?
}

pub(super) fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make {}", path.display()))
}

/// A new file for root's eyes only.
pub(super) fn create(path: &Path) -> Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("make {}", path.display()))
}

pub(super) fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).context("encode")?;
    create(path)?.write_all(&text).with_context(|| format!("write {}", path.display()))
}

/// Blocks.
pub(super) fn write_tree(root: &Path, archive: &Path, deadline: Deadline) -> Result<()> {
    let out = Timed { inner: io::BufWriter::new(create(archive)?), deadline };
    let mut out = pack::write(&pack::open(root)?, out)
        .with_context(|| format!("write {}", archive.display()))?;
    out.flush().with_context(|| format!("write {}", archive.display()))
}

/// The log lies in a directory of kubelet's: no link is followed.
fn copy_log(log: &Path, copy: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = match rustix::fs::open(log, flags, Mode::empty()) {
        Ok(log) => File::from(log),
        // kubelet is just rotating it.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).with_context(|| format!("open {}", log.display())),
    };
    if log.metadata().context("look at the log")?.is_file() {
        io::copy(&mut io::BufReader::new(log), &mut create(copy)?).context("copy the log")?;
    }
    Ok(())
}

/// Where the standard streams lead: `pipe:[123]`, `/dev/null`.
pub(super) fn streams(pid: i32) -> Result<[String; 3]> {
    let stream = |number| {
        let path = format!("/proc/{pid}/fd/{number}");
        match std::fs::read_link(&path) {
            Ok(target) => Ok(target.to_string_lossy().into_owned()),
            // The program has closed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| format!("read {path}")),
        }
    };
    Ok([stream(0)?, stream(1)?, stream(2)?])
}

/// What other runtimes write under this name, for the tools that read it.
fn config(record: &Record) -> serde_json::Value {
    let time = |nanoseconds: i64| {
        jiff::Timestamp::from_nanosecond(nanoseconds.into()).map(|time| time.to_string()).ok()
    };
    json!({
        "id": record.id.as_str(),
        "name": record.config.name,
        "rootfsImage": record.image_id,
        "rootfsImageRef": record.image_ref,
        "rootfsImageName": record.image_name,
        "runtime": "cais",
        "createdTime": time(record.created_at),
        "checkpointedTime": time(clock::now()),
        "restoredTime": "0001-01-01T00:00:00Z",
        "restored": false,
    })
}

/// The OCI spec that the container's request means today.
fn describe(shared: &Shared, pod: &Pod, record: &Record, pid: i32) -> Result<serde_json::Value> {
    let root = File::open(format!("/proc/{pid}/root")).context("open the container's root")?;
    // Of an image that was removed under the container, what it set is not known any more.
    let image = shared.images.resolve(&record.image_id);
    let image = image.map(|image| image.config.clone()).unwrap_or_default();
    let mut bundle = spec::build(&spec::Input {
        pod: &pod.record().config,
        config: &record.config,
        image: &image,
        rootfs: root.as_fd(),
        files: &files::for_containers(&shared.layout.pod(&pod.id)),
        host: &shared.host,
        filters: &shared.filters,
        cdi: &cdi::edits(&shared.config.cdi.spec_dirs, &record.config)?,
    })?;
    let pod = pod.record();
    let mut annotations: std::collections::HashMap<String, String> =
        record.config.annotations.clone().into_iter().collect();
    // By these names tools find the container's place in a cluster.
    for (key, value) in [
        ("io.kubernetes.cri.container-name", &record.config.name),
        ("io.kubernetes.cri.sandbox-name", &pod.config.name),
        ("io.kubernetes.cri.sandbox-namespace", &pod.config.namespace),
        ("io.kubernetes.cri.sandbox-uid", &pod.config.uid),
    ] {
        annotations.insert(key.to_owned(), value.clone());
    }
    bundle.spec.set_annotations(Some(annotations));
    serde_json::to_value(&bundle.spec).context("encode the spec")
}
