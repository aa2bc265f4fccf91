//! Times that do not tell when a layer was made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps};

use crate::error::{Context, Error, Result};
use crate::image::pack::DEEPEST;

/// Sets the time of every file below a directory, itself included, that was changed after `latest` to that: seconds since the
/// epoch. Older times stay, as SOURCE_DATE_EPOCH's specification has it (reproducible-builds.org).
///
/// # Errors
/// For a tree deeper than a layer may be.
pub(super) fn clamp(root: &OwnedFd, latest: i64) -> Result<()> {
    directory(root.as_fd(), latest, 0)
}

fn directory(directory: BorrowedFd<'_>, latest: i64, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        let text = format!("directories are nested deeper than {DEEPEST}");
        return Err(Error::invalid(text));
    }
    for entry in Dir::read_from(directory).context("list")? {
        let entry = entry.context("list")?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(directory, name, flags).context("stat")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below =
                rustix::fs::openat(directory, name, flags, Mode::empty()).context("open")?;
            self::directory(below.as_fd(), latest, depth + 1)?;
        } else if is_later(&stat, latest) {
            rustix::fs::utimensat(directory, name, &times(latest), flags).context("set times")?;
        }
    }
    if is_later(&rustix::fs::fstat(directory).context("stat")?, latest) {
        rustix::fs::futimens(directory, &times(latest)).context("set times")?;
    }
    Ok(())
}

fn is_later(stat: &rustix::fs::Stat, latest: i64) -> bool {
    stat.st_mtime > latest || (stat.st_mtime == latest && stat.st_mtime_nsec > 0)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_is_later_gets_the_given_time_and_what_is_older_keeps_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (name, seconds) in [("d/old", 500), ("d/e/new", 5_000)] {
            File::create_new(at(name)).unwrap().set_modified(time(seconds)).unwrap();
        }
        let same = time(1_000) + Duration::from_nanos(7);
        File::create_new(at("same")).unwrap().set_modified(same).unwrap();
        symlink("/etc/passwd", at("d/link")).unwrap();

        clamp(&crate::image::pack::open(directory.path()).unwrap(), 1_000).unwrap();

        for (name, expected) in [
            ("", 1_000),
            ("d", 1_000),
            ("d/e", 1_000),
            ("d/e/new", 1_000),
            ("d/old", 500),
            ("d/link", 1_000),
        ] {
            assert_eq!(at(name).symlink_metadata().unwrap().mtime(), expected, "{name}");
        }
        assert_eq!(at("same").metadata().unwrap().mtime_nsec(), 0);
    }
}
