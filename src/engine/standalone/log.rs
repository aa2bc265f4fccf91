//! Logs that do not grow without end.
//!
//! ```text
//!   container.log  ◀── the monitor writes       container.log.1, .2, …  older, the newest first
//! ```
//!
//! The daemon looks now and then whether a log has become too long, renames the files and has the
//! monitor go on in a new one, as kubelet does with its own. While there is no daemon a log grows.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Standalone;
use super::config::LogLimit;
use super::run::LOG;
use crate::engine::Shared;
use crate::engine::container::log;
use crate::error::{Context, Result};

/// How often a log is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Keeps the log of a running container within its limit, in a task of its own until the run is over.
/// `is_owed`: the monitor may still write to a file that was moved away.
pub(super) fn spawn(shared: &Arc<Shared>, container: &Arc<Standalone>, mut is_owed: bool) {
    let Some(limit) = container.record().config.log_limit else { return };
    let Ok(running) = shared.containers.find(container.id.as_str()) else { return };
    let (shared, id) = (shared.clone(), container.id.clone());
    let path = shared.layout.standalone(&id).join(LOG);
    tokio::spawn(async move {
        while tokio::time::timeout(PERIOD, running.exited()).await.is_err() {
            let rotated = match move_on(&path, limit) {
                Ok(false) if !is_owed => continue,
                Ok(_) => log::reopen(shared.clone(), id.as_str()).await,
                Err(error) => Err(error),
            };
            // Its files are moved before the monitor is asked: it must be asked again.
            is_owed = rotated.is_err();
            if let Err(error) = rotated {
                tracing::warn!(container = %id, error = error.chain(), "rotate a log");
            }
        }
    });
}

/// The older files of a log, the newest first. While they are renamed one number is missing, which
/// is passed over.
pub(crate) fn older(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut missing = 0;
    let found = places(path).map(|path| path.exists().then_some(path));
    let found = found.take_while(move |found| {
        missing = if found.is_some() { 0 } else { missing + 1 };
        missing < 2
    });
    found.flatten()
}

/// Where older files go, the newest first.
fn places(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let path = path.to_owned();
    (1..).map(move |number: u32| numbered(&path, number))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    path.with_added_extension(number.to_string())
}

/// Makes room for a new file if this one is too long, and says whether the monitor is to go on in a
/// new one: also if an earlier one was moved and nobody opened the next.
fn move_on(path: &Path, limit: LogLimit) -> Result<bool> {
    let describe = || format!("rotate {}", path.display());
    let length = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        found => found.with_context(describe)?.len(),
    };
    if length < limit.bytes {
        return Ok(false);
    }
    // Also what an earlier, wider limit left.
    let kept = usize::try_from(limit.files.saturating_sub(1)).unwrap_or(usize::MAX);
    let there: Vec<PathBuf> = places(path).take_while(|path| path.exists()).collect();
    let keeps = |place: usize| place < kept;
    for (place, file) in there.iter().enumerate().rev() {
        match keeps(place + 1) {
            true => std::fs::rename(file, numbered(path, u32::try_from(place).unwrap_or(0) + 2)),
            false => std::fs::remove_file(file),
        }
        .with_context(describe)?;
    }
    match keeps(0) {
        true => std::fs::rename(path, numbered(path, 1)),
        false => std::fs::remove_file(path),
    }
    .with_context(describe)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_that_is_long_enough_makes_room_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOG);
        let write = |text: &str| {
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let limit = |files| LogLimit { bytes: 3, files };
        write("ab");
        assert!(!move_on(&path, limit(3)).unwrap());
        for text in ["one", "two", "three", "four"] {
            write(text);
            assert!(move_on(&path, limit(3)).unwrap());
            assert!(!path.exists());
            assert!(move_on(&path, limit(3)).unwrap(), "a new one is owed");
        }
        let kept = || -> Vec<String> {
            older(&path).map(|path| std::fs::read_to_string(path).unwrap()).collect()
        };
        assert_eq!(kept(), ["four", "three"]);
        std::fs::rename(numbered(&path, 2), numbered(&path, 3)).unwrap();
        assert_eq!(kept(), ["four", "three"], "it is just being renamed");
        std::fs::rename(numbered(&path, 3), numbered(&path, 4)).unwrap();
        assert_eq!(kept(), ["four"]);
        std::fs::remove_file(numbered(&path, 4)).unwrap();
        write("five");
        assert!(move_on(&path, limit(1)).unwrap());
        assert!(kept().is_empty(), "{:?}", kept());
    }
}
