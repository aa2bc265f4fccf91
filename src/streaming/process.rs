//! The process `caisd stream-server`, from its start to its end.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use super::backend::Backend;
use super::control::Control;
use super::server::{self, Shared};
use super::tokens::Tokens;
use crate::error::{Context, Error, Kind, Result};

/// The control socket below the state directory.
pub(crate) fn socket_path(state: &Path) -> PathBuf {
    state.join("streams.sock")
}

/// Serves until a request on the control socket asks to stop. Says `ready` on standard output once
/// the sockets are open, for the daemon that waits for it.
pub(crate) fn run(state: &Path, address: SocketAddr, backend: Arc<dyn Backend>) -> Result<()> {
    // The daemon's terminal and process group are not ours: its end shall not be our end. This
    // fails only for the leader of a group, which then has what it wants already.
    let _ = rustix::process::setsid();
    let Some(_lock) = lock(state)? else {
        return Err(Error::new(Kind::Busy, "another stream server serves this state directory"));
    };
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime of the stream server")?;
    runtime.block_on(serve(state, address, backend))
}

async fn serve(state: &Path, address: SocketAddr, backend: Arc<dyn Backend>) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for streams"))?;
    let address = listener.local_addr().context("the address for streams")?;
    let control_listener = bind_control(&socket_path(state))?;
    let shared = Arc::new(Shared { tokens: Tokens::default(), backend });
    let control = Arc::new(Control { shared: Arc::clone(&shared), address, stop: Notify::new() });
    tracing::info!(%address, "stream server is ready");
    // Nobody may be listening.
    let _ = std::io::stdout().write_all(b"ready\n").and_then(|()| std::io::stdout().flush());
    tokio::select! {
        () = control.run(control_listener) => Ok(()),
        ended = server::run(listener, shared) => match ended? {},
    }
}

/// One stream server per state directory; the lock ends with the process.
fn lock(state: &Path) -> Result<Option<File>> {
    let path = state.join("streams.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

fn bind_control(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old {}", path.display()));
        }
        _ => {}
    }
    // The socket is closed to others from its first moment on.
    let previous = rustix::process::umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(previous);
    listener.with_context(|| format!("listen on {}", path.display()))
}

/// A session holds up to six descriptors.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("raise the limit of open files: {error}");
    }
}
