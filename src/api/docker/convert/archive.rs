//! Files of a container as Docker's clients read of them.

use super::time;
use crate::api::docker::wire::archive::{Change as WireChange, PathStat};
use crate::engine::files::{Change, ChangeKind, Stat};

/// Bits of stat(2), and those of Go's `os.FileMode` that mean the same.
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
const KINDS: [(u32, u32); 6] = [
    (libc::S_IFDIR, 1 << 31),
    (libc::S_IFLNK, 1 << 27),
    (libc::S_IFBLK, 1 << 26),
    (libc::S_IFCHR, 1 << 26 | 1 << 21),
    (libc::S_IFIFO, 1 << 25),
    (libc::S_IFSOCK, 1 << 24),
];

pub(crate) fn path_stat(stat: &Stat) -> PathStat {
    PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: time::text(stat.modified_at),
        link_target: stat.link_target.clone(),
    }
}

fn go_mode(mode: u32) -> u32 {
    let special = SPECIAL.iter().filter(|(bit, _)| mode & bit != 0);
    let kind = KINDS.iter().filter(|(kind, _)| mode & libc::S_IFMT == *kind);
    special.chain(kind).fold(mode & 0o777, |mode, (_, bits)| mode | bits)
}

pub(crate) fn change(change: &Change) -> WireChange {
    WireChange {
        path: change.path.display().to_string(),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_in_gos_bits() {
        for (mode, expected) in [
            (0o100_644, 0o644),
            (0o40_755, 0x8000_0000 | 0o755),
            (0o41_777, 0x8010_0000 | 0o777),
            (0o104_755, 0x80_0000 | 0o755),
            (0o120_777, 0x0800_0000 | 0o777),
            (0o20_620, 0x0420_0000 | 0o620),
        ] {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }
}
