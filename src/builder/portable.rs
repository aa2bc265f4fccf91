//! Cache mounts that leave for another node, or come from one: archives of their files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Builder, blocking};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::pack::{self, Extent};
use crate::image::pieces::{self, Pieces};
use crate::image::{TreeUpload, Workplace};

/// Digits of a name that tell it from others, as they do for images.
const FEWEST_DIGITS: usize = 4;

/// A cache as its archive arrives, plain or compressed.
pub(crate) struct CacheUpload {
    builder: Builder,
    id: String,
    upload: TreeUpload,
    /// The directory goes with it, unless it became the cache.
    workplace: Arc<Workplace>,
}

impl Builder {
    /// All files of a cache, by the id that commands have for it, or by its name in lists (`system df`). Commands that lock it
    /// wait meanwhile; what those do that share it may be seen half done, as they see it of each other.
    ///
    /// # Errors
    /// `NotFound`
    pub(crate) async fn export_cache(&self, id: &str) -> Result<Pieces> {
        let lock = self.lock_of(id).lock_owned().await;
        let store = self.engine.images();
        let own = Digest::of(id.as_bytes());
        let mut found = store.caches().into_iter().filter(|(name, ..)| {
            name == own.hex() || (id.len() >= FEWEST_DIGITS && name.starts_with(id))
        });
        let (Some((name, cache, _)), None) = (found.next(), found.next()) else {
            return Err(Error::not_found(format!("no cache mount is called {id:?}")));
        };
        let name = Digest::parse(&format!("sha256:{name}"))
            .map_err(|_| Error::internal(format!("{name} is no name of a cache")))?;
        let lease = store.lease_cache(&name, &cache.description);
        let root = File::open(lease.directory()).context("open the cache")?.into();
        Ok(pieces::send(move |out| {
            let _held = (lease, lock);
            pack::write_as(&root, Path::new("."), Extent::OneMount, out)
        }))
    }

    /// Room for a cache that commands will find by this id.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one; `InvalidArgument` without an id.
    pub(crate) async fn begin_cache(&self, id: &str) -> Result<CacheUpload> {
        if id.is_empty() || id.contains('\0') {
            return Err(Error::invalid("a cache mount needs an id"));
        }
        self.check_is_new(id)?;
        let store = self.engine.images().clone();
        let (workplace, directory) = blocking(move || {
            let workplace = Arc::new(store.workplace()?);
            let directory = workplace.make(FILES, 0o755)?;
            Ok((workplace, directory))
        })
        .await?;
        let upload = TreeUpload::begin(&directory, workplace.clone())?;
        Ok(CacheUpload { builder: self.clone(), id: id.to_owned(), upload, workplace })
    }

    fn check_is_new(&self, id: &str) -> Result<()> {
        let name = Digest::of(id.as_bytes());
        let is_there = self.engine.images().caches().iter().any(|(it, ..)| it == name.hex());
        match is_there {
            false => Ok(()),
            true => Err(Error::new(
                Kind::AlreadyExists,
                format!(
                    "the cache mount {id:?} is there: remove it with `builder prune --filter id={}`",
                    name.hex()
                ),
            )),
        }
    }
}

/// In the workplace.
const FILES: &str = "cache";

impl CacheUpload {
    /// False if nothing more is wanted: [`Self::finish`] tells why.
    pub(crate) async fn push(&self, bytes: Bytes) -> bool {
        self.upload.push(bytes).await
    }

    /// # Errors
    /// `InvalidArgument` for what is no archive; `AlreadyExists` if a command made it meanwhile.
    pub(crate) async fn finish(self) -> Result<()> {
        let Self { builder, id, upload, workplace } = self;
        upload.finish().await?;
        builder.check_is_new(&id)?;
        blocking(move || {
            let description = format!("cached mount with id {id:?}");
            let name = Digest::of(id.as_bytes());
            let lease = builder.engine.images().lease_cache(&name, &description);
            lease.add(&workplace.path().join(FILES))
        })
        .await
    }
}
