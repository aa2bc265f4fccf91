//! The process `caisd stream-server`, from its start to its end.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use super::backend::Backend;
use super::control::{Control, Stop};
use super::monitors::Monitors;
use super::server::{self, Shared};
use super::tokens;
use crate::dns;
use crate::error::{Context, Error, Kind, Result};

const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The control socket below the state directory.
pub(crate) fn socket_path(state: &Path) -> PathBuf {
    state.join("streams.sock")
}

/// What `caisd stream-server` is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) state: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) log_level: String,
}

impl Arguments {
    /// Reads what comes after `stream-server`; the daemon is the only caller.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let (mut state, mut address, mut log_level) = (None, None, None);
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let Some(value) = arguments.next() else {
                return Err(Error::invalid(format!("{} needs a value", name.display())));
            };
            match name.to_str() {
                Some("--state") => state = Some(PathBuf::from(value)),
                Some("--address") => address = value.to_str().and_then(|text| text.parse().ok()),
                Some("--log-level") => log_level = value.into_string().ok(),
                _ => return Err(Error::invalid(format!("{} is unknown", name.display()))),
            }
        }
        Ok(Self {
            state: state.ok_or_else(|| Error::invalid("--state is missing"))?,
            address: address.ok_or_else(|| Error::invalid("--address is missing or wrong"))?,
            log_level: log_level.unwrap_or_else(|| "info".to_owned()),
        })
    }

    /// The same as words of a command line.
    pub(crate) fn words(&self) -> [OsString; 6] {
        [
            "--state".into(),
            self.state.clone().into(),
            "--address".into(),
            self.address.to_string().into(),
            "--log-level".into(),
            self.log_level.clone().into(),
        ]
    }
}

/// The whole life of `caisd stream-server`, from its command line on.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let arguments = Arguments::parse(arguments)?;
    // The daemon that started us may be gone, and the reader of its logs with it.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).log_internal_errors(false);
    log.with_ansi(false).with_env_filter(EnvFilter::new(&arguments.log_level)).init();
    run(&arguments.state, arguments.address, Arc::new(Monitors))
}

/// Serves until it is asked to stop. Says `ready` on standard output once the sockets are open,
/// for the daemon that waits for it.
pub(crate) fn run(state: &Path, address: SocketAddr, backend: Arc<dyn Backend>) -> Result<()> {
    // The daemon's terminal and process group are not ours: its end shall not be our end. This
    // fails only for the leader of a group, which then has what it wants already.
    let _ = rustix::process::setsid();
    let lock = lock(state)?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime of the stream server")?;
    runtime.block_on(serve(state, address, lock, backend))
}

async fn serve(
    state: &Path,
    address: SocketAddr,
    lock: File,
    backend: Arc<dyn Backend>,
) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for streams"))?;
    let address = listener.local_addr().context("the address for streams")?;
    let control_listener = bind_control(&socket_path(state))?;
    let shared = Shared::new(backend);
    let names = Arc::new(dns::Server::new(state));
    // Whoever was here before has left its questions in the sockets.
    if let Err(error) = names.read().await {
        tracing::warn!("take up the names of containers: {}", error.chain());
    }
    let control = Control::new(Arc::clone(&shared), Arc::clone(&names), address);
    tracing::info!(%address, "stream server is ready");
    // Nobody may be listening.
    let _ = std::io::stdout().write_all(b"ready\n").and_then(|()| std::io::stdout().flush());
    tokio::select! {
        () = until_stopped(control, control_listener, (&shared, &names), lock) => Ok(()),
        ended = server::run(listener, Arc::clone(&shared)) => match ended? {},
    }
}

async fn until_stopped(
    control: Arc<Control>,
    listener: UnixListener,
    (shared, names): (&Shared, &dns::Server),
    lock: File,
) {
    if control.run(listener).await == Stop::Now {
        return;
    }
    tracing::info!("another stream server takes over; this one ends with its last session");
    names.stop().await;
    drop(lock);
    // Addresses that were given out stay good to the end of their time.
    let _ = timeout(tokens::LIFETIME, std::future::pending::<()>()).await;
    shared.sessions.close();
    shared.sessions.wait().await;
}

/// One stream server per state directory has the control socket. One that retires gives it up at
/// once, so a short wait is enough.
fn lock(state: &Path) -> Result<File> {
    let path = state.join("streams.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    let (locked, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || locked.send(file.lock().map(|()| file)));
    match waiting.recv_timeout(LOCK_PATIENCE) {
        Ok(file) => file.with_context(|| format!("lock {}", path.display())),
        Err(_) => Err(Error::new(Kind::Busy, "another stream server serves this state directory")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_command_line_are_read_back() {
        let arguments = Arguments {
            state: "/run/cais".into(),
            address: "127.0.0.1:0".parse().unwrap(),
            log_level: "debug".to_owned(),
        };
        assert_eq!(Arguments::parse(arguments.words()).unwrap(), arguments);
    }

    #[test]
    fn a_wrong_command_line_is_refused_by_name() {
        for (words, named) in [
            (&["--state"][..], "--state"),
            (&["--state", "/x", "--address", "nowhere"], "--address"),
            (&["--verbose", "1"], "--verbose"),
        ] {
            let error = Arguments::parse(words.iter().map(OsString::from)).unwrap_err();
            assert!(error.chain().contains(named), "{}", error.chain());
        }
    }
}
