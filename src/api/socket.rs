//! A Unix socket that only root, and one group if wanted, may connect to.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};

/// The kernel's `sun_path`, with its terminating zero.
const LONGEST_PATH: usize = 107;

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Owner,
    /// The owner and this group.
    Group(u32),
}

impl Access {
    /// The owner alone if there is no such group.
    pub(super) fn of_group(name: &str) -> Self {
        // Read here: the C library would load its name services, which a static program has not.
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        gid_of(&groups, name).map_or(Self::Owner, Self::Group)
    }
}

/// `name:password:gid:members`, see group(5).
fn gid_of(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = !name.is_empty() && fields.next() == Some(name);
        is_it.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// A bound socket. Dropping it removes the file, unless another one stands there by then.
pub(super) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode.
    identity: (u64, u64),
}

impl Socket {
    /// Binds at `path`. A file left by a dead daemon is replaced in one step, so that no client
    /// ever finds the path empty; one that somebody listens on is left alone.
    pub(super) fn bind(path: &Path, access: Access) -> Result<Self> {
        let context = || format!("listen on {}", path.display());
        check_free(path).with_context(context)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .with_context(|| format!("make {}", directory.display()))?;

        // Bound under another name first: between bind(2) and chmod(2) anybody could connect.
        let fresh = fresh_name(path);
        if fresh.as_os_str().len() > LONGEST_PATH {
            let why = format!("{} is too long a path for a socket", path.display());
            return Err(Error::invalid(why)).with_context(context);
        }
        remove_file(&fresh).with_context(context)?;
        let listener = UnixListener::bind(&fresh).with_context(context)?;
        let placed = place(&fresh, path, access);
        if placed.is_err() {
            // The error that matters is the one above.
            let _ = fs::remove_file(&fresh);
        }
        let identity = placed.with_context(context)?;
        Ok(Self { path: path.to_owned(), listener, identity })
    }

    pub(super) fn listener(&self) -> Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone().context("share the socket")?;
        listener.set_nonblocking(true).context("share the socket")?;
        tokio::net::UnixListener::from_std(listener).context("watch the socket")
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            // Nothing can be done about a failure, and the next daemon replaces the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn place(fresh: &Path, path: &Path, access: Access) -> std::io::Result<(u64, u64)> {
    let mode = match access {
        Access::Owner => 0o600,
        Access::Group(gid) => {
            std::os::unix::fs::chown(fresh, None, Some(gid))?;
            0o660
        }
    };
    fs::set_permissions(fresh, Permissions::from_mode(mode))?;
    fs::rename(fresh, path)?;
    fs::symlink_metadata(path).map(|found| identity(&found))
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Beside `path`, hidden, and short enough to hardly ever be too long where `path` is not.
fn fresh_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Whether `path` can be taken: nothing there, or a socket that nobody listens on.
fn check_free(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("look for a socket"),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::new(Kind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::new(Kind::Busy, "another program listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error).context("ask who listens there"),
    }
}

fn remove_file(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> Kind {
        Socket::bind(path, Access::Owner).err().unwrap().kind()
    }

    #[test]
    fn only_the_owner_may_connect_and_nothing_stays_behind() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("run/cri.sock");
        let socket = Socket::bind(&path, Access::Owner).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(temp.path().join("run")).unwrap().count(), 1);
        drop(socket);
        assert_eq!(fs::read_dir(temp.path().join("run")).unwrap().count(), 0);
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\ncaisson:x:7:\ncais:x:990:ana,rui\nbroken:x\n";
        assert_eq!(gid_of(groups, "cais"), Some(990));
        for name in ["", "ca", "broken", "nobody"] {
            assert_eq!(gid_of(groups, name), None, "{name}");
        }
    }

    #[test]
    fn a_group_may_connect_too() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("docker.sock");
        let gid = rustix::process::getgid().as_raw();
        let _socket = Socket::bind(&path, Access::Group(gid)).unwrap();

        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.gid()), (0o660, gid));
    }

    #[test]
    fn a_socket_of_a_dead_daemon_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cri.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);

        let _socket = Socket::bind(&path, Access::Owner).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_in_use_and_a_file_that_is_no_socket_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let (used, file) = (temp.path().join("used"), temp.path().join("file"));
        let _other = Socket::bind(&used, Access::Owner).unwrap();
        fs::File::create(&file).unwrap();

        assert_eq!(refused(&used), Kind::Busy);
        UnixStream::connect(&used).unwrap();
        assert_eq!(refused(&file), Kind::AlreadyExists);
        assert!(file.is_file());
        assert_eq!(refused(&temp.path().join("a".repeat(120))), Kind::InvalidArgument);
    }

    #[test]
    fn a_successors_socket_is_not_removed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cri.sock");
        let first = Socket::bind(&path, Access::Owner).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = Socket::bind(&path, Access::Owner).unwrap();

        drop(first);
        UnixStream::connect(&path).unwrap();
    }
}
