//! The standalone containers there are, by id, by name, and by the beginning of an id.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Standalone;
use crate::error::{Error, Kind, Result};
use crate::id::{ContainerId, is_hex};

#[derive(Default)]
pub(crate) struct Standalones {
    containers: Mutex<Containers>,
}

#[derive(Default)]
struct Containers {
    by_id: BTreeMap<String, Arc<Standalone>>,
    /// Names are taken before their container is there.
    names: BTreeMap<String, ContainerId>,
}

impl Standalones {
    pub(crate) fn all(&self) -> Vec<Arc<Standalone>> {
        self.lock().by_id.values().cloned().collect()
    }

    /// The container with this id or name, or whose id alone begins so. A name may have a slash in
    /// front.
    ///
    /// # Errors
    /// `NotFound`, and `InvalidArgument` for the beginning of several, in Docker's words.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Standalone>> {
        let containers = self.lock();
        if let Some(found) = containers.by_id.get(text) {
            return Ok(found.clone());
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        let named = containers.names.get(name).and_then(|id| containers.by_id.get(id.as_str()));
        if let Some(found) = named {
            return Ok(found.clone());
        }
        let mut matches = containers
            .by_id
            .range(text.to_owned()..)
            .take_while(|(id, _)| is_hex(text) && id.starts_with(text))
            .map(|(_, found)| found);
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("Multiple IDs found with provided prefix: {text}")))
            }
            (None, _) => {
                let shown: String = text.chars().take(80).collect();
                Err(Error::not_found(format!("No such container: {shown}")))
            }
        }
    }

    pub(crate) fn has(&self, id: &ContainerId) -> bool {
        self.lock().by_id.contains_key(id.as_str())
    }

    pub(super) fn insert(&self, container: Arc<Standalone>) {
        let mut containers = self.lock();
        let record = container.record();
        containers.names.insert(record.name.clone(), record.id.clone());
        containers.by_id.insert(record.id.to_string(), container);
    }

    pub(super) fn remove(&self, id: &ContainerId) {
        let mut containers = self.lock();
        containers.by_id.remove(id.as_str());
        containers.names.retain(|_, owner| owner != id);
    }

    /// Takes a name for a container; a name of its own is fine.
    pub(super) fn claim(&self, name: &str, id: &ContainerId) -> Result<()> {
        match self.lock().names.entry(name.to_owned()) {
            Entry::Occupied(taken) if taken.get() != id => Err(Error::new(
                Kind::AlreadyExists,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \
                     \"{}\". You have to remove (or rename) that container to be able to reuse \
                     that name.",
                    taken.get()
                ),
            )),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(free) => {
                free.insert(id.clone());
                Ok(())
            }
        }
    }

    /// Gives a name back, if it is the container's.
    pub(super) fn release(&self, name: &str, id: &ContainerId) {
        let mut containers = self.lock();
        if containers.names.get(name) == Some(id) {
            containers.names.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
