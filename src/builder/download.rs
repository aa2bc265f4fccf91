//! What ADD brings that is no plain file of the context: downloads, and the trees of archives; and
//! files whose content stands in the Dockerfile.
//!
//! Each comes into a directory of its own first. From there it is copied as any other source is.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cais_dockerfile::instruction::InlineFile;
use percent_encoding::percent_decode_str;
use rustix::fs::{FileType, OFlags, Timespec, Timestamps};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::blocking;
use super::copy::{Found, Owners, find};
use super::progress::Failure;
use super::stage::Stage;
use crate::engine::files::open_below;
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::{Digest, Hasher};
use crate::image::{ImageStore, TreeUpload, Workplace};

/// What a download may be.
const LARGEST: u64 = 20 << 30;
const MOST_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(30);
/// As long a server may send nothing.
const SILENCE: Duration = Duration::from_secs(60);
const PIECE: usize = 256 << 10;
/// Where the magic of a tar archive stands (POSIX ustar).
const USTAR: usize = 257;
/// A member's head in a tar archive.
const HEADER: u64 = 512;

const TREE: &str = "tree";

/// Files in a directory of their own, which goes with this.
pub(super) struct Fetched {
    root: OwnedFd,
    /// The one file in it; `None`: the whole tree is meant.
    name: Option<String>,
    owners: Owners,
    /// As it was asked for.
    pub(super) shown: String,
    _workplace: Arc<Workplace>,
}

impl Fetched {
    /// A whole directory of a workplace.
    pub(super) fn tree(
        root: OwnedFd,
        owners: Owners,
        shown: String,
        workplace: Arc<Workplace>,
    ) -> Self {
        Self { root, name: None, owners, shown, _workplace: workplace }
    }

    pub(super) fn found(&self) -> Result<Vec<Found>> {
        find(self.root.as_fd(), &escaped(self.name.as_deref().unwrap_or_default()))
    }

    /// Archives say whose their members are.
    pub(super) fn owners(&self) -> Owners {
        self.owners
    }

    /// A tree goes into a directory.
    pub(super) fn target<'a>(&self, (path, is_directory): (&'a Path, bool)) -> (&'a Path, bool) {
        (path, is_directory || self.name.is_none())
    }
}

/// A name in which nothing means more than itself.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for letter in name.chars() {
        if matches!(letter, '*' | '?' | '[' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Downloads a file, and unpacks it if it is to be and can be.
pub(super) async fn fetch(
    stage: &Stage,
    url: &str,
    checksum: &str,
    unpacks: bool,
) -> Result<Fetched, Failure> {
    let wanted = match checksum {
        "" => None,
        text => Some(Digest::parse(text)?),
    };
    let download = download(stage.build.store(), url, wanted.as_ref());
    let downloaded = stage.build.unless_cancelled(download).await?;
    let (fetched, file) =
        downloaded.with_context(|| format!("ADD failed: {}", without_secrets(url)))?;
    if !unpacks {
        return Ok(fetched);
    }
    let (file, is_archive) = blocking(move || is_archive(&file).map(|is_it| (file, is_it))).await?;
    match is_archive {
        true => Ok(unpack(stage.build.store(), file, &fetched.shown).await?),
        false => Ok(fetched),
    }
}

/// Errors and the history show where a file came from, and no password.
pub(crate) fn without_secrets(url: &str) -> String {
    match (url.split_once("://"), url.split(['?', '#']).next()) {
        (Some((scheme, _)), Some(bare)) => {
            let rest = bare.get(scheme.len() + 3..).unwrap_or_default();
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        // `user@host:path` has no password.
        _ => url.to_owned(),
    }
}

pub(super) async fn download(
    store: &ImageStore,
    url: &str,
    wanted: Option<&Digest>,
) -> Result<(Fetched, File)> {
    let mut response = client()?
        .get(url)
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .context("download")
        .kind(Kind::Unavailable)?;
    if !response.status().is_success() {
        let status = response.status();
        return Err(Error::new(
            Kind::Unavailable,
            format!("invalid response status {}", status.as_u16()),
        ));
    }
    let modified = response.headers().get("last-modified").and_then(|it| it.to_str().ok());
    let modified = modified.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    let name = file_name(url);
    let (store, shown) = (store.clone(), without_secrets(url));
    let (fetched, file) = blocking(move || single(&store, &name, 0o600, shown)).await?;
    let mut file = tokio::fs::File::from_std(file);
    let mut hasher =
        Hasher::new(wanted.map_or(crate::image::digest::Algorithm::Sha256, Digest::algorithm));
    let mut size = 0;
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)
        .context("download")
        .kind(Kind::Unavailable)?
    {
        size += piece.len() as u64;
        if size > LARGEST {
            return Err(Error::new(Kind::Exhausted, format!("larger than {LARGEST} bytes")));
        }
        hasher.update(&piece);
        file.write_all(&piece).await.context("keep a download")?;
    }
    file.flush().await.context("keep a download")?;
    let file = file.into_std().await;
    let found = hasher.finish();
    if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
        return Err(Error::invalid(format!("digest mismatch {found}: {wanted}")));
    }
    if let Some(modified) = modified {
        let time = Timespec { tv_sec: modified.timestamp().as_second(), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).context("set times")?;
    }
    Ok((fetched, file))
}

fn client() -> Result<reqwest::Client> {
    // Only the first call sets it; others find it set.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("cais/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(reqwest::redirect::Policy::limited(MOST_REDIRECTS))
        .referer(false)
        .build()
        .context("set up downloads")
}

/// The last name of the path.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let (_, path) = path.split_once('/').unwrap_or_default();
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8_lossy().replace(['/', '\0'], "_");
    if matches!(name.as_str(), "" | "." | "..") { "download".to_owned() } else { name }
}

/// An empty file in a directory of its own.
fn single(store: &ImageStore, name: &str, mode: u32, shown: String) -> Result<(Fetched, File)> {
    let workplace = Arc::new(store.workplace()?);
    let directory = workplace.make(TREE, 0o700)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(directory.join(name))
        .with_context(|| format!("make {name}"))?;
    let fetched = Fetched {
        root: open(&directory)?,
        name: Some(name.to_owned()),
        owners: Owners::AreNobodys,
        shown,
        _workplace: workplace,
    };
    Ok((fetched, file))
}

pub(super) fn open(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, rustix::fs::Mode::empty())
        .with_context(|| format!("open {}", directory.display()))
}

/// A file whose content stands in the Dockerfile; for threads that may block.
pub(super) fn inline(store: &ImageStore, file: &InlineFile) -> Result<Fetched> {
    use std::io::Write;

    let name = file.name.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."));
    let name = name.unwrap_or("file");
    let (fetched, mut made) = single(store, name, 0o644, file.name.clone())?;
    made.write_all(file.content.as_bytes()).context("write a file")?;
    rustix::fs::fchmod(&made, rustix::fs::Mode::from_raw_mode(0o644)).context("chmod")?;
    Ok(fetched)
}

/// The trees of the archives that a path of the context leads to, and the paths of all else.
pub(super) async fn archives(
    stage: &Stage,
    path: &str,
) -> Result<(Vec<Fetched>, Vec<String>), Failure> {
    let (context, asked) = (stage.build.context().await?, path.to_owned());
    let looking = blocking(move || {
        let (mut archives, mut plain) = (Vec::new(), Vec::new());
        // What is missing is told by who copies it.
        for found in context.find(&asked).unwrap_or_default() {
            let opened = match found.is_directory() {
                true => None,
                false => {
                    open_below(context.root(), &found.path, OFlags::RDONLY | OFlags::NONBLOCK).ok()
                }
            };
            match opened.map(File::from).filter(|file| is_archive(file).unwrap_or(false)) {
                Some(file) => archives.push((file, found.path)),
                None => plain.push(found.path),
            }
        }
        Ok((archives, plain))
    });
    let (archives, plain): (Vec<(File, PathBuf)>, Vec<PathBuf>) = looking.await?;
    if archives.is_empty() {
        return Ok((Vec::new(), vec![path.to_owned()]));
    }
    let mut trees = Vec::new();
    for (file, path) in archives {
        let shown = path.display().to_string();
        let tree = unpack(stage.build.store(), file, &shown).await;
        trees.push(tree.with_context(|| format!("ADD failed: {shown}"))?);
    }
    let plain = plain.iter().map(|path| escaped(&path.to_string_lossy()));
    Ok((trees, plain.collect()))
}

/// By its first bytes, those that they are compressed from included. What bzip2 and xz hide is not
/// seen: it counts as an archive, which is then refused by name.
pub(super) fn is_archive(mut file: &File) -> Result<bool> {
    use std::io::Seek;

    if FileType::from_raw_mode(rustix::fs::fstat(file).context("stat")?.st_mode)
        != FileType::RegularFile
    {
        return Ok(false);
    }
    let mut start = Vec::new();
    file.rewind().context("read")?;
    file.take(HEADER).read_to_end(&mut start).context("read")?;
    file.rewind().context("read")?;
    let is_it = match start.as_slice() {
        [0x1f, 0x8b, ..] => is_tar(flate2::read::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(file).is_ok_and(is_tar),
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => true,
        plain => is_tar(plain),
    };
    file.rewind().context("read")?;
    Ok(is_it)
}

/// False for what cannot be read so far.
fn is_tar(content: impl Read) -> bool {
    let mut start = Vec::new();
    let read = content.take(HEADER).read_to_end(&mut start);
    read.is_ok() && start.get(USTAR..USTAR + 5) == Some(b"ustar")
}

async fn unpack(store: &ImageStore, file: File, shown: &str) -> Result<Fetched> {
    let workplace = Arc::new(store.workplace()?);
    let directory = workplace.make(TREE, 0o755)?;
    let upload = TreeUpload::begin(&directory, workplace.clone())?;
    pour(file, &upload).await?;
    upload.finish().await.context("unpack an archive")?;
    Ok(Fetched::tree(open(&directory)?, Owners::Count, shown.to_owned(), workplace))
}

/// All of an archive, as far as it is wanted.
pub(super) async fn pour(mut file: File, upload: &TreeUpload) -> Result<()> {
    use std::io::Seek;

    file.rewind().context("read an archive")?;
    let mut file = tokio::fs::File::from_std(file);
    let mut buffer = vec![0; PIECE];
    loop {
        let count = file.read(&mut buffer).await.context("read an archive")?;
        let read = buffer.get(..count).unwrap_or_default();
        if read.is_empty() || !upload.push(Bytes::copy_from_slice(read)).await {
            // The end of it tells why nothing more is wanted.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_compressed_is_an_archive_if_a_tar_archive_is_in_it() {
        let gzip = |content: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(content).unwrap();
            out.finish().unwrap()
        };
        let zstd = |content: &[u8]| zstd::encode_all(content, 1).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut tar::Header::new_ustar(), "name", std::io::empty()).unwrap();
        let (tar, text) = (tar.into_inner().unwrap(), b"no archive".repeat(100));
        for (content, expected) in [
            (tar.clone(), true),
            (gzip(&tar), true),
            (zstd(&tar), true),
            (text.clone(), false),
            (gzip(&text), false),
            (zstd(&text), false),
            (gzip(&tar)[..12].to_vec(), false),
            (Vec::new(), false),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            assert_eq!(is_archive(&file).unwrap(), expected, "{content:?}");
        }
    }

    #[test]
    fn a_download_is_called_as_its_url_ends_and_leads_nowhere() {
        for (url, name) in [
            ("https://a.b/c/d.tar.gz?x=1#y", "d.tar.gz"),
            ("http://a.b/c/", "c"),
            ("http://a.b", "download"),
            ("http://a.b/c/..", "download"),
            ("http://a.b/c/%2e%2e%2fetc", "..%2fetc"),
        ] {
            let name = name.replace("%2f", "_");
            assert_eq!(file_name(url), name, "{url}");
        }
        assert_eq!(without_secrets("https://u:p@a.b/c?token=x"), "https://a.b/c");
    }
}
