//! Contexts that are elsewhere: git repositories, and archives or Dockerfiles behind an address.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use cais_dockerfile::remote::{Git, Remote};

use super::context::{Context, ContextUpload, LARGEST_FILE};
use super::download::{download, is_archive, pour, without_secrets};
use super::{Builder, blocking, git};
use crate::error::{Context as _, Error, Kind, Result};
use crate::image::{ImageStore, Workplace};

/// The name that a Dockerfile has which comes alone.
pub(crate) const DOCKERFILE: &str = "Dockerfile";
/// Addresses of this host need no scheme.
const GITHUB: &str = "github.com/";

/// A context that was fetched.
pub(crate) struct FetchedContext {
    pub(crate) context: Context,
    /// The address is that of a Dockerfile: there is nothing else, whatever it is called.
    pub(crate) is_dockerfile: bool,
}

/// Where a context is that is not the client's own.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Git(Git),
    Http(String),
}

impl Address {
    /// `None` for what is no address: a path of the client's.
    ///
    /// # Errors
    /// `InvalidArgument` for the address of a repository that says something of it that cannot be.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        let whole = with_scheme(text);
        let remote = Remote::parse(&whole).map_err(|fault| Error::invalid(fault.to_string()))?;
        Ok(remote.map(|remote| match remote {
            Remote::Git(git) => Self::Git(git),
            Remote::Http => Self::Http(whole),
        }))
    }

    /// For people, and without a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Git(git) => without_secrets(&git.remote),
            Self::Http(url) => without_secrets(url),
        }
    }
}

/// `github.com/a/b#ref` is `https://github.com/a/b.git#ref`.
fn with_scheme(text: &str) -> String {
    if !text.starts_with(GITHUB) {
        return text.to_owned();
    }
    let end = text.find(['#', '?']).unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let suffix = if path.ends_with(".git") { "" } else { ".git" };
    format!("https://{path}{suffix}{rest}")
}

impl Builder {
    /// Brings a context here. Who drops the future ends it.
    ///
    /// # Errors
    /// `Unavailable` with what the other side says; `InvalidArgument` for what is neither an archive nor a text.
    pub(crate) async fn fetch_context(
        &self,
        address: Address,
        keeps_git: bool,
    ) -> Result<FetchedContext> {
        let store = self.engine.images();
        let shown = format!("fetch the build context {}", address.shown());
        let fetched = match address {
            Address::Git(git) => {
                let git = Git { keep_git_dir: git.keep_git_dir.or(Some(keeps_git)), ..git };
                let context = git::context(store, git).await;
                context.map(|context| FetchedContext { context, is_dockerfile: false })
            }
            Address::Http(url) => fetch(store, &url).await,
        };
        fetched.context(shown)
    }
}

async fn fetch(store: &ImageStore, url: &str) -> Result<FetchedContext> {
    // The directory that it came into goes when it has been read.
    let (_downloaded, file) = download(store, url, None).await?;
    let (file, is_archive) = blocking(move || is_archive(&file).map(|is_it| (file, is_it))).await?;
    if is_archive {
        let upload = ContextUpload::begin(store)?;
        pour(file, upload.tree()).await?;
        return Ok(FetchedContext { context: upload.finish().await?, is_dockerfile: false });
    }
    let store = store.clone();
    let context = blocking(move || alone(&store, file)).await?;
    Ok(FetchedContext { context, is_dockerfile: true })
}

/// A context of a Dockerfile alone.
fn alone(store: &ImageStore, mut file: File) -> Result<Context> {
    use std::io::Seek;

    file.rewind().context("read")?;
    let mut text = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut text).context("read")?;
    if text.len() as u64 > LARGEST_FILE || std::str::from_utf8(&text).is_err() {
        return Err(Error::invalid("it is neither an archive nor a Dockerfile"));
    }
    let context = Context::begin(store)?;
    let path = context.directory()?.join(DOCKERFILE);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    made.context("keep a Dockerfile")?.write_all(&text).context("keep a Dockerfile")?;
    Ok(context)
}

impl Context {
    /// Of a directory in a workplace, which is moved to the place of a context. Blocks.
    pub(super) fn of(workplace: Arc<Workplace>, root: OwnedFd) -> Result<Self> {
        let link = format!("/proc/self/fd/{}", root.as_raw_fd());
        let path = std::fs::read_link(link).context("find a context")?;
        if !path.starts_with(workplace.path()) {
            return Err(Error::new(Kind::Internal, "a context lies outside"));
        }
        let context = Self::at(root, workplace);
        std::fs::rename(&path, context.directory()?).context("move a context")?;
        Ok(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        let parse = |text: &str| Address::parse(text).unwrap();
        for path in [".", "/srv/x", "a@b", "github.co/a"] {
            assert!(parse(path).is_none(), "{path}");
        }
        for (text, expected) in [
            ("github.com/a/b#main:sub", "https://github.com/a/b.git"),
            ("github.com/a/b.git", "https://github.com/a/b.git"),
            ("https://u:p@x.io/a.git?ref=v1", "https://x.io/a.git"),
            ("git@x.io:a/b", "git@x.io:a/b"),
        ] {
            let address = parse(text).unwrap();
            assert!(matches!(address, Address::Git(_)), "{text}");
            assert_eq!(address.shown(), expected);
        }
        let Some(Address::Git(git)) = parse("github.com/a/b#main:sub") else { panic!("no git") };
        assert_eq!((git.reference.as_str(), git.directory.as_str()), ("main", "sub"));
        let http = parse("http://x.io/a.tar.gz?token=secret").unwrap();
        assert!(matches!(&http, Address::Http(url) if url.ends_with("secret")));
        assert_eq!(http.shown(), "http://x.io/a.tar.gz");
        assert!(Address::parse("https://x.io/a.git?nonsense=1").is_err());
    }
}
