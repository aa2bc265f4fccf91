//! Into a container: an archive, unpacked below a directory of it.
//!
//! What the client sends goes to a file without a name first, so that nothing of the container is
//! held or changed while a client takes its time, hangs up, or sends nonsense.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;

use super::read::not_found;
use super::view;
use crate::engine::making::nameless;
use crate::engine::standalone::Standalone;
use crate::engine::{Shared, operation};
use crate::error::{Context, Error, Result};
use crate::image::{Overwrite, extract};

/// An archive as it arrives.
pub(crate) struct Upload {
    file: tokio::fs::File,
}

impl Upload {
    pub(crate) fn begin(shared: &Shared) -> Result<Self> {
        Ok(Self { file: nameless(&shared.layout)?.into() })
    }

    pub(crate) async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).await.context("keep the archive")
    }

    pub(in crate::engine) async fn finish(mut self) -> Result<File> {
        self.file.flush().await.context("keep the archive")?;
        Ok(self.file.into_std().await)
    }
}

/// # Errors
/// `NotFound` if there is no such directory; `InvalidArgument` if it is none, if nothing can be
/// written there, and for an archive that cannot be unpacked; then nothing was.
pub(crate) async fn write(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    path: &str,
    upload: Upload,
    rule: Overwrite,
) -> Result<()> {
    let path = path.to_owned();
    let archive = upload.finish().await?;
    operation::run(async move {
        let _at_rest = container.lock_if_at_rest().await;
        container.check_there(&shared)?;
        let record = container.record();
        let directory = {
            let view = view::to_write(&shared, &record, &path)?;
            let opened = view.open(OFlags::PATH | OFlags::DIRECTORY);
            opened.map_err(|errno| match errno {
                Errno::NOTDIR => Error::invalid("extraction point is not a directory"),
                other => not_found(other, &record, &path),
            })?
        };
        extract(archive, directory, rule).await.map_err(read_only)
    })
    .await
}

/// A container's own mounts say what cannot be written.
fn read_only(error: Error) -> Error {
    let mut cause = std::error::Error::source(&error);
    while let Some(link) = cause {
        if link.downcast_ref::<Errno>() == Some(&Errno::ROFS) {
            return Error::invalid("container rootfs is marked read-only");
        }
        cause = link.source();
    }
    error
}
