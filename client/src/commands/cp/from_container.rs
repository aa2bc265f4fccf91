//! Out of a container: the daemon's archive is unpacked here, below the target and nowhere else.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path as LocalPath, PathBuf};

use tar::{Archive, Entry, EntryType};

use super::{Counted, Cp, means_content, split, stat};
use crate::client::Path;
use crate::error::{Context, Failure, Result};
use crate::{Cais, output};

impl Cp {
    pub(super) fn copy_out(&self, cais: &Cais, container: &str, path: &str) -> Result<()> {
        let mut source = path.to_owned();
        let mut found = stat(cais, container, &source)?;
        let link = found.as_ref().and_then(|it| it.link.clone());
        if let (true, Some(link)) = (self.follow_link, link) {
            source = if link.starts_with('/') { link } else { format!("{}/{link}", split(path).0) };
            found = stat(cais, container, &source)?;
        }
        // What is not there is refused here, with the daemon's words.
        let request = Path::new(&["containers", container, "archive"]).with("path", &source);
        let mut reply = cais.client.get(request)?;
        let is_directory = found.is_some_and(|it| it.is_directory);
        if self.target == "-" {
            if output::is_terminal() {
                let what = "cowardly refusing to copy to a terminal. Use a path, or redirect";
                return Err(Failure::new(what));
            }
            io::copy(&mut reply.body, &mut io::stdout().lock())?;
            return Ok(());
        }
        let target = target(&self.target, &source, is_directory, split(path).1)?;
        let mut counted = Counted { inner: reply.body, bytes: 0 };
        unpack(&mut counted, &target, self.archive).context(&self.target)?;
        // The padding behind the last entry belongs to the reply.
        io::copy(&mut counted, &mut io::sink())?;
        self.report(counted.bytes, &self.target);
        Ok(())
    }
}

/// Where the archive's first entry goes: into a directory that is there, or in the place of the target.
fn target(text: &str, source: &str, is_directory: bool, name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    match fs::metadata(&path) {
        Ok(it) if it.is_dir() && is_directory && means_content(source) => Ok(path),
        Ok(it) if it.is_dir() => Ok(if name.is_empty() { path } else { path.join(name) }),
        Ok(_) if is_directory => Err(Failure::new("cannot copy directory")),
        Ok(_) if text.ends_with('/') => Err(Failure::new("not a directory")),
        Ok(_) => Ok(path),
        Err(_) if text.ends_with('/') && !is_directory => Err(Failure::new("no such directory")),
        Err(_) => {
            let (parent, _) = split(text);
            match fs::metadata(parent) {
                Ok(it) if it.is_dir() => Ok(path),
                Ok(_) => Err(Failure::new("not a directory")),
                Err(_) => Err(Failure::new(format!(
                    "invalid output path: directory {parent:?} does not exist"
                ))),
            }
        }
    }
}

fn unpack(reader: &mut impl Read, target: &LocalPath, keeps_owners: bool) -> io::Result<()> {
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(keeps_owners);
    // A directory that cannot be written to must be filled first.
    let mut directories = Vec::new();
    let mut first = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let begins = |it: &LocalPath| {
            if it.components().eq([Component::CurDir]) { Top::None } else { Top::First }
        };
        let top = *first.get_or_insert(begins(&entry.path()?));
        let path = below(target, &entry.path()?, top)?;
        refuse_links(target, &path)?;
        match entry.header().entry_type() {
            EntryType::Directory => {
                fs::create_dir_all(&path)?;
                directories.push((path, entry.header().mode()?));
            }
            EntryType::Link => {
                let original = original(&entry, target, top)?;
                if fs::symlink_metadata(&path).is_ok() {
                    fs::remove_file(&path)?;
                }
                fs::hard_link(original, &path)?;
            }
            _ => {
                // Never through what is there.
                if fs::symlink_metadata(&path).is_ok_and(|it| !it.is_dir()) {
                    fs::remove_file(&path)?;
                }
                entry.unpack(&path)?;
            }
        }
    }
    for (path, mode) in directories.into_iter().rev() {
        set_mode(&path, mode)?;
    }
    Ok(())
}

fn set_mode(path: &LocalPath, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))
}

/// What a hard link is one to.
fn original<R: Read>(entry: &Entry<'_, R>, target: &LocalPath, top: Top) -> io::Result<PathBuf> {
    let Some(link) = entry.link_name()? else { return Err(outside("a link without a target")) };
    let original = below(target, &link, top)?;
    refuse_links(target, &original)?;
    Ok(original)
}

/// Which part of an entry's path is the copied thing itself, and has the target's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Top {
    First,
    /// The archive begins with `./`: every path begins below the thing.
    None,
}

/// An entry's place below the target.
fn below(target: &LocalPath, entry: &LocalPath, top: Top) -> io::Result<PathBuf> {
    let mut parts =
        entry.components().filter(|it| !matches!(it, Component::CurDir | Component::RootDir));
    if top == Top::First {
        parts.next();
    }
    let mut path = target.to_owned();
    for part in parts {
        match part {
            Component::Normal(name) => path.push(name),
            _ => return Err(outside(&entry.to_string_lossy())),
        }
    }
    Ok(path)
}

/// No directory on the way may be a link that the archive brought.
fn refuse_links(target: &LocalPath, path: &LocalPath) -> io::Result<()> {
    let Ok(rest) = path.strip_prefix(target) else { return Err(outside(&path.to_string_lossy())) };
    let mut way = target.to_owned();
    let Some(parents) = rest.parent() else { return Ok(()) };
    for part in parents {
        way.push(part);
        if fs::symlink_metadata(&way).is_ok_and(|it| it.is_symlink()) {
            return Err(outside(&path.to_string_lossy()));
        }
    }
    Ok(())
}

fn outside(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: leads out of what is copied"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o750);
            header.set_size(0);
            if !link.is_empty() {
                header.set_link_name(link).unwrap();
            }
            let bytes = &mut header.as_old_mut().name;
            bytes[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_first_part_takes_the_targets_name() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("new");
        let bytes = archive(&[
            ("etc/", EntryType::Directory, ""),
            ("etc/a", EntryType::Regular, ""),
            ("etc/b", EntryType::Link, "etc/a"),
            ("etc/c", EntryType::Symlink, "/nowhere"),
        ]);
        unpack(&mut bytes.as_slice(), &target, false).unwrap();
        assert!(target.join("a").is_file() && target.join("b").is_file());
        assert_eq!(fs::read_link(target.join("c")).unwrap(), LocalPath::new("/nowhere"));
    }

    #[test]
    fn content_has_no_first_part() {
        let home = tempfile::tempdir().unwrap();
        let bytes = archive(&[
            ("./", EntryType::Directory, ""),
            ("a", EntryType::Regular, ""),
            ("sub/", EntryType::Directory, ""),
            ("sub/b", EntryType::Link, "a"),
        ]);
        unpack(&mut bytes.as_slice(), home.path(), false).unwrap();
        assert!(home.path().join("a").is_file() && home.path().join("sub/b").is_file());
    }

    #[test]
    fn nothing_leads_out() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("out")).unwrap();
        let out = home.path().join("out").display().to_string();
        for (index, entries) in [
            vec![("x/../../evil", EntryType::Regular, "")],
            vec![
                ("x/", EntryType::Directory, ""),
                ("x/l", EntryType::Symlink, out.as_str()),
                ("x/l/evil", EntryType::Regular, ""),
            ],
            vec![("x/", EntryType::Directory, ""), ("x/h", EntryType::Link, "x/../../out")],
        ]
        .into_iter()
        .enumerate()
        {
            let target = home.path().join(format!("t{index}"));
            let error = unpack(&mut archive(&entries).as_slice(), &target, false).unwrap_err();
            assert!(error.to_string().contains("leads out"), "{error}");
        }
        assert_eq!(fs::read_dir(home.path().join("out")).unwrap().count(), 0);
    }
}
