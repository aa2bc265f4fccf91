//! Into a container: what is here goes as an archive, made while it is sent.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path as LocalPath;

use tar::Builder;

use super::{Counted, Cp, means_content, split, stat};
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::http::Payload;
use crate::{Cais, packing};

/// Where the archive is unpacked in the container, and what its first entry is called there.
struct Place {
    directory: String,
    name: String,
}

impl Cp {
    pub(super) fn copy_in(&self, cais: &Cais, container: &str, path: &str) -> Result<()> {
        if self.source == "-" {
            return self.send(cais, container, path, &mut io::stdin().lock());
        }
        let source = LocalPath::new(&self.source);
        let metadata = if self.follow_link || self.source.ends_with('/') {
            fs::metadata(source)
        } else {
            fs::symlink_metadata(source)
        };
        let metadata = metadata.map_err(|error| {
            let what = if error.kind() == io::ErrorKind::NotFound {
                "no such file or directory".to_owned()
            } else {
                error.to_string()
            };
            Failure::new(format!("lstat {}: {what}", self.source))
        })?;
        let place = self.place(cais, container, path, metadata.is_dir())?;
        let fill = |builder: &mut Builder<_>| {
            pack(builder, source, &place.name, self.follow_link)
                .map_err(|it| io::Error::new(it.kind(), format!("{}: {it}", self.source)))
        };
        let bytes = packing::sent(fill, |reader| {
            let mut counted = Counted { inner: reader, bytes: 0 };
            self.send(cais, container, &place.directory, &mut counted)?;
            Ok(counted.bytes)
        })?;
        self.report(bytes, &self.target);
        Ok(())
    }

    fn send(
        &self,
        cais: &Cais,
        container: &str,
        directory: &str,
        archive: &mut dyn Read,
    ) -> Result<()> {
        let path = Path::new(&["containers", container, "archive"])
            .with("path", directory)
            .with("noOverwriteDirNonDir", "true")
            .with_flag("copyUIDGID", self.archive);
        cais.client.call("PUT", path, Payload::Archive(archive), Vec::new()).map(drop)
    }

    fn place(&self, cais: &Cais, container: &str, path: &str, is_directory: bool) -> Result<Place> {
        let mut path = path.to_owned();
        let mut found = stat(cais, container, &path)?;
        if let Some(link) = found.as_ref().and_then(|it| it.link.clone()) {
            path = if link.starts_with('/') { link } else { format!("{}/{link}", split(&path).0) };
            found = stat(cais, container, &path)?;
        }
        let (parent, name) = split(&path);
        let renamed = || Place { directory: parent.to_owned(), name: name.to_owned() };
        match found {
            Some(it) if it.is_directory => {
                let own = if is_directory && means_content(&self.source) {
                    "."
                } else {
                    split(&self.source).1
                };
                Ok(Place { directory: path.clone(), name: own.to_owned() })
            }
            Some(_) if is_directory => Err(Failure::new("cannot copy directory")),
            Some(_) if path.ends_with('/') => Err(Failure::new("not a directory")),
            None if path.ends_with('/') && !is_directory => Err(Failure::new("no such directory")),
            Some(_) | None => Ok(renamed()),
        }
    }
}

fn pack(
    builder: &mut Builder<impl Write>,
    source: &LocalPath,
    name: &str,
    follows: bool,
) -> io::Result<()> {
    builder.follow_symlinks(false);
    let real;
    let source = if follows {
        real = fs::read_link(source).map_or_else(
            |_| source.to_owned(),
            |link| source.parent().map_or_else(|| link.clone(), |it| it.join(&link)),
        );
        &real
    } else {
        source
    };
    append(builder, source, LocalPath::new(name))
}

fn append(
    builder: &mut Builder<impl Write>,
    source: &LocalPath,
    name: &LocalPath,
) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    // No archive has a form for them.
    if metadata.file_type().is_socket() {
        return Ok(());
    }
    if !metadata.is_dir() {
        return builder.append_path_with_name(source, name);
    }
    builder.append_dir(name, source)?;
    let mut entries: Vec<_> = fs::read_dir(source)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        append(builder, &entry.path(), &name.join(entry.file_name()))?;
    }
    Ok(())
}
