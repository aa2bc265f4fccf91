//! Contexts between builds: what a client sent once it need not send again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::builder::Synced;

/// Contexts; the one that was of use longest ago goes first.
const MOST: usize = 8;

/// One that nobody used for so long goes with the next build: nanoseconds.
const LONGEST: i64 = 3600 * 1_000_000_000;

/// By the client's key and directory. A build has its context for itself: another at the same time
/// begins with an empty one.
#[derive(Default)]
pub(super) struct KeptContexts(Mutex<VecDeque<Kept>>);

struct Kept {
    key: Key,
    synced: Synced,
    /// Nanoseconds since the epoch.
    used: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// As the client's session has it.
    pub(super) shared: String,
    pub(super) directory: String,
}

impl KeptContexts {
    pub(super) fn take(&self, key: &Key) -> Option<Synced> {
        let mut all = self.lock();
        let place = all.iter().position(|known| known.key == *key)?;
        all.remove(place).map(|known| known.synced)
    }

    pub(super) fn put(&self, key: Key, synced: Synced) {
        let now = jiff::Timestamp::now().as_nanosecond();
        self.put_at(key, synced, i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Without a key nobody would find it.
    fn put_at(&self, key: Key, synced: Synced, used: i64) {
        if key.shared.is_empty() {
            return;
        }
        let mut all = self.lock();
        all.retain(|known| known.key != key && known.used >= used - LONGEST);
        all.push_back(Kept { key, synced, used });
        while all.len() > MOST {
            all.pop_front();
        }
    }

    /// Those that were not used since then, or all.
    pub(super) fn forget(&self, since: Option<i64>) {
        self.lock().retain(|known| since.is_some_and(|since| known.used >= since));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ImageStore, Settings};

    #[tokio::test]
    async fn a_context_that_nobody_uses_goes() {
        let temp = tempfile::tempdir().unwrap();
        let store = ImageStore::open(temp.path(), Settings::default()).unwrap();
        let key = |name: &str| Key { shared: "client".to_owned(), directory: name.to_owned() };
        let contexts = KeptContexts::default();
        let put = |name: &str, time| {
            contexts.put_at(key(name), Synced::begin(&store).unwrap(), time);
        };
        put("a", 0);
        put("b", 10);
        put("c", LONGEST + 5);
        assert!(contexts.take(&key("a")).is_none());
        contexts.forget(Some(11));
        assert!(contexts.take(&key("b")).is_none());
        assert!(contexts.take(&key("c")).is_some());
        put("c", LONGEST + 6);
        contexts.forget(None);
        assert!(contexts.take(&key("c")).is_none());
    }
}
