//! What the daemon holds of the stream server: finds it or starts it, registers sessions, and tells
//! it of names.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::backend::{Attach, Exec, PortForward};
use super::control::{self, Reply, Request};
use super::process::{Arguments, socket_path};
use super::server::Registered;
use crate::error::{Context, Error, Kind, Result};

const START: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(10);

/// The stream server of a state directory, running or not yet.
pub(crate) struct StreamServer {
    arguments: Arguments,
    /// One start at a time.
    starting: Mutex<()>,
}

impl StreamServer {
    /// The arguments are for a stream server that is started from here; one that runs already
    /// keeps its own.
    pub(crate) fn new(arguments: Arguments) -> Self {
        Self { arguments, starting: Mutex::new(()) }
    }

    /// Looks after the stream server that an earlier daemon left, if any. One of another version
    /// keeps its sessions, but new ones go to a server of ours: only that knows our plans.
    pub(crate) async fn retire_other_version(&self) -> Result<()> {
        let Some(connection) = self.connect().await? else { return Ok(()) };
        let reply = exchange(connection, &Request::Ping).await?;
        let Reply::Here { version, .. } = reply else { return Err(unexpected(reply)) };
        if version == env!("CARGO_PKG_VERSION") {
            return Ok(());
        }
        tracing::info!("the stream server has version {version} and is replaced");
        let reply = self.ask(&Request::Retire).await?;
        if reply != Reply::Done {
            return Err(unexpected(reply));
        }
        let _starting = self.starting.lock().await;
        self.spawn().await.context("replace the stream server").kind(Kind::Unavailable)
    }

    pub(crate) async fn exec_url(&self, exec: Exec) -> Result<String> {
        self.register(Registered::Exec(exec)).await
    }

    pub(crate) async fn attach_url(&self, attach: Attach) -> Result<String> {
        self.register(Registered::Attach(attach)).await
    }

    pub(crate) async fn port_forward_url(&self, pod: PortForward) -> Result<String> {
        self.register(Registered::PortForward(pod)).await
    }

    /// Has the table of names read that stands in the state directory.
    pub(crate) async fn read_names(&self) -> Result<()> {
        let reply = match self.ask(&Request::ReadNames).await {
            // It ended while it was asked; another one can be started.
            Err(error) if error.kind() == Kind::Unavailable => {
                self.ask(&Request::ReadNames).await?
            }
            other => other?,
        };
        if reply == Reply::Done { Ok(()) } else { Err(unexpected(reply)) }
    }

    /// The same without starting a stream server for it.
    pub(crate) async fn read_names_if_running(&self) -> Result<()> {
        match self.connect().await? {
            Some(_) => self.read_names().await,
            None => Ok(()),
        }
    }

    /// Returns when no stream server is there, or the one that is has ended.
    pub(crate) async fn ended(&self) -> Result<()> {
        let Some(mut connection) = self.connect().await? else { return Ok(()) };
        // It says nothing unasked.
        let _ = connection.read_u8().await;
        Ok(())
    }

    /// Ends the stream server and every session in it.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        let Some(connection) = self.connect().await? else { return Ok(()) };
        let reply = exchange(connection, &Request::Shutdown).await?;
        if reply == Reply::Done { Ok(()) } else { Err(unexpected(reply)) }
    }

    async fn register(&self, registered: Registered) -> Result<String> {
        let reply = self.ask(&Request::Register(registered)).await?;
        if let Reply::Url(url) = reply { Ok(url) } else { Err(unexpected(reply)) }
    }

    async fn ask(&self, request: &Request) -> Result<Reply> {
        let connection = match self.connect().await? {
            Some(connection) => connection,
            None => self.start().await?,
        };
        exchange(connection, request).await
    }

    /// `None` if no stream server is there.
    async fn connect(&self) -> Result<Option<UnixStream>> {
        let path = socket_path(&self.arguments.state);
        match UnixStream::connect(&path).await {
            Ok(connection) => Ok(Some(connection)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("connect to {}", path.display())),
        }
    }

    async fn start(&self) -> Result<UnixStream> {
        let _starting = self.starting.lock().await;
        // Another call may have started it while this one waited.
        if let Some(connection) = self.connect().await? {
            return Ok(connection);
        }
        self.spawn().await.context("start the stream server").kind(Kind::Unavailable)?;
        let connection = self.connect().await?;
        connection.ok_or_else(|| {
            Error::new(Kind::Unavailable, "the stream server ended right after its start")
        })
    }

    async fn spawn(&self) -> Result<()> {
        // By this link the program is found even after its file was replaced by an update.
        let mut child = Command::new("/proc/self/exe")
            .arg0("caisd")
            .arg("stream-server")
            .args(self.arguments.words())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("run /proc/self/exe")?;
        let mut ready = child.stdout.take().context("its standard output")?;
        // It outlives us, but while we live somebody must take note of its end.
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::warn!("the stream server ended: {status}"),
                Err(error) => tracing::warn!("wait for the stream server: {error}"),
            }
        });
        let mut word = Vec::new();
        let read = timeout(START, async {
            while word.last() != Some(&b'\n') && ready.read_buf(&mut word).await? > 0 {}
            std::io::Result::Ok(())
        });
        match read.await {
            Ok(Ok(())) if word == b"ready\n" => Ok(()),
            Ok(Ok(())) => Err(Error::internal("it ended before it was ready")),
            Ok(Err(error)) => Err(error).context("wait until it is ready"),
            Err(_) => Err(Error::new(Kind::Timeout, "it was not ready in 10 seconds")),
        }
    }
}

async fn exchange(mut connection: UnixStream, request: &Request) -> Result<Reply> {
    let answered = timeout(ANSWER, async {
        control::send(&mut connection, request).await?;
        control::receive(&mut connection).await
    });
    match answered.await {
        Ok(Ok(Some(reply))) => Ok(reply),
        Ok(Ok(None)) => Err(Error::new(Kind::Unavailable, "the stream server closed")),
        Ok(Err(error)) => Err(error).context("ask the stream server").kind(Kind::Unavailable),
        Err(_) => Err(Error::new(Kind::Timeout, "the stream server does not answer")),
    }
}

fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Exhausted(text) => Error::new(Kind::Exhausted, text),
        Reply::Failed(text) => Error::internal(text),
        Reply::Here { .. } | Reply::Url(_) | Reply::Done => {
            Error::internal("the stream server answered something else than was asked")
        }
    }
}
