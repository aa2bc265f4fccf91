//! Where a path in a container is.

use std::ffi::OsString;
use std::fs::read_to_string;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::engine::Shared;
use crate::engine::container::config::{Mount, MountSource};
use crate::engine::standalone::record::Record;
use crate::engine::volume;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{Life, Writable};

/// A path in a container, and the root below which it is resolved.
pub(super) struct View {
    pub(super) root: OwnedFd,
    /// Relative to the root, with the slash or dot at its end that it was asked for with.
    pub(super) path: PathBuf,
    /// Where in the container the root is.
    pub(super) at: PathBuf,
}

/// For those who read. Nobody is kept from starting the container meanwhile.
pub(super) fn to_read(shared: &Shared, record: &Record, path: &str) -> Result<View> {
    let path = clean(path);
    if let Some(view) = elsewhere(shared, record, &path, Access::Read)? {
        return Ok(view);
    }
    let root = whole(shared, record)?;
    Ok(View { root, path: relative(&path), at: "/".into() })
}

/// The layers of a container with its changes, and nothing that is mounted in it.
pub(super) fn whole(shared: &Shared, record: &Record) -> Result<OwnedFd> {
    let upper = shared.layout.container_root(&record.id).join("upper");
    shared.images.mount_view(&record.layers, upper.exists().then_some(upper.as_path()))
}

/// For those who write, and hold the container's mutation lock if it does not run.
pub(super) fn to_write(shared: &Shared, record: &Record, path: &str) -> Result<View> {
    let path = clean(path);
    if let Some(view) = elsewhere(shared, record, &path, Access::Write)? {
        return Ok(view);
    }
    if record.config.container.security.readonly_rootfs {
        return Err(Error::invalid("container rootfs is marked read-only"));
    }
    let held = shared.images.hold(&record.image_id);
    let held =
        held.ok_or_else(|| Error::not_found(format!("No such image: {}", record.image_name)))?;
    let (upper, work) = shared.layout.make_container_root(&record.id)?;
    let life = if record.config.auto_remove { Life::Short } else { Life::Long };
    let writable = Writable { upper: &upper, work: &work, life };
    let root = shared.images.mount(&held.image, Some(writable), None)?;
    Ok(View { root, path: relative(&path), at: "/".into() })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// In the process that runs, or in a volume of one that does not.
fn elsewhere(
    shared: &Shared,
    record: &Record,
    path: &Path,
    access: Access,
) -> Result<Option<View>> {
    if record.run().is_some()
        && let Some(root) = root_of_process(record)
    {
        let path = relative(path);
        return Ok(Some(View { root, path, at: "/".into() }));
    }
    let is_above = |mount: &&Mount| path.starts_with(&mount.container_path);
    let mounts = record.config.container.mounts.iter().filter(is_above);
    let Some(mount) = mounts.max_by_key(|mount| mount.container_path.components().count()) else {
        return Ok(None);
    };
    if mount.readonly && access == Access::Write {
        return Err(Error::invalid("mounted volume is marked read-only"));
    }
    let at = mount.container_path.clone();
    let (root, part) = match &mount.source {
        MountSource::Volume(request) => {
            (volume::directory(shared, &request.name)?, request.sub_path.as_str())
        }
        MountSource::Host(path) => (path.clone(), ""),
        // They are there while it runs.
        MountSource::Image { .. } | MountSource::Tmpfs => return Ok(None),
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, &root, flags, Mode::empty())
        .kind(Kind::NotFound)
        .with_context(|| format!("open what is mounted at {}", at.display()))?;
    let rest = path.strip_prefix(&at).unwrap_or(Path::new(""));
    let mut path = PathBuf::from(part.trim_matches('/'));
    path.push(relative(rest));
    Ok(Some(View { root, path: relative(&path), at }))
}

/// `None` if the process is gone, or its number is another's by now.
fn root_of_process(record: &Record) -> Option<OwnedFd> {
    let pid = record.run().and_then(|run| Pid::from_raw(run.pid))?;
    // Whose number it is cannot change as long as this process lives.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let groups = read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    if !groups.contains(record.id.as_str()) {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{pid}/root/."), flags, Mode::empty()).ok()?;
    let mut poll_fd = [PollFd::new(&process, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let has_ended = poll(&mut poll_fd, Some(&now)).ok()? > 0;
    (!has_ended).then_some(root)
}

impl View {
    /// Opens what the path leads to, or the link at its end.
    pub(super) fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_below(&self.root, &self.path, flags)
    }

    /// The directory that the path's last name is in, and that name; `None` for the root itself.
    pub(super) fn parent(&self) -> rustix::io::Result<Option<(OwnedFd, OsString)>> {
        let Some(name) = self.path.file_name() else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let parent = open_below(&self.root, self.path.parent().unwrap_or(Path::new("")), flags)?;
        Ok(Some((parent, name.to_owned())))
    }
}

/// Opens a path as the root would have it: links lead nowhere but inside. Empty: the root itself.
pub(crate) fn open_below(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let root = root.as_fd();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel could not rule out a rename somewhere on the host.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The path of what is open, below the root.
pub(crate) fn where_it_is(root: impl AsFd, there: impl AsFd) -> rustix::io::Result<PathBuf> {
    let shown = |fd: BorrowedFd<'_>| -> rustix::io::Result<PathBuf> {
        let shown = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), [])?;
        Ok(PathBuf::from(OsString::from_vec(shown.into_bytes())))
    };
    let (whole, above) = (shown(there.as_fd())?, shown(root.as_fd())?);
    let below = whole.strip_prefix(&above).unwrap_or(&whole);
    Ok(below.strip_prefix("/").unwrap_or(below).to_owned())
}

/// Below a root, without `.`, `..` and doubled slashes; empty for the root itself.
pub(crate) fn below_root(path: &str) -> PathBuf {
    let mut below = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::ParentDir => {
                below.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    below
}

/// Absolute, without `.`, `..` and doubled slashes; a slash or dot at the end stays, since it asks
/// for a directory.
pub(super) fn clean(path: &str) -> PathBuf {
    let mut clean = Path::new("/").join(below_root(path));
    let wants_directory = path.ends_with('/') || path.ends_with("/.") || path == ".";
    if wants_directory && clean != Path::new("/") {
        clean.as_mut_os_string().push("/.");
    }
    clean
}

/// Never empty.
fn relative(path: &Path) -> PathBuf {
    let text = path.as_os_str().to_string_lossy();
    let ends = text.ends_with("/.");
    let mut relative: PathBuf =
        path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if relative.as_os_str().is_empty() {
        return PathBuf::from(".");
    }
    if ends {
        relative.as_mut_os_string().push("/.");
    }
    relative
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_and_keeps_what_asks_for_a_directory() {
        for (path, expected, below) in [
            ("", "/", "."),
            ("/", "/", "."),
            (".", "/", "."),
            ("etc//hosts", "/etc/hosts", "etc/hosts"),
            ("/a/../../b", "/b", "b"),
            ("/a/", "/a/.", "a/."),
            ("/a/.", "/a/.", "a/."),
            ("/a/./b", "/a/b", "a/b"),
        ] {
            let clean = clean(path);
            assert_eq!(clean.to_str().unwrap(), expected, "{path}");
            assert_eq!(relative(&clean).to_str().unwrap(), below, "{path}");
        }
    }
}
