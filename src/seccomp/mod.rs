//! Seccomp: profiles, and the filters made from them.
//!
//! A profile's rules depend on the capabilities of the process; what they come to is compiled once
//! per profile and capability set and kept. The daemon compiles, the executor only loads.
//!
//! | file | owns |
//! |---|---|
//! | `default` | our own profile, a table |
//! | `profile` | profile files of the Docker and OCI form |
//! | `rule` | what both come to |
//! | `arch` | numbers of calls |
//! | `compile` | rules to BPF |

mod arch;
mod compile;
mod default;
mod profile;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use self::profile::{Circumstances, Profile};
use self::rule::Rules;
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::Seccomp;
use crate::sys::capability::NAMES;

/// The largest profile file that is read; real ones have 10 to 20 KiB.
const LARGEST_FILE: u64 = 4 << 20;
/// Filters kept; one more empties the cache. A node uses a handful.
const MOST_KEPT: usize = 64;

/// Compiled filters.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    filters: Mutex<HashMap<Key, Seccomp>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Of the profile's bytes; `None` is our own.
    profile: Option<[u8; 32]>,
    capabilities: u64,
}

impl Cache {
    /// Our own profile for a process with these capabilities (`1 << CAP_*`) in its bounding set.
    pub(crate) fn default_profile(&self, capabilities: u64) -> Result<Seccomp> {
        self.get(Key { profile: None, capabilities }, || Ok(default::rules(capabilities)))
    }

    /// The profile in a file on the host.
    ///
    /// # Errors
    /// `InvalidArgument` for a file that is absent or no profile, `Unsupported` for one that needs
    /// a listening program.
    pub(crate) fn localhost(&self, path: &Path, capabilities: u64) -> Result<Seccomp> {
        let context = || format!("seccomp profile {}", path.display());
        let bytes = read(path).with_context(context).kind(Kind::InvalidArgument)?;
        self.given(&bytes, capabilities).with_context(context)
    }

    /// A profile in the form of the files.
    ///
    /// # Errors
    /// As [`Cache::localhost`].
    pub(crate) fn given(&self, bytes: &[u8], capabilities: u64) -> Result<Seccomp> {
        let key = Key { profile: Some(Sha256::digest(bytes).into()), capabilities };
        let rules = || {
            Profile::parse(bytes)?.resolve(Circumstances {
                has_capability: &|name| has_capability(capabilities, name),
                kernel: profile::version(&rustix::system::uname().release().to_string_lossy()),
            })
        };
        self.get(key, rules)
    }

    fn get(&self, key: Key, rules: impl FnOnce() -> Result<Rules>) -> Result<Seccomp> {
        let kept = self.filters.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(filter) = kept {
            return Ok(filter);
        }
        let rules = rules()?;
        let filter = Seccomp {
            filter: ByteBuf::from(compile::encode(&compile::compile(&rules)?)),
            flags: rules.flags,
        };
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if filters.len() >= MOST_KEPT {
            filters.clear();
        }
        filters.insert(key, filter.clone());
        Ok(filter)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if !path.is_absolute() {
        return Err(Error::invalid("the path is not absolute"));
    }
    let file = File::open(path).context("open")?;
    let mut bytes = Vec::new();
    let read = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).context("read")?;
    if read as u64 > LARGEST_FILE {
        return Err(Error::invalid(format!("larger than {LARGEST_FILE} bytes")));
    }
    Ok(bytes)
}

/// `CAP_SYS_ADMIN` and the like.
fn has_capability(capabilities: u64, name: &str) -> bool {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| *known == name).is_some_and(|at| capabilities & (1 << at) != 0)
}
