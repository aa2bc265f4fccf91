//! What files hold, told by their attributes once they were read.
//!
//! The kernel changes a file's ctime with every change of it, and nobody can set it. One that was
//! changed a moment before it was read may change again without another ctime: it is read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Stat;

/// Of a file's bytes and extended attributes: SHA-256.
pub(super) type Content = [u8; 32];

/// Clocks of file systems are coarser than ours.
const SETTLED: i64 = 1_000_000_000;
/// About 20 MB.
const MOST: usize = 200_000;
const NANOSECONDS: i64 = 1_000_000_000;

/// Clones are of the same ones. They go with the daemon.
#[derive(Debug, Clone, Default)]
pub(in crate::builder) struct Contents(Arc<Mutex<Known>>);

/// By device and inode.
type Known = HashMap<(u64, u64), (Seen, Content)>;

/// What changes with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    size: i64,
    /// Nanoseconds since the epoch.
    modified: i64,
    changed: i64,
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        let nanoseconds = |seconds: i64, rest| {
            seconds.saturating_mul(NANOSECONDS).saturating_add(i64::try_from(rest).unwrap_or(0))
        };
        Self {
            size: stat.st_size,
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Contents {
    pub(super) fn known(&self, stat: &Stat) -> Option<Content> {
        let all = self.all();
        let (seen, content) = all.get(&(stat.st_dev, stat.st_ino))?;
        (*seen == Seen::of(stat)).then_some(*content)
    }

    /// `before` and `after` it was read, which began at `begun`, nanoseconds since the epoch.
    pub(super) fn add(&self, (before, after): (&Stat, &Stat), begun: i64, content: Content) {
        let seen = Seen::of(before);
        if seen != Seen::of(after) || seen.changed.saturating_add(SETTLED) > begun {
            return;
        }
        let mut all = self.all();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert((before.st_dev, before.st_ino), (seen, content));
    }

    fn all(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::engine::clock::now;

    #[test]
    fn a_file_is_known_until_it_changes() {
        let mut file = tempfile::tempfile().unwrap();
        let first = rustix::fs::fstat(&file).unwrap();
        let (contents, later) = (Contents::default(), now() + 2 * SETTLED);
        assert_eq!(contents.known(&first), None);
        contents.add((&first, &first), now(), [1; 32]);
        assert_eq!(contents.known(&first), None, "it may change in the same moment");
        contents.add((&first, &first), later, [1; 32]);
        assert_eq!(contents.known(&first), Some([1; 32]));

        file.write_all(b"x").unwrap();
        let second = rustix::fs::fstat(&file).unwrap();
        assert_eq!(contents.known(&second), None);
        contents.add((&first, &second), later, [2; 32]);
        assert_eq!(contents.known(&second), None, "it changed while it was read");
    }
}
