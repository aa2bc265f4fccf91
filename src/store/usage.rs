//! How much room a tree takes.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const BLOCK: u64 = 512;

/// Bytes and inodes below `directory`, itself included, as `du` counts them: in whole blocks, and a file of several names once.
/// Links are not followed; a file that goes away meanwhile is not counted.
pub(crate) fn usage_of_tree(directory: &Path) -> std::io::Result<(u64, u64)> {
    let of = |metadata: &Metadata| metadata.blocks() * BLOCK;
    let (mut bytes, mut inodes) = (of(&directory.symlink_metadata()?), 1);
    let mut several = HashSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = directory.read_dir() else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.nlink() > 1 && !several.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            bytes += of(&metadata);
            inodes += 1;
        }
    }
    Ok((bytes, inodes))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a test need not be atomic")]
mod tests {
    use super::*;

    #[test]
    fn usage_counts_what_is_there_once_and_follows_no_link() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), [1; 10_000]).unwrap();
        std::os::unix::fs::symlink("/usr", temp.path().join("link")).unwrap();
        std::fs::create_dir(temp.path().join("below")).unwrap();
        let (before, inodes) = usage_of_tree(temp.path()).unwrap();
        assert_eq!(inodes, 4);
        assert!((8_192..100_000).contains(&before), "{before}");
        std::fs::hard_link(temp.path().join("file"), temp.path().join("below/again")).unwrap();
        assert_eq!(usage_of_tree(temp.path()).unwrap(), (before, 4));
    }
}
