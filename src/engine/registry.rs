//! The objects there are, by id and by what a client means by them. Readers take a published record
//! and never wait for a mutation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::id::is_hex;

/// What makes two requests of a client mean the same object.
pub(crate) trait Keyed {
    type Key: Ord;

    fn key(&self) -> Self::Key;
}

/// Objects by their 64-digit id and by their key.
pub(crate) struct Registry<T: Keyed> {
    /// What the objects are called in messages.
    noun: &'static str,
    objects: Mutex<Objects<T>>,
    generation: AtomicU64,
}

struct Objects<T: Keyed> {
    by_id: BTreeMap<String, Arc<T>>,
    by_key: BTreeMap<T::Key, Arc<T>>,
}

impl<T: Keyed> Registry<T> {
    pub(crate) fn new(noun: &'static str) -> Self {
        let objects = Objects { by_id: BTreeMap::new(), by_key: BTreeMap::new() };
        Self { noun, objects: Mutex::new(objects), generation: AtomicU64::new(0) }
    }

    pub(crate) fn insert(&self, id: &str, object: Arc<T>) {
        let mut objects = self.lock();
        objects.by_key.insert(object.key(), object.clone());
        objects.by_id.insert(id.to_owned(), object);
        self.changed();
    }

    pub(crate) fn remove(&self, id: &str) {
        let mut objects = self.lock();
        if let Some(object) = objects.by_id.remove(id) {
            objects.by_key.remove(&object.key());
            self.changed();
        }
    }

    /// To be called when an object has published another state, before anybody is told of it.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Another number whenever anything is different from what was to be seen. Who keeps something made from the objects
    /// takes the number first and the objects then: what is kept is never older than it says.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.lock().by_id.values().cloned().collect()
    }

    pub(crate) fn with_key(&self, key: &T::Key) -> Option<Arc<T>> {
        self.lock().by_key.get(key).cloned()
    }

    /// The objects whose keys begin with `first` in their order and go on while `belongs` holds.
    pub(crate) fn run_of(&self, first: &T::Key, belongs: impl Fn(&T::Key) -> bool) -> Vec<Arc<T>> {
        let objects = self.lock();
        let run = objects.by_key.range(first..).take_while(|(key, _)| belongs(key));
        run.map(|(_, object)| object.clone()).collect()
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
        if let Some(object) = objects.by_id.get(id) {
            return Ok(object.clone());
        }
        let mut matches = objects
            .by_id
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

    fn lock(&self) -> MutexGuard<'_, Objects<T>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for u32 {
        type Key = Self;

        fn key(&self) -> Self {
            *self
        }
    }

    fn registry() -> Registry<u32> {
        let registry = Registry::new("pod sandbox");
        for (id, value) in [("aa11", 1), ("aa22", 2), ("bb", 3)] {
            registry.insert(id, Arc::new(value));
        }
        registry
    }

    #[test]
    fn a_key_finds_its_object_until_that_is_removed() {
        let registry = registry();

        assert_eq!(*registry.with_key(&2).unwrap(), 2);
        let run = registry.run_of(&2, |key| *key < 9);
        assert_eq!(run.iter().map(|it| **it).collect::<Vec<_>>(), [2, 3]);
        registry.remove("aa22");
        assert!(registry.with_key(&2).is_none());
        assert!(registry.run_of(&2, |key| *key < 3).is_empty());
    }

    #[test]
    fn every_change_begins_another_generation() {
        let registry = registry();
        let mut seen = vec![registry.generation()];
        registry.insert("cc", Arc::new(4));
        seen.push(registry.generation());
        registry.changed();
        seen.push(registry.generation());
        registry.remove("cc");
        seen.push(registry.generation());
        assert!(seen.is_sorted_by(|before, after| before < after), "{seen:?}");

        registry.remove("cc");
        assert_eq!(registry.generation(), seen[3]);
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
