//! The context of a build as an archive: a directory without what its `.dockerignore` leaves out.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use cais_dockerfile::dockerignore::{self, Matcher, Parent};
use tar::{Builder, EntryType, Header};

use crate::error::{Context as _, Failure, Result};
use crate::http::{Payload, Response};
use crate::{Cais, client, packing};

const IGNORE: &str = ".dockerignore";

/// What a daemon is sent to build from.
#[derive(Debug)]
pub(crate) struct Context {
    /// `None`: there is but a Dockerfile.
    directory: Option<PathBuf>,
    ignored: Matcher,
    /// In the archive, with slashes.
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
            let headers = cais.registry_config()?;
            let fill = |builder: &mut Builder<_>| self.pack_description(builder);
            let reply = packing::sent(fill, |reader| {
                cais.client.call("POST", path, Payload::Archive(reader), headers)
            });
            match reply {
                // It is another directory over there.
                Err(failure) if failure.status == Some(409) => {}
                reply => return reply,
            }
        }
        let headers = cais.registry_config()?;
        let fill = |builder: &mut Builder<_>| self.pack(builder);
        packing::sent(fill, |reader| {
            cais.client.call("POST", path, Payload::Archive(reader), headers)
        })
    }

    /// Says which directory it is, to a daemon that may find it.
    fn in_place(&self, cais: &Cais, path: &client::Path) -> Result<Option<client::Path>> {
        use std::os::unix::fs::MetadataExt;

        let Some(directory) = &self.directory else { return Ok(None) };
        let (true, Some(shown)) = (cais.client.host.is_local(), directory.to_str()) else {
            return Ok(None);
        };
        if !cais.client.is_ours()? {
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
        match &self.text {
            Some(text) => append_text(builder, &self.dockerfile, text)?,
            None => {
                let text = fs::read(directory.join(&self.dockerfile))?;
                append_text(builder, &self.dockerfile, &text)?;
            }
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
            self.directory((directory, ""), builder, &Parent::default())?;
        }
        Ok(())
    }

    /// `path` is that below the context's directory, which is `root`.
    fn directory(
        &self,
        (root, path): (&Path, &str),
        builder: &mut Builder<impl Write>,
        above: &Parent,
    ) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(root.join(path))?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let what = format!("{} is not UTF-8", entry.path().display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let (is_ignored, own) = self.ignored.is_ignored_below(&path, above);
            let is_kept = !is_ignored || path == self.dockerfile || path == IGNORE;
            let metadata = entry.metadata()?;
            if is_kept && !metadata.file_type().is_socket() {
                append(builder, &entry.path(), &path, &metadata)
                    .map_err(|it| io::Error::new(it.kind(), format!("{path}: {it}")))?;
            }
            // What is left out may have something in it that is taken back.
            let is_seen = is_kept
                || self.ignored.has_exclusions()
                || self.dockerfile.starts_with(&format!("{path}/"));
            if metadata.is_dir() && is_seen {
                self.directory((root, &path), builder, &own)?;
            }
        }
        Ok(())
    }
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

fn append(
    builder: &mut Builder<impl Write>,
    file: &Path,
    path: &str,
    metadata: &fs::Metadata,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_uid(0);
    header.set_gid(0);
    let kind = metadata.file_type();
    if kind.is_symlink() {
        header.set_size(0);
        return builder.append_link(&mut header, path, fs::read_link(file)?);
    }
    if !kind.is_file() {
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
        }
        return builder.append_data(&mut header, path, io::empty());
    }
    // One that grows meanwhile is taken as it was; one that shrinks has no end any more.
    let length = metadata.len();
    let mut content = fs::File::open(file)?.take(length);
    header.set_size(length);
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
}
