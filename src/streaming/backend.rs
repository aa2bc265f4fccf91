//! What the stream server asks of a pod's monitor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::error::Result;
use crate::id::{ContainerId, PodId};

/// Which standard streams a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent wish of the client")]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// A command to be executed in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exec {
    pub(crate) monitor: PathBuf,
    pub(crate) container: ContainerId,
    /// The plan of the process as the daemon encoded it; only the monitor reads it.
    #[serde(with = "serde_bytes")]
    pub(crate) plan: Vec<u8>,
    pub(crate) wanted: Wanted,
}

/// The standard streams of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attach {
    pub(crate) monitor: PathBuf,
    pub(crate) container: ContainerId,
    pub(crate) wanted: Wanted,
}

/// Connections into a pod's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortForward {
    pub(crate) monitor: PathBuf,
    pub(crate) pod: PodId,
    /// The ports named in the request. WebSocket channels are numbered by them; SPDY streams name
    /// their port themselves.
    pub(crate) ports: Vec<u16>,
}

/// Our ends of the standard streams. With a terminal, `terminal` is its master and the others are
/// absent.
#[derive(Debug, Default)]
pub(crate) struct Stdio {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// The size of a terminal window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowSize {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
}

/// A process whose standard streams a session carries.
pub(crate) struct Process {
    pub(crate) stdio: Stdio,
    /// The exit code, once the process ended; signals count from 128.
    pub(crate) exit: BoxFuture<'static, Result<i32>>,
    /// Changes the size of the terminal.
    pub(crate) resize: Resize,
}

pub(crate) type Resize = Box<dyn FnMut(WindowSize) -> BoxFuture<'static, Result<()>> + Send>;

pub(crate) trait Backend: Send + Sync + 'static {
    fn exec(&self, exec: Exec) -> BoxFuture<'static, Result<Process>>;

    /// The process of an attach ends when the container ends.
    fn attach(&self, attach: Attach) -> BoxFuture<'static, Result<Process>>;

    /// Connects to a port on the loopback interface of the pod.
    fn dial(&self, pod: &PortForward, port: u16) -> BoxFuture<'static, Result<TcpStream>>;
}
