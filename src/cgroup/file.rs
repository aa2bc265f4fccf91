//! Reading and writing the kernel's small files below a directory descriptor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

type Io<T> = Result<T, Errno>;

/// Opens a directory below `root`. No symlink and no `..` can lead out of it.
pub(super) fn open_dir(root: impl AsFd, path: &str) -> Io<OwnedFd> {
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { "." } else { relative };
    rustix::fs::openat2(
        root,
        relative,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

pub(super) fn open_read(dir: impl AsFd, name: &str) -> Io<OwnedFd> {
    open(dir, name, OFlags::RDONLY)
}

pub(super) fn open_write(dir: impl AsFd, name: &str) -> Io<OwnedFd> {
    open(dir, name, OFlags::WRONLY)
}

fn open(dir: impl AsFd, name: &str, access: OFlags) -> Io<OwnedFd> {
    rustix::fs::openat(dir, name, access | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// One write call: the kernel takes a value whole or not at all.
pub(super) fn write(dir: impl AsFd, name: &str, value: &str) -> Io<()> {
    let file = open_write(dir, name)?;
    loop {
        match rustix::io::write(&file, value.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(super) fn read(dir: impl AsFd, name: &str) -> Io<String> {
    let file = open_read(dir, name)?;
    read_all(&file)
}

/// Of a file that the kernel makes in one piece, as `memory.stat` and unlike `cgroup.procs`: there what is read in part
/// was read to its end.
pub(super) fn read_piece(dir: impl AsFd, name: &str) -> Io<String> {
    let file = open_read(dir, name)?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(_) if bytes.len() < bytes.capacity() => return Ok(text(bytes)),
            Ok(_) => bytes.reserve(4096),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Of the daemon's own view: only for files of `/proc`.
pub(super) fn read_path(path: &str) -> Io<String> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    read_all(&file)
}

fn read_all(file: &OwnedFd) -> Io<String> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        bytes.reserve(4096);
        match rustix::io::read(file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(text(bytes)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

pub(super) fn parse_number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// The values behind `keys` in a file of `key value` lines, 0 for one that is not there.
pub(super) fn all_keyed<const N: usize>(text: &str, keys: [&str; N]) -> [u64; N] {
    let mut values = [0; N];
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        if let Some(found) = keys.iter().position(|key| *key == name) {
            values[found] = parse_number(value).unwrap_or(0);
        }
    }
    values
}

/// The value behind `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| parse_number(value)).flatten()
    })
}
