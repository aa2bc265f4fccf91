//! Trees that mean no good, and those that do.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cais_dockerfile::dockerignore::Matcher;

use super::*;
use crate::engine::files::below_root;
use crate::error::Kind;

struct Trees {
    directory: tempfile::TempDir,
}

impl Trees {
    /// `from` and `to`, beside a file that is nobody's business.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["from", "to", "outside"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let trees = Self { directory };
        trees.write("outside/canary", "alive");
        trees
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        use std::io::Write;

        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn root(&self, name: &str) -> OwnedFd {
        File::open(self.at(name)).unwrap().into()
    }

    fn copy(&self, sources: &[&str], target: &str) -> Result<()> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let owner = Ownership::Given(uid.as_raw(), gid.as_raw());
        self.copy_with(sources, target, &[], (owner, false))
    }

    fn copy_with(
        &self,
        sources: &[&str],
        target: &str,
        excludes: &[&str],
        (owner, parents): (Ownership, bool),
    ) -> Result<()> {
        let (from, to) = (self.root("from"), self.root("to"));
        let mut found = Vec::new();
        for source in sources {
            found.extend(find(std::os::fd::AsFd::as_fd(&from), source)?);
        }
        let excludes = Matcher::new(excludes).unwrap();
        let placing = Placing {
            owner,
            chmod: None,
            excludes: Excludes { below: Some(&excludes), ..Excludes::default() },
            parents,
        };
        let is_directory = target.ends_with('/');
        let target = below_root(target);
        place(std::os::fd::AsFd::as_fd(&to), &found, (&target, is_directory), &placing)
    }
}

#[test]
fn files_and_directories_go_where_docker_puts_them() {
    let trees = Trees::new();
    trees.write("from/a.txt", "a");
    trees.write("from/b.txt", "b");
    trees.write("from/d/x", "x");
    trees.write("from/d/deep/y", "y");
    symlink("x", trees.at("from/d/link")).unwrap();
    fs::set_permissions(trees.at("from/d/x"), fs::Permissions::from_mode(0o4750)).unwrap();

    trees.copy(&["a.txt"], "/one").unwrap();
    trees.copy(&["a.txt"], "/new/dir/").unwrap();
    trees.copy(&["*.txt"], "/all/").unwrap();
    trees.copy(&["d"], "/tree").unwrap();
    trees.copy(&["."], "/everything").unwrap();
    // Onto what is there already: a directory is filled, a file replaced.
    trees.write("to/tree/own", "own");
    trees.write("to/all/a.txt", "old");
    trees.copy(&["/d/"], "/tree/").unwrap();
    trees.copy(&["a.txt"], "all").unwrap();

    for (path, text) in [
        ("one", "a"),
        ("new/dir/a.txt", "a"),
        ("all/a.txt", "a"),
        ("all/b.txt", "b"),
        ("tree/x", "x"),
        ("tree/deep/y", "y"),
        ("tree/own", "own"),
        ("everything/d/deep/y", "y"),
    ] {
        assert_eq!(trees.read(&format!("to/{path}")), text, "{path}");
    }
    assert_eq!(fs::read_link(trees.at("to/tree/link")).unwrap(), Path::new("x"));
    let (from, to) = (trees.at("from/d/x"), trees.at("to/tree/x"));
    let (from, to) = (from.metadata().unwrap(), to.metadata().unwrap());
    assert_eq!((to.mode() & 0o7777, to.mtime()), (0o4750, from.mtime()));
}

#[test]
fn links_lead_nowhere_but_inside() {
    let trees = Trees::new();
    let outside = trees.at("outside");
    symlink(&outside, trees.at("from/out")).unwrap();
    symlink("../outside/canary", trees.at("from/up")).unwrap();
    symlink(outside.join("canary"), trees.at("from/file")).unwrap();
    trees.write("from/plain", "new");
    for source in ["out/canary", "up", "file", "../outside/canary", "out/*"] {
        let error = trees.copy(&[source], "/x").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{source}: {}", error.chain());
    }

    // Of the image: a directory and a file that lead out of it.
    symlink(&outside, trees.at("to/etc")).unwrap();
    symlink(outside.join("canary"), trees.at("to/passwd")).unwrap();
    for target in ["/etc/canary", "/etc/"] {
        assert!(trees.copy(&["plain"], target).is_err(), "{target}");
    }
    // A link that leads nowhere names what is to be there.
    trees.copy(&["plain"], "/passwd").unwrap();
    let there = trees.at("to").join(outside.strip_prefix("/").unwrap()).join("canary");
    assert_eq!(fs::read_to_string(there).unwrap(), "new");
    assert_eq!(trees.read("outside/canary"), "alive");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);

    // The same in the legal shape: `/var/run` of Debian.
    fs::create_dir(trees.at("to/run")).unwrap();
    fs::create_dir(trees.at("to/var")).unwrap();
    symlink("/run", trees.at("to/var/run")).unwrap();
    symlink("../run/real", trees.at("to/var/file")).unwrap();
    trees.write("to/run/real", "old");
    trees.copy(&["plain"], "/var/run/pid").unwrap();
    trees.copy(&["plain"], "/var/file").unwrap();
    assert_eq!((trees.read("to/run/pid"), trees.read("to/run/real")), ("new".into(), "new".into()));
    assert!(trees.at("to/var/file").is_symlink());
}

#[test]
fn excluded_files_stay_and_parents_are_kept() {
    let trees = Trees::new();
    trees.write("from/a/b/c.txt", "c");
    trees.write("from/a/b/d.log", "d");
    trees.write("from/a/e.log", "e");
    let own = (Ownership::Kept, false);
    trees.copy_with(&["a"], "/plain/", &["**/*.log"], own).unwrap();
    let deep = (Ownership::Kept, true);
    trees.copy_with(&["a/b/c.txt", "a/e.log"], "/deep/", &[], deep).unwrap();

    assert_eq!(trees.read("to/plain/b/c.txt"), "c");
    assert!(!trees.at("to/plain/b/d.log").exists() && !trees.at("to/plain/e.log").exists());
    assert_eq!(trees.read("to/deep/a/b/c.txt"), "c");
    assert_eq!(trees.read("to/deep/a/e.log"), "e");
}

#[test]
fn hard_links_stay_one_file() {
    let trees = Trees::new();
    trees.write("from/d/one", "1");
    fs::hard_link(trees.at("from/d/one"), trees.at("from/d/two")).unwrap();
    trees.copy(&["d"], "/").unwrap();
    let inode = |path: &str| trees.at(path).metadata().unwrap().ino();
    assert_eq!(inode("to/one"), inode("to/two"));
    assert_ne!(inode("to/one"), inode("from/d/one"));
}

#[test]
fn what_several_threads_copy_is_the_same_tree() {
    let trees = Trees::new();
    for directory in 0..40 {
        for file in 0..40 {
            trees.write(&format!("from/{directory}/{file}"), &format!("{directory} {file}"));
        }
    }
    // Files with a name in each half.
    for directory in 0..40 {
        let (one, other) =
            (format!("from/{directory}/7"), format!("from/{}/other", 39 - directory));
        fs::hard_link(trees.at(&one), trees.at(&other)).unwrap();
    }

    trees.copy(&["."], "/").unwrap();

    for directory in 0..40 {
        for file in 0..40 {
            assert_eq!(
                trees.read(&format!("to/{directory}/{file}")),
                format!("{directory} {file}")
            );
        }
        let inode = |path: String| fs::metadata(trees.at(&path)).unwrap().ino();
        let (one, other) = (format!("to/{directory}/7"), format!("to/{}/other", 39 - directory));
        assert_eq!(inode(one), inode(other));
    }
    assert!(trees.copy(&["."], "/0/7").is_err(), "a file is in the way");
}

#[test]
fn a_directory_and_a_file_do_not_take_each_others_place() {
    let trees = Trees::new();
    trees.write("from/file", "f");
    trees.write("from/d/x/y", "y");
    trees.write("to/file", "old");
    trees.write("to/x", "a file");
    for (source, target) in [("d", "/file"), ("d", "/")] {
        let error = trees.copy(&[source], target).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{}", error.chain());
    }
    fs::create_dir_all(trees.at("to/dir/file")).unwrap();
    assert!(trees.copy(&["file"], "/dir").is_err());
}

#[test]
fn a_digest_is_of_content_and_modes_and_not_of_times() {
    let of = |change: &dyn Fn(&Trees)| {
        let trees = Trees::new();
        trees.write("from/d/a", "1");
        trees.write("from/d/b", "2");
        change(&trees);
        let root = trees.root("from");
        let found = find(std::os::fd::AsFd::as_fd(&root), "d").unwrap();
        let excludes = Matcher::new(&["ignored"]).unwrap();
        let excludes = Excludes { below: Some(&excludes), ..Excludes::default() };
        digest(&found, Owners::AreNobodys, &Contents::default(), excludes).unwrap()
    };
    let plain = of(&|_| {});
    let touched = of(&|trees| {
        let file = File::options().write(true).open(trees.at("from/d/a")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        trees.write("from/d/ignored", "3");
    });
    assert_eq!(plain, touched);
    let changes: [&dyn Fn(&Trees); 4] = [
        &|trees| trees.write("from/d/a", "3"),
        &|trees| trees.write("from/d/c", ""),
        &|trees| fs::rename(trees.at("from/d/a"), trees.at("from/d/c")).unwrap(),
        &|trees| {
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(trees.at("from/d/a"), mode).unwrap();
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        assert_ne!(plain, of(*change), "{index}");
    }
}

#[test]
fn a_tree_that_is_too_deep_is_refused_before_the_stack_ends() {
    let trees = Trees::new();
    fs::create_dir_all(trees.at(&format!("from/{}", "d/".repeat(300)))).unwrap();

    let copied = trees.copy(&["."], "to").unwrap_err();
    let root = trees.root("from");
    let found = find(std::os::fd::AsFd::as_fd(&root), ".").unwrap();
    let all = Excludes::default();
    let digested = digest(&found, Owners::AreNobodys, &Contents::default(), all).unwrap_err();

    for error in [copied, digested] {
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.chain().contains("nested deeper than 256"), "{}", error.chain());
    }
}

#[test]
fn a_hard_link_of_one_source_is_none_to_what_another_replaced() {
    let trees = Trees::new();
    trees.write("from/a/x", "linked");
    fs::create_dir(trees.at("from/b")).unwrap();
    fs::create_dir(trees.at("from/c")).unwrap();
    fs::hard_link(trees.at("from/a/x"), trees.at("from/c/y")).unwrap();
    trees.write("from/b/x", "other");

    trees.copy(&["a", "b", "c"], "target/").unwrap();

    assert_eq!(
        (trees.read("to/target/x"), trees.read("to/target/y")),
        ("other".into(), "linked".into())
    );
}
