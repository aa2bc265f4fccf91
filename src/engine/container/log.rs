//! A container's log file: opened by the daemon, written by the monitor, rotated by kubelet.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::engine::{Shared, operation};
use crate::error::{Context, Error, Result};
use crate::monitor::protocol::Request;

/// The absolute path of a log, below the pod's log directory.
///
/// # Errors
/// `InvalidArgument` for a path that could leave the directory.
pub(crate) fn path(directory: Option<&Path>, log: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(log) = log else { return Ok(None) };
    let Some(directory) = directory else {
        return Err(Error::invalid(
            "config.log_path is set but the pod sandbox has no log_directory",
        ));
    };
    if !log.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::invalid(format!("config.log_path: {log:?} leaves the log directory")));
    }
    Ok(Some(directory.join(log)))
}

/// Opens the log for appending, makes it and its directory if need be.
///
/// Its directory may be writable by others than root: no link in the last two components is
/// followed, so that a log cannot be turned into any other file.
pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    let show = || format!("open the log {}", path.display());
    let directory = path.parent().with_context(show)?;
    let name = path.file_name().map(OsStr::to_owned).with_context(show)?;
    DirBuilder::new().recursive(true).mode(0o755).create(directory).with_context(show)?;
    let directory = File::open(directory).with_context(show)?;
    openat2(
        &directory,
        name,
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o640),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .with_context(show)
}

/// ReopenContainerLog: kubelet has moved the file away; go on in a fresh one.
pub(crate) async fn reopen(shared: Arc<Shared>, id: &str) -> Result<()> {
    let container = shared.containers.find(id)?;
    operation::run(async move {
        container.check_running()?;
        let record = container.record();
        let Some(path) = &record.log_path else { return Ok(()) };
        let log = open(path)?;
        let pod = shared.pods.find(record.pod.as_str())?;
        let request = Request::ReopenLog { container: container.id.clone() };
        pod.monitor()?.call(request, vec![log]).await.context("reopen the log")?;
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stays_below_its_directory() {
        let directory = Path::new("/var/log/pods/x");
        let of = |log: &str| path(Some(directory), Some(Path::new(log)));

        assert_eq!(of("web/0.log").unwrap().unwrap(), directory.join("web/0.log"));
        for log in ["../web.log", "/etc/passwd", "web/../../x"] {
            assert!(of(log).is_err(), "{log}");
        }
        assert!(path(None, Some(Path::new("web.log"))).is_err());
        assert_eq!(path(None, None).unwrap(), None);
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("target");
        std::os::unix::fs::symlink(&target, temp.path().join("0.log")).unwrap();

        assert!(open(&temp.path().join("0.log")).is_err());
        assert!(!target.exists());
        open(&temp.path().join("web/0.log")).unwrap();
    }
}
