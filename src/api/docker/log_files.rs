//! The files of a log that is rotated while it is read.
//!
//! ```text
//!   container.log   container.log.1   container.log.2        the newest first
//!        ▲ moved one place further each time; who reads one holds it open meanwhile
//! ```

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::fs::File;
use tokio::io::BufReader;

use super::logs::PIECE;
use crate::engine::standalone::older_logs;
use crate::error::{Context, Result};

/// Those that were begun after `held`, the newest first; without one, all that there are.
///
/// A new file is left out as long as nothing is in it: until then its writer may still be at the
/// one before.
pub(super) async fn since(path: &Path, held: Option<&BufReader<File>>) -> Vec<BufReader<File>> {
    let mut files: Vec<BufReader<File>> = Vec::new();
    for path in std::iter::once(path.to_owned()).chain(older_logs(path)) {
        // One that was just moved is found in its next place.
        let Ok(file) = open(&path).await else { continue };
        if held.is_some_and(|held| is_same(held, &file)) {
            break;
        }
        match files.iter().position(|it| is_same(it, &file)) {
            // Moved since it was found: what was met between its two places may be newer.
            Some(place) => files.truncate(place + 1),
            None => files.push(file),
        }
    }
    let has_other = held.is_some() || files.len() > 1;
    if has_other && files.first().is_some_and(is_empty) {
        files.remove(0);
    }
    files
}

/// Whether this is the file that has the name now.
pub(super) async fn is_named(path: &Path, file: &BufReader<File>) -> bool {
    let named = tokio::fs::metadata(path).await.map(|found| found.ino());
    named.ok() == number(file)
}

pub(super) async fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).await.context("open the log")?;
    Ok(BufReader::with_capacity(PIECE, file))
}

/// As far as it can be told.
fn is_same(one: &BufReader<File>, other: &BufReader<File>) -> bool {
    number(one) == number(other)
}

fn number(file: &BufReader<File>) -> Option<u64> {
    rustix::fs::fstat(file.get_ref()).map(|it| it.st_ino).ok()
}

fn is_empty(file: &BufReader<File>) -> bool {
    rustix::fs::fstat(file.get_ref()).is_ok_and(|it| it.st_size == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::AsyncReadExt;

    use super::*;

    async fn texts(files: Vec<BufReader<File>>) -> Vec<String> {
        let mut texts = Vec::new();
        for mut file in files {
            let mut text = String::new();
            file.read_to_string(&mut text).await.unwrap();
            texts.push(text);
        }
        texts
    }

    #[tokio::test]
    async fn a_reader_that_was_overtaken_finds_every_file_since() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("container.log");
        let place = |number: u32| path.with_added_extension(number.to_string());
        let write = |path: &Path, text: &str| {
            std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        assert!(since(&path, None).await.is_empty());
        for (number, text) in [(4, "a"), (3, "b"), (2, "c"), (1, "d")] {
            write(&place(number), text);
        }
        let held = open(&place(3)).await.unwrap();

        // Nobody has opened the next one.
        assert_eq!(texts(since(&path, None).await).await, ["d", "c", "b", "a"]);
        assert_eq!(texts(since(&path, Some(&held)).await).await, ["d", "c"]);
        write(&path, "");
        assert_eq!(texts(since(&path, Some(&held)).await).await, ["d", "c"]);
        write(&path, "e");
        assert_eq!(texts(since(&path, Some(&held)).await).await, ["e", "d", "c"]);
        // Half way through the next rotation.
        std::fs::rename(place(4), place(5)).unwrap();
        std::fs::rename(place(3), place(4)).unwrap();
        assert_eq!(texts(since(&path, Some(&held)).await).await, ["e", "d", "c"]);
        assert_eq!(texts(since(&path, None).await).await, ["e", "d", "c", "b", "a"]);
        // The oldest goes.
        std::fs::remove_file(place(5)).unwrap();
        std::fs::remove_file(place(4)).unwrap();
        assert_eq!(texts(since(&path, Some(&held)).await).await, ["e", "d", "c"]);

        let newest = open(&path).await.unwrap();
        assert!(is_named(&path, &newest).await);
        assert!(!is_named(&path, &held).await);
        assert!(since(&path, Some(&newest)).await.is_empty());
    }
}
