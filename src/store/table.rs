//! Typed records keyed by id, one JSON file each.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::atomic::{Directory, Durability};
use crate::error::{Context, Error, Result};

const SUFFIX: &str = ".json";

/// The records of one kind. Calls that change the same key must not overlap; the owner of the
/// objects sees to that.
#[derive(Debug)]
pub(crate) struct Table<T> {
    path: PathBuf,
    directory: Directory,
    record: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// Opens the table in `path`, making the directory if it is missing.
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self> {
        super::private_dir(path)?;
        let directory = Directory::open(path, durability)?;
        Ok(Self { path: path.to_owned(), directory, record: PhantomData })
    }

    pub(crate) fn put(&self, key: &str, record: &T) -> Result<()> {
        self.directory.replace(&file_name(key)?, &encode(key, record)?)
    }

    /// As [`Table::put`] over a record that is there. After a power cut the next boot finds one of the two.
    pub(crate) fn put_soon(&self, key: &str, record: &T) -> Result<()> {
        self.directory.replace_soon(&file_name(key)?, &encode(key, record)?)
    }

    /// As [`Table::put`] of what nobody misses after a power cut: the next boot finds one of the two, or none.
    pub(crate) fn put_unsynced(&self, key: &str, record: &T) -> Result<()> {
        self.directory.replace_unsynced(&file_name(key)?, &encode(key, record)?)
    }

    /// `None` if there is no such record, also when it was damaged and set aside.
    pub(crate) fn get(&self, key: &str) -> Result<Option<T>> {
        self.read(&file_name(key)?)
    }

    /// Succeeds on what is gone.
    pub(crate) fn remove(&self, key: &str) -> Result<()> {
        self.directory.remove(&file_name(key)?)
    }

    /// As [`Table::remove`]; after a power cut the record may be there again.
    pub(crate) fn remove_unsynced(&self, key: &str) -> Result<()> {
        self.directory.remove_unsynced(&file_name(key)?).map(|_| ())
    }

    /// Keeps a record that its owner cannot use out of the way, for somebody to look at.
    pub(crate) fn set_aside(&self, key: &str) -> Result<()> {
        self.rename_damaged(&file_name(key)?)
    }

    /// Every readable record. Left-overs of interrupted writes are dropped, records without a byte too, as a power cut leaves
    /// them of [`Table::put_unsynced`]; damaged records are set aside.
    pub(crate) fn scan(&self) -> Result<Vec<(String, T)>> {
        let mut records = Vec::new();
        for name in self.directory.names()? {
            if name.starts_with('.') {
                self.directory.remove(&name)?;
            } else if let Some(key) = name.strip_suffix(SUFFIX)
                && let Some(record) = self.read(&name)?
            {
                records.push((key.to_owned(), record));
            }
        }
        records.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(records)
    }

    fn read(&self, name: &str) -> Result<Option<T>> {
        let bytes = match self.directory.read(name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {name}")),
        };
        if bytes.is_empty() {
            tracing::warn!(file = %self.path.join(name).display(), "a record that was not written any more is dropped");
            self.directory.remove(name)?;
            return Ok(None);
        }
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!(%error, file = %self.path.join(name).display(), "damaged record");
                self.rename_damaged(name)?;
                Ok(None)
            }
        }
    }

    fn rename_damaged(&self, name: &str) -> Result<()> {
        let damaged = format!("{name}.damaged");
        tracing::warn!(file = %self.path.join(&damaged).display(), "the record is set aside");
        self.directory.rename(name, &damaged)
    }
}

fn encode(key: &str, record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(record).with_context(|| format!("encode record {key}"))
}

fn file_name(key: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.is_empty() || key.len() > 200 || key.starts_with('.') || !key.bytes().all(is_plain) {
        return Err(Error::internal(format!("{key:?} cannot name a record")));
    }
    Ok(format!("{key}{SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(temp: &tempfile::TempDir) -> Table<Vec<u32>> {
        Table::open(&temp.path().join("t"), Durability::Synced).unwrap()
    }

    #[test]
    fn records_come_back_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        table(&temp).put("a", &vec![1]).unwrap();
        table(&temp).put("a", &vec![2]).unwrap();
        table(&temp).put("b", &vec![3]).unwrap();
        table(&temp).remove("b").unwrap();
        table(&temp).put_unsynced("c", &vec![4]).unwrap();
        table(&temp).remove_unsynced("c").unwrap();

        assert_eq!(table(&temp).scan().unwrap(), [("a".to_owned(), vec![2])]);
        assert_eq!(table(&temp).get("b").unwrap(), None);
    }

    #[test]
    fn a_damaged_record_is_set_aside_and_the_rest_works() {
        let temp = tempfile::tempdir().unwrap();
        let table = table(&temp);
        table.put("good", &vec![1]).unwrap();
        table.put("bad", &vec![2]).unwrap();
        let file = std::fs::File::options().write(true).open(temp.path().join("t/bad.json"));
        file.unwrap().set_len(1).unwrap();

        assert_eq!(table.scan().unwrap(), [("good".to_owned(), vec![1])]);
        assert!(temp.path().join("t/bad.json.damaged").exists());
        std::fs::File::create(temp.path().join("t/empty.json")).unwrap();
        assert_eq!(table.scan().unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(temp.path().join("t")).unwrap().count(), 2);
        table.put("bad", &vec![3]).unwrap();
        assert_eq!(table.get("bad").unwrap(), Some(vec![3]));
    }

    #[test]
    fn a_key_that_is_a_path_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for key in ["", "..", "../x", "a/b", ".hidden"] {
            assert!(table(&temp).put(key, &vec![]).is_err(), "{key}");
        }
    }
}
