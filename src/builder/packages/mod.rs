//! The packages in an image, by what their managers wrote down: dpkg, apk, Python's and node's.
//!
//! All of it is an image's own word: files are opened with its root for theirs, none is read past a limit, and what cannot be
//! read is left out.

mod parse;

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags};

use crate::engine::files::open_below;
use crate::error::{Context, Result};

const DPKG: &str = "var/lib/dpkg/status";
/// One file for each package, as images without dpkg itself have them.
const DPKG_PARTS: &str = "var/lib/dpkg/status.d";
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const RELEASES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// A list of thousands of packages is a few megabytes.
const LARGEST_LIST: u64 = 64 << 20;
const LARGEST_DESCRIPTION: u64 = 1 << 20;
/// What an image may have us remember.
const MOST_PACKAGES: usize = 100_000;
/// Directories below each other.
const DEEPEST: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PackageKind {
    Debian,
    Alpine,
    Python,
    Node,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    pub(crate) kind: PackageKind,
    pub(crate) name: String,
    pub(crate) version: String,
    /// As its manager calls it; empty: of none.
    pub(crate) architecture: String,
    /// As it says itself; empty: it does not.
    pub(crate) license: String,
    /// The file that says so, below the root.
    pub(crate) found_in: PathBuf,
}

/// What an image is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// `ID` and `VERSION_ID` of os-release; empty: it says neither.
    pub(crate) system: (String, String),
    /// In their order, each once.
    pub(crate) packages: Vec<Package>,
}

/// Blocks: the whole tree is listed.
///
/// # Errors
/// If the root cannot be listed.
pub(crate) fn inventory(root: &OwnedFd) -> Result<Inventory> {
    let mut found = Inventory::default();
    let read = |path: &Path, most| read(root, path, most);
    if let Some(text) = RELEASES.iter().find_map(|path| read(Path::new(path), LARGEST_DESCRIPTION))
    {
        found.system = parse::release(&text);
    }
    if let Some(text) = read(Path::new(DPKG), LARGEST_LIST) {
        found.packages.extend(parse::dpkg(&text, Path::new(DPKG)));
    }
    for path in listed(root, Path::new(DPKG_PARTS)) {
        if path.extension() != Some(OsStr::new("md5sums"))
            && let Some(text) = read(&path, LARGEST_DESCRIPTION)
        {
            found.packages.extend(parse::dpkg(&text, &path));
        }
    }
    for path in APK.map(Path::new) {
        if let Some(text) = read(path, LARGEST_LIST) {
            found.packages.extend(parse::apk(&text, path));
        }
    }
    walk(root, &mut found.packages)?;
    found.packages.sort();
    found.packages.dedup_by(|a, b| {
        let key = |it: &Package| (it.kind, it.name.clone(), it.version.clone());
        key(a) == key(b) && a.architecture == b.architecture
    });
    found.packages.truncate(MOST_PACKAGES);
    Ok(found)
}

/// Finds what is described where it lies.
fn walk(root: &OwnedFd, packages: &mut Vec<Package>) -> Result<()> {
    let mut open = vec![PathBuf::new()];
    let mut is_first = true;
    while let Some(directory) = open.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let entries = open_below(root, &directory, flags).and_then(Dir::new);
        let entries = match entries {
            Ok(entries) => entries,
            Err(errno) if is_first => return Err(errno).context("list the image's files"),
            Err(_) => continue,
        };
        is_first = false;
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = directory.join(name);
            let kind = entry.file_type();
            if kind == FileType::Directory && path.components().count() < DEEPEST {
                open.push(path);
            } else if kind == FileType::RegularFile && packages.len() < MOST_PACKAGES {
                packages.extend(described(root, &path));
            }
        }
    }
    Ok(())
}

/// The package that a file of this name describes.
fn described(root: &OwnedFd, path: &Path) -> Option<Package> {
    let directory = path.parent()?;
    match path.file_name()?.to_str()? {
        "METADATA" if directory.extension()? == "dist-info" => {
            parse::python(&read(root, path, LARGEST_DESCRIPTION)?, path)
        }
        "package.json" => {
            // `node_modules/name` or `node_modules/@scope/name`; what lies deeper is of that package.
            let above = directory.parent()?;
            let scope = above.file_name()?.to_str()?;
            let is_scoped = scope.starts_with('@');
            let modules = if is_scoped { above.parent()?.file_name()?.to_str()? } else { scope };
            if modules != "node_modules" {
                return None;
            }
            parse::node(&read(root, path, LARGEST_DESCRIPTION)?, path)
        }
        _ => None,
    }
}

fn listed(root: &OwnedFd, directory: &Path) -> Vec<PathBuf> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(entries) = open_below(root, directory, flags).and_then(Dir::new) else {
        return Vec::new();
    };
    let files = entries.flatten().filter(|it| it.file_type() == FileType::RegularFile);
    files.map(|it| directory.join(OsStr::from_bytes(it.file_name().to_bytes()))).collect()
}

/// A regular file's text, if it is no larger.
fn read(root: impl AsFd, path: &Path, most: u64) -> Option<String> {
    // A pipe must not be waited for.
    let file = open_below(root, path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let size = u64::try_from(stat.st_size).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size > most {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a test need not be atomic")]
mod tests {
    use super::*;

    #[test]
    fn packages_of_all_managers_are_found_and_no_link_leads_out_of_the_image() {
        let temp = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = temp.path().join("root").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let python = "Metadata-Version: 2.1\nName: Flask\nVersion: 3.0\n\nName: not this\n";
        let node = r#"{"name": "@a/left", "version": "1.2.3", "license": "MIT"}"#;
        write("usr/lib/os-release", "ID=debian\n");
        write("etc/os-release", "NAME=x\nID=\"debian\"\nVERSION_ID=\"12\"\n");
        let installed =
            "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n";
        write("var/lib/dpkg/status", installed);
        write(
            "var/lib/dpkg/status.d/base",
            "Package: base-files\nVersion: 12\nArchitecture: all\n",
        );
        write("var/lib/dpkg/status.d/base.md5sums", "Package: none\nVersion: 1\n");
        write("lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\n");
        write("app/lib/flask-3.0.dist-info/METADATA", python);
        write("app/node_modules/@a/left/package.json", node);
        write("app/node_modules/@a/left/deep/package.json", r#"{"name":"no","version":"1"}"#);
        write("app/package.json", r#"{"name":"app","version":"1"}"#);
        std::fs::write(temp.path().join("outside"), r#"{"name":"outside","version":"1"}"#).unwrap();
        let link = temp.path().join("root/app/node_modules/evil");
        std::fs::create_dir(&link).unwrap();
        std::os::unix::fs::symlink("../../../../outside", link.join("package.json")).unwrap();

        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mode = rustix::fs::Mode::empty();
        let root = rustix::fs::open(temp.path().join("root"), flags, mode).unwrap();
        let found = inventory(&root).unwrap();
        assert_eq!(found.system, ("debian".to_owned(), "12".to_owned()));
        let names: Vec<_> =
            found.packages.iter().map(|it| (it.name.as_str(), it.version.as_str())).collect();
        assert_eq!(
            names,
            [
                ("base-files", "12"),
                ("bash", "5.2-1"),
                ("musl", "1.2.5-r0"),
                ("Flask", "3.0"),
                ("@a/left", "1.2.3"),
            ]
        );
        assert_eq!(found.packages[4].license, "MIT");
    }
}
