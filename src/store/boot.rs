//! Which boot of the machine it is.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

const PATH: &str = "/proc/sys/kernel/random/boot_id";

/// A boot, by the random name that the kernel has for it (random(4)). What is not on the disk yet dies with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Boot(String);

impl Boot {
    /// The one that runs.
    pub(crate) fn now() -> Result<Self> {
        let read = std::fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
        Ok(Self(read.trim().to_owned()))
    }

    /// Another one.
    #[cfg(test)]
    pub(crate) fn other() -> Self {
        Self("another".to_owned())
    }
}
