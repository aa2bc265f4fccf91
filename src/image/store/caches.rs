//! What commands of builds keep from one to the next (`RUN --mount=type=cache`): directories, and what is known of them.
//!
//! ```text
//!   lease ──▶ the command has it ──▶ given back: its size is not known any more ──▶ measured when somebody wants to know
//! ```
//!
//! A directory changes only while a command has it, so one that nobody had since need not be walked again. Records are not
//! synced: of a directory without one only its age is known.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::commit::Freed;
use crate::error::{Context, Result};
use crate::image::digest::Digest;
use crate::store::atomic::Durability;
use crate::store::table::Table;
use crate::store::usage::usage_of_tree;

/// Times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheMount {
    /// For people.
    pub(crate) description: String,
    /// Bytes on disk; `None`: nobody measured it since it was used.
    pub(crate) size: Option<u64>,
    pub(crate) created_at: i64,
    pub(crate) used_at: i64,
    pub(crate) uses: u64,
}

struct State {
    record: CacheMount,
    /// Commands that have it now.
    users: usize,
}

#[derive(Clone)]
pub(in crate::image) struct CacheMounts(Arc<Shared>);

struct Shared {
    directories: PathBuf,
    /// Where what is removed goes first.
    ingest: PathBuf,
    records: Table<CacheMount>,
    known: Mutex<HashMap<String, State>>,
}

/// A directory that a command has: it stays as long as this lives.
pub(crate) struct CacheLease {
    mounts: CacheMounts,
    name: String,
}

impl CacheMounts {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let (directories, ingest) = (root.join("caches"), root.join("ingest"));
        for path in [&directories, &ingest] {
            crate::store::private_dir(path)?;
        }
        let records = Table::open(&root.join("cache-mounts"), Durability::UntilReboot)?;
        let mut recorded: HashMap<String, CacheMount> = records.scan()?.into_iter().collect();
        let mut known = HashMap::new();
        for entry in std::fs::read_dir(&directories).context("list caches")? {
            let entry = entry.context("list caches")?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let record = match recorded.remove(&name) {
                Some(record) => record,
                None => {
                    let changed = entry.metadata().context("list caches")?.ctime();
                    CacheMount::new("cached mount", changed * 1_000_000_000)
                }
            };
            known.insert(name, State { record, users: 0 });
        }
        for name in recorded.keys() {
            records.remove(name)?;
        }
        Ok(Self(Arc::new(Shared { directories, ingest, records, known: Mutex::new(known) })))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a command, whether it is there or not.
    pub(super) fn lease(&self, name: &Digest, description: &str) -> CacheLease {
        let name = name.hex().to_owned();
        let mut known = self.lock();
        let state = known
            .entry(name.clone())
            .or_insert_with(|| State { record: CacheMount::new("", now()), users: 0 });
        state.users += 1;
        description.clone_into(&mut state.record.description);
        if state.users == 1 && state.record.size.is_some() {
            // A daemon that is killed meanwhile has it measured anew.
            self.write(&name, &CacheMount { size: None, ..state.record.clone() });
        }
        drop(known);
        CacheLease { mounts: self.clone(), name }
    }

    /// By their names; whether a command has it.
    pub(super) fn all(&self) -> Vec<(String, CacheMount, bool)> {
        let known = self.lock();
        let there = known.iter().filter(|(name, _)| self.0.directories.join(name).is_dir());
        let row = |(name, state): (&String, &State)| {
            (name.clone(), state.record.clone(), state.users > 0)
        };
        let mut all: Vec<_> = there.map(row).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Walks what changed since it was measured; with `in_use` what commands have now, too. Blocks.
    pub(super) fn measure(&self, in_use: bool) {
        let wanted: Vec<_> = self
            .all()
            .into_iter()
            .filter(|(_, record, is_used)| (in_use && *is_used) || record.size.is_none())
            .collect();
        for (name, record, _) in wanted {
            let Ok((bytes, _)) = usage_of_tree(&self.0.directories.join(&name)) else { continue };
            let mut known = self.lock();
            let Some(state) = known.get_mut(&name) else { continue };
            // Who gave it back meanwhile changed it.
            if state.record.uses == record.uses {
                state.record.size = Some(bytes);
                self.write(&name, &state.record);
            }
        }
    }

    /// Takes those out of use that no command has.
    pub(super) fn take_out(&self, names: &[String], freed: &mut Freed) {
        let mut known = self.lock();
        for name in names {
            let Some(state) = known.get(name).filter(|state| state.users == 0) else { continue };
            let moved = crate::id::random_hex().and_then(|random| {
                let out = self.0.ingest.join(random);
                std::fs::rename(self.0.directories.join(name), &out).context("drop a cache")?;
                Ok(out)
            });
            match moved {
                Ok(out) => freed.add(out, state.record.size.unwrap_or_default()),
                Err(error) => {
                    freed.failed(error);
                    continue;
                }
            }
            freed.names.push(name.clone());
            known.remove(name);
            if let Err(error) = self.0.records.remove(name) {
                // The next start removes it.
                tracing::warn!(error = error.chain(), "the record of a cache stays behind");
            }
        }
    }

    fn write(&self, name: &str, record: &CacheMount) {
        if let Err(error) = self.0.records.put(name, record) {
            tracing::warn!(error = error.chain(), "a cache is not described");
        }
    }
}

impl CacheMount {
    fn new(description: &str, now: i64) -> Self {
        let description = description.to_owned();
        Self { description, size: None, created_at: now, used_at: now, uses: 0 }
    }
}

impl CacheLease {
    /// It is there once it was added.
    pub(crate) fn directory(&self) -> PathBuf {
        self.mounts.0.directories.join(&self.name)
    }

    /// Moves a directory here; if there is one already, that one stays.
    pub(crate) fn add(&self, filled: &Path) -> Result<()> {
        let to = self.directory();
        match rustix::fs::renameat_with(CWD, filled, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno).context("make a cache"),
        }
    }
}

impl Drop for CacheLease {
    fn drop(&mut self) {
        let mut known = self.mounts.lock();
        let Some(state) = known.get_mut(&self.name) else { return };
        state.users -= 1;
        state.record.used_at = now();
        state.record.uses += 1;
        state.record.size = None;
        if self.directory().is_dir() {
            self.mounts.write(&self.name, &state.record);
        } else if state.users == 0 {
            // Nobody could fill it.
            known.remove(&self.name);
        }
    }
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a test need not be atomic")]
mod tests {
    use super::*;

    fn filled(root: &Path, lease: &CacheLease, bytes: usize) {
        let place = root.join("new");
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("data"), vec![1; bytes]).unwrap();
        lease.add(&place).unwrap();
    }

    #[test]
    fn a_cache_is_measured_when_it_changed_and_stays_while_a_command_has_it() {
        let temp = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::open(temp.path()).unwrap();
        let name = Digest::of(b"one");
        let size = |mounts: &CacheMounts| mounts.all()[0].1.size;
        let lease = mounts.lease(&name, "one");
        assert!(mounts.all().is_empty(), "it is not there yet");
        filled(temp.path(), &lease, 100_000);
        mounts.measure(false);
        let first = size(&mounts).unwrap();
        assert!((100_000..200_000).contains(&first));
        std::fs::write(lease.directory().join("more"), vec![1; 100_000]).unwrap();
        mounts.measure(false);
        assert_eq!(size(&mounts), Some(first));
        mounts.measure(true);
        assert!(size(&mounts).unwrap() >= first + 100_000);

        let mut freed = Freed::default();
        mounts.take_out(&[name.hex().to_owned()], &mut freed);
        assert!(freed.names.is_empty() && lease.directory().is_dir());
        drop(lease);
        assert_eq!(size(&mounts), None);
        mounts.measure(false);
        // Known after a restart, too.
        let mounts = CacheMounts::open(temp.path()).unwrap();
        let (_, record, is_used) = mounts.all().remove(0);
        assert_eq!((record.description.as_str(), record.uses, is_used), ("one", 1, false));
        mounts.take_out(&[name.hex().to_owned()], &mut freed);
        assert_eq!(freed.names.len(), 1);
        assert_eq!(freed.remove().unwrap(), record.size.unwrap());
        assert!(mounts.all().is_empty());
        assert_eq!(std::fs::read_dir(temp.path().join("cache-mounts")).unwrap().count(), 0);
    }

    #[test]
    fn a_cache_that_could_not_be_filled_is_none_and_one_without_a_record_counts() {
        let temp = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::open(temp.path()).unwrap();
        drop(mounts.lease(&Digest::of(b"one"), "one"));
        assert!(mounts.lock().is_empty());
        std::fs::create_dir(temp.path().join("caches/abc")).unwrap();
        let mounts = CacheMounts::open(temp.path()).unwrap();
        mounts.measure(false);
        let (name, record, _) = mounts.all().remove(0);
        assert!(name == "abc" && record.size.is_some() && record.created_at > 0);
    }
}
