//! How far a pull is, for whoever looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::digest::Digest;
use super::manifest::Descriptor;

/// One pull. Its layers are known once the manifest is there.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    layers: Mutex<Vec<Arc<LayerProgress>>>,
}

/// One layer of a pull.
#[derive(Debug)]
pub(crate) struct LayerProgress {
    pub(crate) digest: Digest,
    /// Compressed bytes.
    pub(crate) size: u64,
    /// Compressed bytes that this pull received; those of a download that it joined are not counted.
    pub(super) received: AtomicU64,
    state: Mutex<LayerState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerState {
    Waiting,
    /// It was in the store already.
    Present,
    Fetching,
    /// Fetched and unpacked.
    Done,
}

impl Progress {
    pub(super) fn begin(&self, layers: &[Descriptor]) {
        let waiting = layers.iter().map(|layer| Arc::new(LayerProgress::new(layer)));
        *self.lock() = waiting.collect();
    }

    pub(crate) fn layers(&self) -> Vec<Arc<LayerProgress>> {
        self.lock().clone()
    }

    /// Compressed bytes of the layers that are fetched: those that have come, and all.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let fetched = self.layers().into_iter().filter(|layer| match layer.state() {
            LayerState::Fetching | LayerState::Done => true,
            LayerState::Waiting | LayerState::Present => false,
        });
        fetched.fold((0, 0), |(received, size), layer| {
            (received + layer.received(), size + layer.size)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<LayerProgress>>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LayerProgress {
    pub(super) fn new(layer: &Descriptor) -> Self {
        Self {
            digest: layer.digest.clone(),
            size: layer.size,
            received: AtomicU64::new(0),
            state: Mutex::new(LayerState::Waiting),
        }
    }

    pub(crate) fn state(&self) -> LayerState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_now(&self, state: LayerState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}
