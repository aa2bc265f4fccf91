//! A build's context: the files that a client sent, in a directory of their own.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, OFlags};

use super::copy::make_directory;
use crate::engine::files::{below_root, open_below};
use crate::error::{Context as _, Error, Result};
use crate::image::{ImageStore, TreeUpload, Workplace};

const FILES: &str = "context";
const IGNORE: &str = ".dockerignore";

/// A Dockerfile, or what else is read whole.
pub(super) const LARGEST_FILE: u64 = 4 << 20;

/// The directory goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    root: Arc<OwnedFd>,
    workplace: Arc<Workplace>,
}

/// A context as its archive arrives, plain or compressed.
pub(crate) struct ContextUpload {
    upload: TreeUpload,
    context: Context,
}

impl ContextUpload {
    pub(super) fn begin(store: &ImageStore) -> Result<Self> {
        let context = Context::begin(store)?;
        let upload = TreeUpload::begin(&context.directory(), context.workplace.clone())?;
        Ok(Self { upload, context })
    }

    pub(super) fn tree(&self) -> &TreeUpload {
        &self.upload
    }

    /// False if nothing more is wanted: [`Self::finish`] tells why.
    pub(crate) async fn push(&self, bytes: Bytes) -> bool {
        self.upload.push(bytes).await
    }

    pub(crate) async fn finish(self) -> Result<Context> {
        self.upload.finish().await.context("read the build context")?;
        Ok(self.context)
    }
}

impl Context {
    /// Without files.
    pub(super) fn begin(store: &ImageStore) -> Result<Self> {
        let workplace = Arc::new(store.workplace()?);
        let directory = workplace.make(FILES, 0o755)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&directory, flags, rustix::fs::Mode::empty())
            .context("open the build context")?;
        Ok(Self::at(root, workplace))
    }

    /// `root` is that of [`Self::directory`].
    pub(super) fn at(root: OwnedFd, workplace: Arc<Workplace>) -> Self {
        Self { root: Arc::new(root), workplace }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// For the daemon's own use: where it put the files.
    pub(super) fn directory(&self) -> std::path::PathBuf {
        self.workplace.path().join(FILES)
    }

    /// The text of a regular file of moderate size; `None` if there is none.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else of that name.
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>> {
        let below = below_root(path);
        if below.as_os_str().is_empty() {
            return Ok(None);
        }
        // To open a device, or a FIFO, would already do something.
        let Ok(found) = open_below(&*self.root, &below, OFlags::PATH) else { return Ok(None) };
        let stat = rustix::fs::fstat(&found).with_context(|| format!("stat {path}"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::invalid(format!("{path} is not a regular file")));
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()));
        let file = file.with_context(|| format!("open {path}"))?;
        let mut bytes = Vec::new();
        let read = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("read {path}"))?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(Error::invalid(format!("{path} is larger than {LARGEST_FILE} bytes")));
        }
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| Error::invalid(format!("{path} is not UTF-8 text")))
    }

    pub(super) fn ignore_text(&self) -> Result<Option<String>> {
        self.text(IGNORE)
    }

    /// Takes the Dockerfile and `.dockerignore` out of the files, if they are to be ignored. A client
    /// sends them all the same, and leaves everything else out by itself.
    pub(super) fn hide(&self, dockerfile: &str, is_ignored: &dyn Fn(&Path) -> bool) -> Result<()> {
        for name in [below_root(dockerfile), below_root(IGNORE)] {
            if is_ignored(&name) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let above = path.parent().unwrap_or(Path::new(""));
        let above = make_directory(self.root(), above, (0, 0))?;
        match rustix::fs::unlinkat(&above, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).with_context(|| format!("remove {}", path.display())),
        }
    }
}
