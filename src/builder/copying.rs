//! COPY and ADD as steps: where the files come from, under which key, and into a layer.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cais_dockerfile::Source;
use cais_dockerfile::chmod::Chmod;
use cais_dockerfile::dockerignore::Matcher;
use cais_dockerfile::instruction::{Add, Copy, InlineFile, Sources};
use cais_dockerfile::remote::{Git, Remote};

use super::copy::{Contents, Excludes, Found, Owners, Ownership, Placing, digest, find, place};
use super::key::Key;
use super::progress::Failure;
use super::stage::Stage;
use super::{Context, blocking};
use super::{download, git};
use crate::engine::cells::owner_in;
use crate::engine::files::below_root;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::{Stack, StackedLayer};

/// Of copying files that change meanwhile.
const MOST_TRIES: usize = 2;

/// What COPY and ADD have in common, with its values put in.
struct Request {
    keyword: &'static str,
    paths: Vec<String>,
    files: Vec<InlineFile>,
    destination: String,
    chown: String,
    chmod: String,
    exclude: Vec<String>,
    is_linked: bool,
    has_parents: bool,
    /// Downloads, and trees of archives: under these names, below their own roots.
    more: Vec<download::Fetched>,
}

/// Where the paths are looked for.
#[derive(Clone)]
pub(super) enum Origin {
    Context(Context),
    /// A stage or an image, by what its files were made from.
    Stack(Stack, Digest),
    Nothing,
}

impl Stage {
    pub(super) async fn copy(
        &mut self,
        copy: &Copy,
        source: Option<&Source>,
        created_by: &str,
    ) -> Result<(), Failure> {
        let Sources { paths, files, destination } = copy.sources.clone();
        let origin = self.origin_of(&paths, source.unwrap_or(&Source::Context)).await?;
        let request = Request {
            keyword: "COPY",
            paths,
            files,
            destination,
            chown: copy.chown.clone(),
            chmod: copy.chmod.clone(),
            exclude: copy.exclude.clone(),
            is_linked: copy.link,
            has_parents: copy.parents,
            more: Vec::new(),
        };
        self.bring(origin, request, created_by).await
    }

    pub(super) async fn add(&mut self, add: &Add, created_by: &str) -> Result<(), Failure> {
        let Sources { paths, files, destination } = add.sources.clone();
        if !add.checksum.is_empty() && paths.len() + files.len() != 1 {
            return Err(Error::invalid("checksum can't be specified for multiple sources").into());
        }
        let (mut plain, mut more) = (Vec::new(), Vec::new());
        for path in paths {
            match Remote::parse(&path).map_err(|fault| Error::invalid(fault.to_string()))? {
                Some(Remote::Git(address)) => {
                    more.push(git::check_out(self, of(add, address)).await?);
                }
                Some(Remote::Http) => {
                    let unpacks = add.unpack == Some(true);
                    more.push(download::fetch(self, &path, &add.checksum, unpacks).await?);
                }
                None if !add.checksum.is_empty() => {
                    return Err(Error::invalid("checksum requires HTTP(S) or Git sources").into());
                }
                None if add.unpack == Some(false) => plain.push(path),
                None => {
                    let (trees, others) = download::archives(self, &path).await?;
                    more.extend(trees);
                    plain.extend(others);
                }
            }
        }
        let request = Request {
            keyword: "ADD",
            paths: plain,
            files,
            destination,
            chown: add.chown.clone(),
            chmod: add.chmod.clone(),
            exclude: add.exclude.clone(),
            is_linked: add.link,
            has_parents: false,
            more,
        };
        let origin = self.origin_of(&request.paths, &Source::Context).await?;
        self.bring(origin, request, created_by).await
    }

    /// What stands in the Dockerfile, or elsewhere, needs no context.
    async fn origin_of(&self, paths: &[String], source: &Source) -> Result<Origin, Failure> {
        match (paths.is_empty(), source) {
            (true, Source::Context) => Ok(Origin::Nothing),
            (_, source) => self.origin(source).await,
        }
    }

    /// The files that an instruction names with `--from`.
    pub(super) async fn origin(&self, source: &Source) -> Result<Origin, Failure> {
        Ok(match source {
            Source::Context => Origin::Context(self.build.context().await?),
            Source::Scratch => Origin::Nothing,
            Source::Stage(index) => {
                let finished = self.build.finished(*index).await?;
                Origin::Stack(finished.stack.clone(), finished.key.clone())
            }
            Source::Image(name) => {
                let platform = &self.build.plan.platform;
                if let Some(context) = self.build.named_context(name, platform).await? {
                    return Ok(Origin::Context(context));
                }
                let base = self.build.image(name, platform).await?;
                Origin::Stack(base.stack.clone(), base.key())
            }
        })
    }

    /// All of them, as they are.
    pub(super) async fn files(&mut self, files: Context, created_by: &str) -> Result<(), Failure> {
        let request = Request {
            keyword: "FROM",
            paths: vec![".".to_owned()],
            files: Vec::new(),
            destination: "/".to_owned(),
            chown: String::new(),
            chmod: String::new(),
            exclude: Vec::new(),
            is_linked: false,
            has_parents: false,
            more: Vec::new(),
        };
        self.bring(Origin::Context(files), request, created_by).await
    }

    async fn bring(
        &mut self,
        origin: Origin,
        request: Request,
        created_by: &str,
    ) -> Result<(), Failure> {
        let count = request.paths.len() + request.files.len() + request.more.len();
        if count > 1 && !request.destination.ends_with('/') {
            let keyword = request.keyword;
            return Err(Error::invalid(format!(
                "When using {keyword} with more than one source file, the destination must be a \
                 directory and end with a /"
            ))
            .into());
        }
        let chmod = match request.chmod.as_str() {
            "" => None,
            text => Some(Chmod::parse(text).map_err(Error::invalid)?),
        };
        let work = Arc::new(Work {
            origin,
            stack: self.stack.clone(),
            target: self.target(&request.destination),
            chmod,
            latest: self.build.latest,
            excludes: Matcher::new(&request.exclude).map_err(Error::invalid)?,
            contents: self.build.builder.contents.clone(),
            request,
        });
        let below = match work.request.is_linked {
            // It lies on any layers, and is found on any.
            true if !has_names(&work.request.chown) => Key::new("scratch").finish(),
            // The names are looked up in the stage's files.
            true => Key::new("scratch").with("names of", self.key.hex()).finish(),
            false => self.key.clone(),
        };
        let (key, layer) = self.found_or_made(&work, &below, created_by).await?;
        // What lies on a layer that is bound to nothing is made from all below it.
        let key = match work.request.is_linked {
            true => Key::new("on").with("below", self.key.hex()).with("layer", key.hex()).finish(),
            false => key,
        };
        self.take(key, layer, created_by);
        Ok(())
    }

    /// A layer, and the key of what is in it: of files that change meanwhile that is told by what they are
    /// when they have been copied.
    async fn found_or_made(
        &mut self,
        work: &Arc<Work>,
        below: &Digest,
        created_by: &str,
    ) -> Result<(Digest, StackedLayer), Failure> {
        let key = || {
            let (work, below) = (work.clone(), below.clone());
            blocking(move || work.key(&below))
        };
        let mut current = key().await.map_err(failed(work))?;
        let mut attempt = 1;
        loop {
            if let Some(layer) = self.find(&current).await {
                return Ok((current, layer));
            }
            let (store, there) = (self.build.store().clone(), work.clone());
            let made = blocking(move || there.layer(&store)).await;
            let after = match work.may_change() {
                true => key().await.map_err(failed(work))?,
                false => current.clone(),
            };
            if after == current {
                let layer = made.map_err(failed(work))?;
                self.keep(&current, &layer, created_by);
                return Ok((current, layer));
            }
            if attempt == MOST_TRIES {
                // Something that never rests, as a log: it is taken as it came, and never found again.
                let layer = made.map_err(failed(work))?;
                let unsettled = Key::new("unsettled").with("last", after.hex());
                let at = jiff::Timestamp::now().as_nanosecond().to_le_bytes();
                return Ok((unsettled.with("at", at).finish(), layer));
            }
            current = after;
            attempt += 1;
        }
    }

    /// Below the root, and whether it is that of a directory.
    fn target(&self, destination: &str) -> (PathBuf, bool) {
        let whole = Path::new(&self.settings.working_dir()).join(destination);
        let is_directory = destination.ends_with('/')
            || matches!(destination.rsplit('/').next(), Some("." | ".."));
        (below_root(&whole.to_string_lossy()), is_directory)
    }
}

fn failed(work: &Work) -> impl Fn(Error) -> Failure {
    let keyword = work.request.keyword;
    move |error| Error::new(error.kind(), format!("{keyword} failed: {}", error.chain())).into()
}

/// What the flags of ADD say of a repository goes before what its address says.
fn of(add: &Add, address: Git) -> Git {
    let checksum = match add.checksum.as_str() {
        "" => address.checksum,
        given => given.to_owned(),
    };
    Git { checksum, keep_git_dir: add.keep_git_dir.or(address.keep_git_dir), ..address }
}

/// Whether an owner's number stands in a file.
fn has_names(chown: &str) -> bool {
    !chown.is_empty() && chown.split(':').any(|part| part.parse::<u32>().is_err())
}

/// One COPY or ADD; for threads that may block.
struct Work {
    origin: Origin,
    stack: Stack,
    target: (PathBuf, bool),
    chmod: Option<Chmod>,
    latest: Option<i64>,
    excludes: Matcher,
    contents: Contents,
    request: Request,
}

/// Sources that were found below one root, which is held open.
struct Opened {
    _root: OwnedFd,
    found: Vec<Found>,
}

impl Work {
    fn may_change(&self) -> bool {
        matches!(&self.origin, Origin::Context(context) if context.may_change())
    }

    /// What is left out of all sources.
    fn excludes(&self) -> Excludes<'_> {
        Excludes { hidden: None, below: Some(&self.excludes) }
    }

    /// The same of those that lie at the origin.
    fn excludes_there(&self) -> Excludes<'_> {
        match &self.origin {
            Origin::Context(context) => {
                Excludes { below: Some(&self.excludes), ..context.excludes() }
            }
            Origin::Stack(..) | Origin::Nothing => self.excludes(),
        }
    }

    /// What a client's files are is told by their content, what a stage's are by what made them.
    fn key(&self, below: &Digest) -> Result<Digest> {
        let Request { chown, chmod, exclude, has_parents, paths, files, more, .. } = &self.request;
        let (target, is_directory) = &self.target;
        let mut key = Key::new("copy")
            .with("below", below.hex())
            .with("target", target.as_os_str().as_encoded_bytes())
            .with("is directory", [u8::from(*is_directory)])
            .with("chown", chown)
            .with("chmod", chmod)
            .with_all("exclude", exclude)
            .with("parents", [u8::from(*has_parents)])
            .with_all("paths", paths);
        key = match &self.origin {
            Origin::Context(context) => {
                let mut all = Vec::new();
                for path in paths {
                    all.extend(context.find(path)?);
                }
                let content =
                    digest(&all, Owners::AreNobodys, &self.contents, self.excludes_there())?;
                key.with("content", content.hex())
            }
            Origin::Stack(_, made_from) => key.with("stage", made_from.hex()),
            Origin::Nothing => key,
        };
        for file in files {
            key = key.with("name", &file.name).with("file", &file.content);
        }
        for fetched in more {
            let found = fetched.found()?;
            let content = digest(&found, fetched.owners(), &self.contents, self.excludes())?;
            key = key.with("fetched", content.hex());
        }
        Ok(key.finish())
    }

    fn layer(&self, store: &crate::image::ImageStore) -> Result<StackedLayer> {
        let below = match self.request.is_linked {
            true => Stack::default(),
            false => self.stack.clone(),
        };
        let site = store.begin_site(&below, self.latest, None)?;
        let owner = self.owner(store, site.mount())?;
        let target = (self.target.0.as_path(), self.target.1);
        let placing = |owner| Placing {
            owner,
            chmod: self.chmod.as_ref(),
            excludes: self.excludes(),
            parents: self.request.has_parents,
        };
        let opened = self.open(store)?;
        let own = match (&self.origin, owner) {
            (_, Some((uid, gid))) => Ownership::Given(uid, gid),
            (Origin::Context(_), None) => Ownership::Given(0, 0),
            (Origin::Stack(..) | Origin::Nothing, None) => Ownership::Kept,
        };
        for Opened { found, .. } in &opened {
            let placing = Placing { excludes: self.excludes_there(), ..placing(own) };
            place(site.mount(), found, target, &placing)?;
        }
        let given = owner.unwrap_or_default();
        for fetched in &self.request.more {
            let own = match (owner, fetched.owners()) {
                (None, Owners::Count) => Ownership::Kept,
                (_, _) => Ownership::Given(given.0, given.1),
            };
            let target = fetched.target(target);
            place(site.mount(), &fetched.found()?, target, &placing(own))?;
        }
        for file in &self.request.files {
            let written = download::inline(store, file)?;
            let own = Ownership::Given(given.0, given.1);
            place(site.mount(), &written.found()?, target, &placing(own))?;
        }
        site.finish()
    }

    fn open(&self, store: &crate::image::ImageStore) -> Result<Vec<Opened>> {
        let (root, paths) = match &self.origin {
            Origin::Context(context) => {
                let root = context.root().try_clone_to_owned();
                (root.map_err(|error| Error::internal(error.to_string()))?, &self.request.paths)
            }
            Origin::Stack(stack, _) => (store.mount_stack(stack, None)?, &self.request.paths),
            Origin::Nothing => match self.request.paths.first() {
                None => return Ok(Vec::new()),
                Some(path) => {
                    return Err(Error::not_found(format!("{path}: file does not exist")));
                }
            },
        };
        let mut found = Vec::new();
        for path in paths {
            found.extend(match &self.origin {
                Origin::Context(context) => context.find(path)?,
                Origin::Stack(..) | Origin::Nothing => find(root.as_fd(), path)?,
            });
        }
        if found.len() > 1 && !self.target.1 && self.request.paths.len() == 1 {
            return Err(Error::invalid(format!(
                "When using {} with more than one source file, the destination must be a \
                 directory and end with a /",
                self.request.keyword
            )));
        }
        Ok(vec![Opened { _root: root, found }])
    }

    /// Names are those of the image that the files go into.
    fn owner(
        &self,
        store: &crate::image::ImageStore,
        root: std::os::fd::BorrowedFd<'_>,
    ) -> Result<Option<(u32, u32)>> {
        if self.request.chown.is_empty() {
            return Ok(None);
        }
        if !self.request.is_linked {
            return owner_in(root, &self.request.chown).map(Some);
        }
        let below = store.mount_stack(&self.stack, None)?;
        owner_in(below.as_fd(), &self.request.chown).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_name_or_a_number() {
        for (chown, expected) in [
            ("", false),
            ("5", false),
            ("5:6", false),
            ("web", true),
            ("5:web", true),
            ("web:6", true),
        ] {
            assert_eq!(has_names(chown), expected, "{chown}");
        }
    }
}
