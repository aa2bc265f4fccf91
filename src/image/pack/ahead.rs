//! Members of a directory, read by two threads before they are written: an archive of many small files is mostly system calls.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::OVERLAY;
use crate::image::xattr;

/// Members, and so many files may be open.
pub(super) const AT_ONCE: usize = 128;
const WORTH_A_THREAD: usize = 32;
/// Of a file that is read whole, in bytes.
const SMALL: u64 = 32 << 10;

/// Keys and values of pax records.
pub(super) type Attributes = Vec<(String, Vec<u8>)>;

pub(super) struct Loaded {
    pub(super) stat: Stat,
    /// A regular file, if it has one name alone: any other may have been written already.
    pub(super) opened: Option<Opened>,
}

pub(super) struct Opened {
    pub(super) stat: Stat,
    pub(super) attributes: Attributes,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// As long as the file was.
    Whole(Vec<u8>),
    File(File),
}

impl Loaded {
    pub(super) fn of(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let opened = match is_file && stat.st_nlink == 1 {
            true => Some(Opened::of(parent, name)?),
            false => None,
        };
        Ok(Self { stat, opened })
    }
}

impl Opened {
    pub(super) fn of(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let name = name.to_string_lossy();
            return Err(io::Error::other(format!("{name} was replaced meanwhile")));
        }
        let attributes = attributes(opened.as_fd())?;
        let (size, mut file) = (stat.st_size.unsigned_abs(), File::from(opened));
        let content = match usize::try_from(size) {
            Ok(length) if size <= SMALL => Content::Whole(whole(&mut file, length)?),
            _ => Content::File(file),
        };
        Ok(Self { stat, attributes, content })
    }
}

/// What is missing by now is zeros.
fn whole(file: &mut File, length: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut content)?;
    content.resize(length, 0);
    Ok(content)
}

/// Extended attributes as pax records.
pub(super) fn attributes(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut records = Vec::new();
    for name in xattr::names(file)? {
        if name.to_bytes() == b"trusted.overlay.redirect" {
            return Err(io::Error::other("overlayfs has renamed a directory of a layer below"));
        }
        if name.to_bytes().starts_with(OVERLAY) {
            continue;
        }
        let Ok(shown) = name.to_str() else { continue };
        records.push((format!("SCHILY.xattr.{shown}"), xattr::value(file, &name)?));
    }
    Ok(records)
}

/// A thread that reads one half while its owner reads the other.
pub(super) struct Helper {
    asked: Sender<(OwnedFd, Vec<CString>)>,
    loaded: Receiver<Vec<io::Result<Loaded>>>,
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (asked, questions) = channel::<(OwnedFd, Vec<CString>)>();
        let (answers, loaded) = channel();
        let load = move || {
            for (directory, names) in questions {
                let loaded = load(directory.as_fd(), &names);
                // The directory may have to be let go once there is an answer.
                drop(directory);
                if answers.send(loaded).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("read".into()).spawn(load)?;
        Ok(Self { asked, loaded })
    }
}

/// At most [`AT_ONCE`] members of a directory, in their order. A helper is started where there is none.
pub(super) fn load_all(
    helper: &mut Option<Helper>,
    directory: BorrowedFd<'_>,
    names: &[CString],
) -> io::Result<Vec<io::Result<Loaded>>> {
    if names.len() < WORTH_A_THREAD {
        return Ok(load(directory, names));
    }
    if helper.is_none() {
        *helper = Helper::start().ok();
    }
    // Where no more threads may be one reads all.
    let Some(helper) = helper else { return Ok(load(directory, names)) };
    let gone = || io::Error::other("a thread that reads is gone");
    let (here, there) = names.split_at(names.len() / 2);
    let asked = helper.asked.send((directory.try_clone_to_owned()?, there.to_vec()));
    asked.map_err(|_| gone())?;
    let mut loaded = load(directory, here);
    loaded.extend(helper.loaded.recv().map_err(|_| gone())?);
    Ok(loaded)
}

fn load(directory: BorrowedFd<'_>, names: &[CString]) -> Vec<io::Result<Loaded>> {
    names.iter().map(|name| Loaded::of(directory, name)).collect()
}
