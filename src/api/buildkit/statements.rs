//! What is attested of files that leave as files: in-toto statements that lie beside them, each about all of them.
//!
//! Names and form are those of BuildKit's local exporter: `provenance.json`, `sbom.spdx.json`, in the directory of a platform if files
//! have one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use serde_json::{Value, json};

use super::attrs::Attrs;
use super::job::Made;
use crate::error::{Context, Error, Result};
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::index::{self, Predicate};
use crate::image::pack;

/// Read at once, in bytes.
const PIECE: usize = 256 << 10;

/// How the statements of one directory are named.
#[derive(Debug, Clone, Default)]
pub(super) struct Naming {
    prefix: String,
    /// Behind the name: that of a platform whose files have no directory of their own.
    platform: Option<String>,
}

impl Naming {
    /// `has_directory`: the files are in one that is named for their platform.
    pub(super) fn of(attrs: &Attrs, made: &Made, has_platforms: bool, has_directory: bool) -> Self {
        let is_told = has_platforms && !has_directory;
        Self {
            prefix: attrs.get("attestation-prefix").cloned().unwrap_or_default(),
            platform: is_told.then(|| made.platform.replace('/', "_")),
        }
    }

    fn name(&self, file: &str) -> String {
        let Self { prefix, platform } = self;
        match (platform, file.rsplit_once('.')) {
            (None, _) => format!("{prefix}{file}"),
            (Some(platform), Some((stem, kind))) => format!("{prefix}{stem}.{platform}.{kind}"),
            (Some(platform), None) => format!("{prefix}{file}.{platform}"),
        }
    }
}

/// Names and contents of statements about all regular files below `root`, in the order of their names; blocks. What nobody asked for is none.
///
/// # Errors
/// `InvalidArgument` for two of one name, or one that is no name.
pub(super) fn about(
    root: &OwnedFd,
    predicates: &[Predicate],
    naming: &Naming,
) -> Result<Vec<(String, Vec<u8>)>> {
    let asked: Vec<_> = predicates.iter().filter(|predicate| !predicate.is_inline_only).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let mut subjects = Vec::new();
    subjects_below(root.as_fd(), Path::new(""), &mut subjects)?;
    let mut statements: Vec<(String, Vec<u8>)> = Vec::new();
    for predicate in asked {
        let name = naming.name(&predicate.file);
        if name.contains('/') || ["", ".", ".."].contains(&name.as_str()) {
            return Err(Error::invalid(format!("an attestation cannot be called {name:?}")));
        }
        if statements.iter().any(|(other, _)| *other == name) {
            return Err(Error::invalid(format!("duplicate attestation path name {name}")));
        }
        let statement = index::statement(predicate, &subjects);
        let content = serde_json::to_vec_pretty(&statement).context("write a statement")?;
        statements.push((name, content));
    }
    statements.sort();
    Ok(statements)
}

fn subjects_below(directory: BorrowedFd<'_>, path: &Path, subjects: &mut Vec<Value>) -> Result<()> {
    let context = || format!("list /{}", path.display());
    for name in pack::names(directory).with_context(context)? {
        let path: PathBuf = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let context = || format!("read /{}", path.display());
        let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
        let open = |flags: OFlags| {
            let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(directory, &name, flags, Mode::empty()).with_context(context)
        };
        match FileType::from_raw_mode(stat.with_context(context)?.st_mode) {
            FileType::Directory => {
                subjects_below(open(OFlags::DIRECTORY)?.as_fd(), &path, subjects)?;
            }
            FileType::RegularFile => {
                let digest = digest_of(&open(OFlags::NONBLOCK)?).with_context(context)?;
                let digest = json!({ "sha256": digest.hex() });
                subjects.push(json!({ "name": path.to_string_lossy(), "digest": digest }));
            }
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {}
        }
    }
    Ok(())
}

fn digest_of(file: &OwnedFd) -> Result<Digest> {
    let (mut hasher, mut piece) = (Hasher::new(Algorithm::Sha256), vec![0; PIECE]);
    loop {
        let count = rustix::io::read(file, &mut piece[..]).context("read")?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(piece.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir};
    use std::io::Write;

    use super::*;
    use crate::error::Kind;

    #[test]
    fn statements_are_about_all_files_and_named_as_buildkit_names_them() {
        let temp = tempfile::tempdir().unwrap();
        create_dir(temp.path().join("a")).unwrap();
        for (name, text) in [("a/x", "one"), ("a.b", "two")] {
            File::create(temp.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
        }
        std::os::unix::fs::symlink("a/x", temp.path().join("link")).unwrap();
        let root = File::open(temp.path()).unwrap().into();
        let predicate = |file: &str, is_inline_only| Predicate {
            kind: "https://x.io/p",
            content: json!({ "a": 1 }),
            file: file.to_owned(),
            is_inline_only,
        };
        let said = [predicate("sbom.spdx.json", false), predicate("provenance.json", false)];
        let found = about(&root, &said, &Naming::default()).unwrap();
        let names: Vec<_> = found.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(names, ["provenance.json", "sbom.spdx.json"]);
        let statement: Value = serde_json::from_slice(&found[0].1).unwrap();
        let subjects = [("a/x", "one"), ("a.b", "two")].map(|(name, text)| {
            json!({ "name": name, "digest": { "sha256": Digest::of(text.as_bytes()).hex() } })
        });
        assert_eq!(statement["subject"], json!(subjects));
        assert_eq!(statement["predicateType"], "https://x.io/p");
        assert_eq!(statement["predicate"]["a"], 1);

        let naming = Naming { prefix: "x-".to_owned(), platform: Some("linux_amd64".to_owned()) };
        let found = about(&root, &said, &naming).unwrap();
        assert_eq!(found[0].0, "x-provenance.linux_amd64.json");
        assert_eq!(found[1].0, "x-sbom.spdx.linux_amd64.json");
        assert!(about(&root, &[predicate("x", true)], &naming).unwrap().is_empty());
        let twice = [predicate("x", false), predicate("x", false)];
        let error = about(&root, &twice, &Naming::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        let elsewhere = Naming { prefix: "a/".to_owned(), platform: None };
        assert_eq!(about(&root, &said, &elsewhere).unwrap_err().kind(), Kind::InvalidArgument);
    }
}
