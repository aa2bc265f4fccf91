//! Contexts between builds: what a client sent once it need not send again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::builder::Synced;

/// Contexts; the one that was of use longest ago goes first.
const MOST: usize = 8;

/// By the client's key and directory. A build has its context for itself: another at the same time
/// begins with an empty one.
#[derive(Default)]
pub(super) struct KeptContexts(Mutex<VecDeque<(Key, Synced)>>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// As the client's session has it.
    pub(super) shared: String,
    pub(super) directory: String,
}

impl KeptContexts {
    pub(super) fn take(&self, key: &Key) -> Option<Synced> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all.iter().position(|(known, _)| known == key)?;
        all.remove(place).map(|(_, synced)| synced)
    }

    /// Without a key nobody would find it.
    pub(super) fn put(&self, key: Key, synced: Synced) {
        if key.shared.is_empty() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(known, _)| *known != key);
        all.push_back((key, synced));
        while all.len() > MOST {
            all.pop_front();
        }
    }

    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
