//! The context of a build as an archive: a directory without what its `.dockerignore` leaves out.

use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use cais_dockerfile::dockerignore::{self, Matcher, Parent};
use rustix::fs::{Dir, Mode, OFlags};
use tar::{Builder, EntryType, Header};

use crate::error::{Context as _, Failure, Result};
use crate::http::{Payload, Response};
use crate::packing::Gate;
use crate::{Cais, client, packing};

const IGNORE: &str = ".dockerignore";

/// What a daemon is sent to build from.
#[derive(Debug)]
pub(crate) struct Context {
    /// `None`: there is but a Dockerfile.
    directory: Option<PathBuf>,
    ignored: Matcher,
    /// In the archive, with slashes; empty: there is none.
    pub(crate) dockerfile: String,
    /// Of a Dockerfile that is not in the directory.
    text: Option<Vec<u8>>,
}

/// Where the instructions are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dockerfile<'a> {
    /// A path, relative to the directory or absolute.
    File(&'a str),
    Inline(&'a str),
}

impl Context {
    /// # Errors
    /// There is no such directory or Dockerfile, or `.dockerignore` has a pattern that is none.
    pub(crate) fn open(directory: &Path, dockerfile: Dockerfile<'_>) -> Result<Self> {
        let metadata = fs::metadata(directory).map_err(|error| {
            Failure::new(format!("unable to prepare context: {}: {error}", directory.display()))
        })?;
        if !metadata.is_dir() {
            return Err(Failure::new(format!(
                "unable to prepare context: {} is no directory",
                directory.display()
            )));
        }
        let ignored = match fs::read(directory.join(IGNORE)) {
            Ok(file) => Matcher::new(&dockerignore::parse(&file)).context(IGNORE)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Matcher::default(),
            Err(error) => return Err(Failure::new(format!("{IGNORE}: {error}"))),
        };
        // No file of the directory has this name.
        let beside = || format!(".dockerfile.{}", std::process::id());
        let (dockerfile, text) = match dockerfile {
            Dockerfile::Inline(text) => (beside(), Some(text.as_bytes().to_vec())),
            Dockerfile::File(path) => {
                let full = directory.join(path);
                let what = || {
                    format!(
                        "unable to prepare context: unable to evaluate symlinks in Dockerfile path: {}",
                        full.display()
                    )
                };
                let inside = full.strip_prefix(directory).ok().map(Path::to_owned);
                match inside.and_then(|it| plain(&it)) {
                    Some(inside) => {
                        fs::symlink_metadata(&full).context(what())?;
                        (inside, None)
                    }
                    None => (beside(), Some(fs::read(&full).context(what())?)),
                }
            }
        };
        Ok(Self { directory: Some(directory.to_owned()), ignored, dockerfile, text })
    }

    /// A directory's files, without a Dockerfile.
    ///
    /// # Errors
    /// There is no such directory, or `.dockerignore` has a pattern that is none.
    pub(crate) fn of_files(directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory)?;
        let context = Self::open(&directory, Dockerfile::Inline(""))?;
        Ok(Self { dockerfile: String::new(), text: None, ..context })
    }

    /// A Dockerfile and nothing else.
    pub(crate) fn without_files(dockerfile: &str) -> Self {
        Self {
            directory: None,
            ignored: Matcher::default(),
            dockerfile: "Dockerfile".to_owned(),
            text: Some(dockerfile.as_bytes().to_vec()),
        }
    }

    /// What `.dockerignore` leaves out.
    pub(crate) fn ignored(&self) -> &Matcher {
        &self.ignored
    }

    /// The Dockerfile, and what it is called.
    pub(crate) fn dockerfile_text(&self) -> Result<(String, String)> {
        let read = |directory: &PathBuf| fs::read(directory.join(&self.dockerfile));
        let (name, bytes) = match (&self.text, &self.directory) {
            (Some(text), _) => ("Dockerfile".to_owned(), text.clone()),
            (None, Some(directory)) => {
                (self.dockerfile.clone(), read(directory).context(&self.dockerfile)?)
            }
            (None, None) => (self.dockerfile.clone(), Vec::new()),
        };
        let text = String::from_utf8(bytes).context(&name)?;
        Ok((name, text))
    }

    /// Has the daemon build from it; the reply is the stream of its progress. A daemon that sees the directory too reads it
    /// where it is.
    pub(crate) fn send(&self, cais: &Cais, path: client::Path) -> Result<Response> {
        if let Some(path) = self.in_place(cais, &path)? {
            match sent(cais, path, |builder| self.pack_description(builder)) {
                // It is another directory over there.
                Err(failure) if failure.status == Some(409) => {}
                reply => return reply,
            }
        }
        sent(cais, path, |builder| self.pack(builder))
    }

    /// Says which directory it is, to a daemon that may find it.
    fn in_place(&self, cais: &Cais, path: &client::Path) -> Result<Option<client::Path>> {
        use std::os::unix::fs::MetadataExt;

        let Some(directory) = &self.directory else { return Ok(None) };
        let (true, Some(shown)) = (cais.client.host.is_local(), directory.to_str()) else {
            return Ok(None);
        };
        if !cais.client.reads_in_place()? {
            return Ok(None);
        }
        let metadata = fs::metadata(directory).context(shown)?;
        let path = path.clone().with("directory", shown);
        let path = path.with("device", &metadata.dev().to_string());
        Ok(Some(path.with("inode", &metadata.ino().to_string())))
    }

    /// Fills an archive with the two files that say how to read the others.
    fn pack_description(&self, builder: &mut Builder<impl Write>) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if !self.dockerfile.is_empty() {
            let text = match &self.text {
                Some(text) => Cow::Borrowed(text),
                None => Cow::Owned(fs::read(directory.join(&self.dockerfile))?),
            };
            append_text(builder, &self.dockerfile, &text)?;
        }
        match fs::read(directory.join(IGNORE)) {
            Ok(text) => append_text(builder, IGNORE, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fills the archive. Everything in it belongs to root, as in an image.
    fn pack(&self, builder: &mut Builder<impl Write>) -> io::Result<()> {
        if let Some(text) = &self.text {
            append_text(builder, &self.dockerfile, text)?;
        }
        if let Some(directory) = &self.directory {
            // The one that was asked for, through links; below it none is followed.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(directory, flags, Mode::empty())?;
            self.directory((root.as_fd(), ""), builder, &Parent::default())?;
        }
        Ok(())
    }

    /// `path` is that below the context's directory. Somebody may change files meanwhile: what is here is
    /// opened from its directory and never through a link, so that nothing else is read.
    fn directory(
        &self,
        (directory, path): (BorrowedFd<'_>, &str),
        builder: &mut Builder<impl Write>,
        above: &Parent,
    ) -> io::Result<()> {
        for name in names(directory)? {
            let Ok(name) = name.to_str() else {
                let what = format!("{}/{} is not UTF-8", path, name.to_string_lossy());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let (is_ignored, own) = self.ignored.is_ignored_below(&path, above);
            let is_kept = !is_ignored || path == self.dockerfile || path == IGNORE;
            let found = open(directory, name, OFlags::PATH)?;
            let kind = found.metadata()?.file_type();
            if is_kept && !kind.is_socket() {
                append(builder, (directory, name, &found), &path)
                    .map_err(|it| io::Error::new(it.kind(), format!("{path}: {it}")))?;
            }
            // What is left out may have something in it that is taken back.
            let is_seen = is_kept
                || self.ignored.has_exclusions()
                || self.dockerfile.starts_with(&format!("{path}/"));
            if kind.is_dir() && is_seen {
                let below = open(directory, name, OFlags::DIRECTORY)
                    .map_err(|it| io::Error::new(it.kind(), format!("{path}: {it}")))?;
                self.directory((below.as_fd(), &path), builder, &own)?;
            }
        }
        Ok(())
    }
}

/// Whether a context is no path: an image or an address, which the daemon reads.
pub(crate) fn is_elsewhere(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
}

/// Calls with an archive that is filled while it is sent.
fn sent(
    cais: &Cais,
    path: client::Path,
    fill: impl FnOnce(&mut Builder<Gate<PipeWriter>>) -> io::Result<()> + Send,
) -> Result<Response> {
    let headers = cais.registry_config()?;
    packing::sent(fill, |reader| cais.client.call("POST", path, Payload::Archive(reader), headers))
}

fn append_text(builder: &mut Builder<impl Write>, name: &str, text: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, name, text)
}

/// In byte order.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A member of a directory; of a link, the link itself.
fn open(directory: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<fs::File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?.into())
}

/// A path that stays where it is, without `.` and `..`.
fn plain(path: &Path) -> Option<String> {
    use std::path::Component;
    let mut names: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(names.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(names.join("/"))
}

/// `found` is what the name stood for just now.
fn append(
    builder: &mut Builder<impl Write>,
    (directory, name, found): (BorrowedFd<'_>, &str, &fs::File),
    path: &str,
) -> io::Result<()> {
    let header_of = |metadata: &fs::Metadata| {
        let mut header = Header::new_gnu();
        header.set_metadata(metadata);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    let metadata = found.metadata()?;
    let kind = metadata.file_type();
    let mut header = header_of(&metadata);
    if kind.is_symlink() {
        header.set_size(0);
        let target = rustix::fs::readlinkat(found, "", Vec::new())?;
        return builder.append_link(&mut header, path, OsStr::from_bytes(target.as_bytes()));
    }
    if !kind.is_file() {
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
        }
        return builder.append_data(&mut header, path, io::empty());
    }
    let content = open(directory, name, OFlags::RDONLY)?;
    let metadata = content.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it was replaced while it was read"));
    }
    // One that grows meanwhile is taken as it was; one that shrinks has no end any more.
    let length = metadata.len();
    let mut header = header_of(&metadata);
    header.set_size(length);
    let mut content = content.take(length);
    builder.append_data(&mut header, path, &mut content)?;
    if content.limit() > 0 {
        return Err(io::Error::other("it became shorter while it was read"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(files: &[(&str, &str)], dockerfile: Dockerfile<'_>) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "nobody reads it meanwhile")]
            fs::write(path, text).unwrap();
        }
        let context = Context::open(directory.path(), dockerfile).unwrap();
        let mut builder = Builder::new(Vec::new());
        context.pack(&mut builder).unwrap();
        let bytes = builder.into_inner().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|it| {
            let mut entry = it.unwrap();
            assert_eq!(entry.header().uid().unwrap(), 0);
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            format!("{path}={text}")
        });
        let own = context.dockerfile.clone();
        entries.map(|it| it.replace(&own, "THE-DOCKERFILE")).collect()
    }

    #[test]
    fn what_is_ignored_stays_here_and_what_is_taken_back_goes() {
        let files = [
            ("Dockerfile", "FROM a"),
            (".dockerignore", "*\n!src\nsrc/secret\n!old/keep\n"),
            ("src/a", "1"),
            ("src/secret", "2"),
            ("old/keep", "3"),
            ("old/other", "4"),
            ("rest", "5"),
        ];
        let expected = [
            ".dockerignore=*\n!src\nsrc/secret\n!old/keep\n",
            "THE-DOCKERFILE=FROM a",
            "old/keep=3",
            "src=",
            "src/a=1",
        ];
        assert_eq!(packed(&files, Dockerfile::File("./Dockerfile")), expected);
    }

    #[test]
    fn a_dockerfile_need_not_be_in_the_directory() {
        let expected = ["THE-DOCKERFILE=FROM b", "a=1"];
        assert_eq!(packed(&[("a", "1")], Dockerfile::Inline("FROM b")), expected);
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("Dockerfile");
        #[expect(clippy::disallowed_methods, reason = "nobody reads it meanwhile")]
        fs::write(&file, "FROM b").unwrap();
        let file = Dockerfile::File(file.to_str().unwrap());
        assert_eq!(packed(&[("a", "1")], file), expected);
        let missing = Context::open(outside.path(), Dockerfile::File("missing/Dockerfile"));
        assert!(missing.unwrap_err().message.contains("missing/Dockerfile"));
    }
    /// Whoever reads the archive changes a directory into a link when its name has come.
    struct Swapping<'a>(&'a Path, Vec<u8>);

    impl Write for Swapping<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let directory = self.0.join("context/d");
            if bytes.starts_with(b"d\0") && !directory.is_symlink() {
                fs::rename(&directory, self.0.join("away"))?;
                std::os::unix::fs::symlink(self.0.join("outside"), &directory)?;
            }
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_directory_that_becomes_a_link_meanwhile_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in [("context/d/f", "own"), ("outside/f", "stolen")] {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "nobody reads it meanwhile")]
            fs::write(path, text).unwrap();
        }
        let context = temp.path().join("context");
        let context = Context::open(&context, Dockerfile::Inline("FROM b")).unwrap();
        let mut builder = Builder::new(Swapping(temp.path(), Vec::new()));
        let error = context.pack(&mut builder).unwrap_err();
        assert!(temp.path().join("context/d").is_symlink());
        assert!(error.to_string().starts_with("d: "), "{error}");
        let sent = &builder.get_ref().1;
        assert!(!sent.windows(6).any(|window| window == b"stolen"));
    }
}
