//! The way to a monitor for the daemon and the stream server.
//!
//! One task owns the socket. Calls go to it through a channel and come back through a one-shot
//! each, so any number may be under way; dropping the future of a call drops the answer, not the
//! call. When the monitor closes the connection, every waiting call fails with `Unavailable`, the
//! reports end, and [`Client::closed`] returns.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

use super::protocol::{
    Call, Failure, FailureKind, Message, Reply, Report, Request, SocketKind, VERSION,
};
use super::wire::{Decoder, Outbox};
use crate::error::{Context, Error, Kind, Result};

type Answer = Result<(Reply, Vec<OwnedFd>)>;

/// A connection to one monitor. Clones share it; it ends when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    calls: mpsc::Sender<Outgoing>,
    closed: watch::Receiver<bool>,
}

/// What the monitor says unasked. Ends when the connection does.
pub(crate) type Reports = mpsc::UnboundedReceiver<Report>;

#[derive(Debug)]
struct Outgoing {
    request: Request,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<Answer>,
}

impl Client {
    /// Connects to the monitor that listens at `path` and greets it.
    pub(crate) async fn connect(path: &Path) -> Result<(Self, Reports)> {
        let socket = connect(path)
            .with_context(|| format!("connect to the monitor at {}", path.display()))
            .kind(Kind::Unavailable)?;
        Self::on(socket).await
    }

    async fn on(socket: OwnedFd) -> Result<(Self, Reports)> {
        let socket = crate::sys::readiness::watch(socket, Interest::READABLE | Interest::WRITABLE)
            .context("watch the monitor's socket")?;
        let (calls, incoming) = mpsc::channel(64);
        let (reporting, reports) = mpsc::unbounded_channel();
        let (closing, closed) = watch::channel(false);
        let connection = Connection {
            socket,
            decoder: Decoder::default(),
            outbox: Outbox::default(),
            waiting: HashMap::new(),
            sequence: 0,
            reports: reporting,
        };
        tokio::spawn(async move {
            connection.run(incoming).await;
            let _ = closing.send(true);
        });
        let client = Self { calls, closed };
        client.call(Request::Hello { version: VERSION }, Vec::new()).await?;
        Ok((client, reports))
    }

    /// Sends a request with descriptors and waits for its reply.
    pub(crate) async fn call(&self, request: Request, fds: Vec<OwnedFd>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing { request, fds, answer };
        if self.calls.send(outgoing).await.is_err() {
            return Err(gone());
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// A socket that lives in the pod's network namespace.
    pub(crate) async fn open_socket(&self, kind: SocketKind) -> Result<OwnedFd> {
        let (reply, descriptors) = self.call(Request::OpenSocket(kind), Vec::new()).await?;
        match (reply, descriptors.into_iter().next()) {
            (Reply::Socket, Some(socket)) => Ok(socket),
            (reply, _) => {
                Err(Error::internal(format!("the monitor answered {reply:?} to OpenSocket")))
            }
        }
    }

    /// Returns when the connection has ended, which usually means that the monitor died.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the task is gone, which is the same.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

fn gone() -> Error {
    Error::new(Kind::Unavailable, "the monitor closed the connection")
}

struct Connection {
    socket: AsyncFd<OwnedFd>,
    decoder: Decoder,
    outbox: Outbox,
    waiting: HashMap<u32, oneshot::Sender<Answer>>,
    sequence: u32,
    reports: mpsc::UnboundedSender<Report>,
}

impl Connection {
    async fn run(mut self, mut incoming: mpsc::Receiver<Outgoing>) {
        let mut scratch = vec![0_u8; 64 * 1024];
        loop {
            let interest = if self.outbox.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let step = tokio::select! {
                call = incoming.recv() => match call {
                    Some(call) => self.accept(call),
                    None => return,
                },
                ready = self.socket.ready(interest) => match ready {
                    Ok(mut guard) => {
                        let ready = guard.ready();
                        let mut result = Ok(());
                        if ready.is_writable()
                            && self.outbox.flush(guard.get_inner().as_fd()) == Err(Errno::AGAIN)
                        {
                            guard.clear_ready_matching(tokio::io::Ready::WRITABLE);
                        }
                        if ready.is_readable() || ready.is_read_closed() {
                            let socket = guard.get_inner().as_fd();
                            match self.decoder.receive(socket, &mut scratch) {
                                Ok(0) => result = Err(gone()),
                                Ok(_) => {}
                                Err(Errno::AGAIN) => {
                                    guard.clear_ready_matching(tokio::io::Ready::READABLE);
                                }
                                Err(Errno::INTR) => {}
                                Err(errno) => result = Err(io::Error::from(errno))
                                    .context("read from the monitor"),
                            }
                        }
                        drop(guard);
                        result.and_then(|()| self.deliver())
                    }
                    Err(error) => Err(error).context("wait for the monitor"),
                },
            };
            if let Err(error) = step {
                return self.fail(&error);
            }
        }
    }

    fn accept(&mut self, call: Outgoing) -> Result<()> {
        let Outgoing { request, fds, answer } = call;
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        if let Err(error) = self.outbox.push(&Call { sequence, request }, fds) {
            // This call cannot be sent; the connection is as good as before.
            let _ = answer.send(Err(error));
            return Ok(());
        }
        self.waiting.insert(sequence, answer);
        match self.outbox.flush(self.socket.get_ref().as_fd()) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            // What the monitor said before it went is still to be read; reading finds the end.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(io::Error::from(errno)).context("write to the monitor"),
        }
    }

    fn deliver(&mut self) -> Result<()> {
        while let Some(frame) = self.decoder.next()? {
            match frame.decode()? {
                Message::Report(report) => {
                    // Nobody listens to reports on a connection that is used for calls only.
                    let _ = self.reports.send(report);
                }
                Message::Reply { sequence, result } => {
                    if let Some(answer) = self.waiting.remove(&sequence) {
                        let result = result.map(|reply| (reply, frame.fds)).map_err(Error::from);
                        // The caller may have given up.
                        let _ = answer.send(result);
                    }
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &Error) {
        for (_, answer) in self.waiting.drain() {
            let _ = answer.send(Err(Error::new(Kind::Unavailable, error.chain())));
        }
    }
}

impl From<Failure> for Error {
    /// The words of the step, with the kind that a caller branches on; `failure_of` gives the
    /// rest back to who needs to tell a missing command from a missing container.
    fn from(failure: Failure) -> Self {
        let Failure { kind, step, errno: _, detail } = &failure;
        let message = match kind {
            FailureKind::CommandNotFound | FailureKind::CommandNotExecutable => detail.clone(),
            FailureKind::Invalid
            | FailureKind::NotFound
            | FailureKind::WrongState
            | FailureKind::Internal => format!("{step}: {detail}"),
        };
        let kind = match kind {
            FailureKind::Invalid => Kind::InvalidArgument,
            FailureKind::NotFound => Kind::NotFound,
            FailureKind::WrongState => Kind::WrongState,
            // It is the request that names a file which is no program.
            FailureKind::CommandNotFound | FailureKind::CommandNotExecutable => {
                Kind::InvalidArgument
            }
            FailureKind::Internal => Kind::Internal,
        };
        let wrapped: Result<()> = Err(failure).context(message).kind(kind);
        wrapped.err().unwrap_or_else(gone)
    }
}

/// The monitor's own account of an error that came from it.
pub(crate) fn failure_of(error: &Error) -> Option<&Failure> {
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        if let Some(failure) = source.downcast_ref() {
            return Some(failure);
        }
        next = source.source();
    }
    None
}

/// Starts connecting a non-blocking socket, which for this family is all there is to it.
fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    with_address(path, |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// A socket address holds 107 bytes. A longer path is reached through its open directory.
pub(super) fn with_address(
    path: &Path,
    act: impl FnOnce(&SocketAddrUnix) -> Result<(), Errno>,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok(act(&address)?);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, rustix::fs::Mode::empty())?;
    let through = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(act(&SocketAddrUnix::new(&through)?)?)
}
