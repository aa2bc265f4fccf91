//! A Unix socket that only root may connect to.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};

/// The kernel's `sun_path`, with its terminating zero.
const LONGEST_PATH: usize = 107;

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
    pub(super) fn bind(path: &Path) -> Result<Self> {
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
        let placed = place(&fresh, path);
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

fn place(fresh: &Path, path: &Path) -> std::io::Result<(u64, u64)> {
    fs::set_permissions(fresh, Permissions::from_mode(0o600))?;
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
        Socket::bind(path).err().unwrap().kind()
    }

    #[test]
    fn only_the_owner_may_connect_and_nothing_stays_behind() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("run/cri.sock");
        let socket = Socket::bind(&path).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(temp.path().join("run")).unwrap().count(), 1);
        drop(socket);
        assert_eq!(fs::read_dir(temp.path().join("run")).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_of_a_dead_daemon_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cri.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);

        let _socket = Socket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_in_use_and_a_file_that_is_no_socket_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let (used, file) = (temp.path().join("used"), temp.path().join("file"));
        let _other = Socket::bind(&used).unwrap();
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
        let first = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = Socket::bind(&path).unwrap();

        drop(first);
        UnixStream::connect(&path).unwrap();
    }
}
