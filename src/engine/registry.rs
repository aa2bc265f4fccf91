//! The objects there are, by id. Readers take a published snapshot and never wait for a mutation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::id::is_hex;

/// Objects by their 64-digit id.
pub(crate) struct Registry<T> {
    /// What the objects are called in messages.
    noun: &'static str,
    objects: Mutex<BTreeMap<String, Arc<T>>>,
}

impl<T> Registry<T> {
    pub(crate) fn new(noun: &'static str) -> Self {
        Self { noun, objects: Mutex::default() }
    }

    pub(crate) fn insert(&self, id: &str, object: Arc<T>) {
        self.lock().insert(id.to_owned(), object);
    }

    pub(crate) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.lock().values().cloned().collect()
    }

    /// The object whose id is or uniquely starts with `id`.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty or an ambiguous id, `NotFound` for any other stranger.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<T>> {
        if id.is_empty() {
            return Err(Error::invalid(format!("the {} id is empty", self.noun)));
        }
        let objects = self.lock();
        if let Some(object) = objects.get(id) {
            return Ok(object.clone());
        }
        let mut matches = objects
            .range(id.to_owned()..)
            .take_while(|(other, _)| is_hex(id) && other.starts_with(id))
            .map(|(_, object)| object);
        match (matches.next(), matches.next()) {
            (Some(object), None) => Ok(object.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("{} id {id:?} is ambiguous", self.noun)))
            }
            (None, _) => {
                let shown: String = id.chars().take(80).collect();
                Err(Error::not_found(format!("{} {shown:?} is not known", self.noun)))
            }
        }
    }

    /// As [`Registry::find`], for calls that succeed on what is gone.
    pub(crate) fn find_unless_gone(&self, id: &str) -> Result<Option<Arc<T>>> {
        match self.find(id) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<T>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry<u32> {
        let registry = Registry::new("pod sandbox");
        for (id, value) in [("aa11", 1), ("aa22", 2), ("bb", 3)] {
            registry.insert(id, Arc::new(value));
        }
        registry
    }

    #[test]
    fn a_unique_prefix_finds_its_object() {
        assert_eq!(*registry().find("aa1").unwrap(), 1);
        assert_eq!(*registry().find("bb").unwrap(), 3);
    }

    #[test]
    fn what_does_not_name_one_object_is_told_apart() {
        let kind = |id: &str| registry().find(id).unwrap_err().kind();

        assert_eq!(kind(""), Kind::InvalidArgument);
        assert_eq!(kind("aa"), Kind::InvalidArgument);
        assert_eq!(kind("cc"), Kind::NotFound);
        assert_eq!(kind("../aa"), Kind::NotFound);
        assert!(registry().find_unless_gone("cc").unwrap().is_none());
    }
}
