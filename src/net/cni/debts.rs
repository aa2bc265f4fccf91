//! DELs that plugins still owe: they failed, and the pod they were for is gone.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use super::Cni;
use crate::id::PodId;

impl Cni {
    pub(super) fn owed(&self) -> MutexGuard<'_, BTreeSet<PodId>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_owing(&self) -> bool {
        !self.owed().is_empty()
    }

    /// Asks again for each. The next daemon finds what stays owed by its records.
    pub(crate) async fn pay(&self) {
        let owed = self.owed().clone();
        for pod in owed {
            match self.delete(&pod, None).await {
                Ok(()) => tracing::info!(%pod, "the CNI plugins took back what a dead pod had"),
                Err(error) => tracing::debug!(%pod, error = error.chain(), "CNI DEL fails again"),
            }
        }
    }
}
