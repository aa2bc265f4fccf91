//! A build's context: the files that a client sent, in a directory of their own, or its own
//! directory, read where it is.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cais_dockerfile::dockerignore::{self, Matcher};
use rustix::fs::{AtFlags, FileType, OFlags};

use super::copy::{Excludes, Found, Ownership, Placing, find, make_directory, missing, place};
use crate::engine::files::{below_root, open_below};
use crate::error::{Context as _, Error, Kind, Result};
use crate::image::{ImageStore, TreeUpload, Workplace};

const FILES: &str = "context";
const IGNORE: &str = ".dockerignore";

/// A Dockerfile, or what else is read whole.
pub(super) const LARGEST_FILE: u64 = 4 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Context {
    root: Arc<OwnedFd>,
    files: Files,
}

#[derive(Debug, Clone)]
enum Files {
    /// The directory goes with it.
    Sent(Arc<Workplace>),
    InPlace(Arc<InPlace>),
}

/// A directory of the client's: nothing in it is changed, and it may change at any time.
#[derive(Debug)]
struct InPlace {
    /// What is not a part of the context.
    ignored: Matcher,
    /// Made when files are needed that stay as they are.
    copy: Mutex<Option<Context>>,
}

/// A directory of this machine, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A context as its archive arrives, plain or compressed.
pub(crate) struct ContextUpload {
    upload: TreeUpload,
    context: Context,
}

impl ContextUpload {
    pub(super) fn begin(store: &ImageStore) -> Result<Self> {
        let context = Context::begin(store)?;
        let upload = TreeUpload::begin(&context.directory()?, context.workplace()?.clone())?;
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

    /// `root` is that of a workplace's directory of this name.
    pub(super) fn at(root: OwnedFd, workplace: Arc<Workplace>) -> Self {
        Self { root: Arc::new(root), files: Files::Sent(workplace) }
    }

    /// A directory that the client and the daemon both see, without what a `.dockerignore` leaves
    /// out.
    ///
    /// # Errors
    /// `WrongState` if it is another one for us than for the client: they are on different machines,
    /// or one is in a container.
    pub(super) fn in_place(directory: &Directory, ignore: Option<&str>) -> Result<Self> {
        let elsewhere = || {
            let text = format!("{} is another directory for the daemon", directory.path.display());
            Error::new(Kind::WrongState, text)
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&directory.path, flags, rustix::fs::Mode::empty());
        let root = root.map_err(|_| elsewhere())?;
        let stat = rustix::fs::fstat(&root).context("stat the build context")?;
        if (stat.st_dev, stat.st_ino) != (directory.device, directory.inode) {
            return Err(elsewhere());
        }
        let patterns = ignore.map(|text| dockerignore::parse(text.as_bytes())).unwrap_or_default();
        let ignored = Matcher::new(&patterns).map_err(Error::invalid)?;
        let files = Files::InPlace(Arc::new(InPlace { ignored, copy: Mutex::default() }));
        Ok(Self { root: Arc::new(root), files })
    }

    /// Whether its files may change while they are read.
    pub(super) fn may_change(&self) -> bool {
        matches!(self.files, Files::InPlace(_))
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What of the directory is no part of the context.
    pub(super) fn excludes(&self) -> Excludes<'_> {
        let hidden = match &self.files {
            Files::Sent(_) => None,
            Files::InPlace(files) => Some(&files.ignored),
        };
        Excludes { hidden, below: None }
    }

    /// What a source leads to, as [`find`] has it.
    ///
    /// # Errors
    /// `NotFound` if that is nothing, or hidden.
    pub(super) fn find(&self, source: &str) -> Result<Vec<Found>> {
        let mut found = find(self.root(), source)?;
        for one in &mut found {
            one.is_root = one.path.as_os_str().is_empty();
        }
        let Files::InPlace(files) = &self.files else { return Ok(found) };
        // An archive has none.
        found.retain(|one| !one.is_socket());
        let (excludes, may_take_back) = (self.excludes(), files.ignored.has_exclusions());
        let is_hidden =
            |path: &Path| !path.as_os_str().is_empty() && excludes.leaves_out(Path::new(""), path);
        let mut seen = Vec::new();
        for one in found {
            // An ignored link leads nowhere, and a link to what is ignored neither.
            if is_hidden(&one.path) && !may_take_back {
                continue;
            }
            let one = one.placed(self.root())?;
            let place = (Path::new(""), one.place.as_path());
            let is_seen = !is_hidden(&one.place)
                || one.is_directory()
                    && may_take_back
                    && excludes.takes_back(one.open()?.as_fd(), place)?;
            if is_seen {
                seen.push(one);
            }
        }
        if seen.is_empty() { Err(missing(source)) } else { Ok(seen) }
    }

    fn workplace(&self) -> Result<&Arc<Workplace>> {
        match &self.files {
            Files::Sent(workplace) => Ok(workplace),
            Files::InPlace(_) => Err(Error::internal("a context that is not ours")),
        }
    }

    /// For the daemon's own use: where it put the files.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        Ok(self.workplace()?.path().join(FILES))
    }

    /// The same files where nobody changes them: a copy of a directory that is read in place, the
    /// same one whenever this is asked. Blocks.
    pub(super) fn kept_still(&self, store: &ImageStore) -> Result<Self> {
        let Files::InPlace(files) = &self.files else { return Ok(self.clone()) };
        let mut copy = files.copy.lock().unwrap_or_else(PoisonError::into_inner);
        match &*copy {
            Some(copy) => Ok(copy.clone()),
            None => Ok(copy.insert(self.copied(store)?).clone()),
        }
    }

    /// With the owner that a client's files have.
    fn copied(&self, store: &ImageStore) -> Result<Self> {
        let copy = Self::begin(store)?;
        let placing = Placing {
            owner: Ownership::Given(0, 0),
            chmod: None,
            excludes: self.excludes(),
            parents: false,
        };
        place(copy.root(), &self.find("/")?, (Path::new(""), true), &placing)
            .context("copy the build context")?;
        Ok(copy)
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
