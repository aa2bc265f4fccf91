//! The backend of the real stream server: the monitors of the pods.
//!
//! Each session has a connection of its own to its pod's monitor, because the end of an exec is
//! reported to the connection that started it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::{TcpSocket, TcpStream};

use super::backend::{
    Attach, Backend, Exec, PortForward, Process, Resize, Stdio, Wanted, WindowSize,
};
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::{ExecPlan, TerminalSize};
use crate::id::{ContainerId, ExecId};
use crate::monitor::client::{Client, Reports};
use crate::monitor::protocol::{Report, Request, SocketKind};

pub(crate) struct Monitors;

impl Backend for Monitors {
    fn exec(&self, exec: Exec) -> BoxFuture<'static, Result<Process>> {
        start_exec(exec).boxed()
    }

    fn attach(&self, attach: Attach) -> BoxFuture<'static, Result<Process>> {
        join(attach).boxed()
    }

    fn dial(&self, pod: &PortForward, port: u16) -> BoxFuture<'static, Result<TcpStream>> {
        let monitor = pod.monitor.clone();
        async move { dial(&monitor, port).await }.boxed()
    }
}

async fn start_exec(exec: Exec) -> Result<Process> {
    let plan: ExecPlan = rmp_serde::from_slice(&exec.plan).context("decode the exec's plan")?;
    let id = plan.id.clone();
    let (client, reports) = Client::connect(&exec.monitor).await?;
    let (_, fds) = client.call(Request::Exec(Box::new(plan)), Vec::new()).await?;
    let stdio = stdio(fds, exec.wanted)?;
    let resize: Resize = match &stdio.terminal {
        Some(master) => resize_directly(master.try_clone().context("copy the terminal")?),
        None => Box::new(|_| async { Ok(()) }.boxed()),
    };
    let exit = async move {
        // Reports come as long as the connection is held.
        let _held = client;
        end_of_exec(reports, &id).await
    };
    Ok(Process { stdio, exit: exit.boxed(), resize })
}

async fn join(attach: Attach) -> Result<Process> {
    let (client, reports) = Client::connect(&attach.monitor).await?;
    // First, so that the end is not missed.
    client.call(Request::Subscribe, Vec::new()).await?;
    let Wanted { stdin, stdout, stderr, tty: _ } = attach.wanted;
    let container = attach.container;
    let request = Request::Attach { container: container.clone(), stdin, stdout, stderr };
    let (_, fds) = client.call(request, Vec::new()).await?;
    let stdio = stdio(fds, attach.wanted)?;
    let (sizes, sized) = (client.clone(), container.clone());
    let resize = Box::new(move |size: WindowSize| {
        let (client, container) = (sizes.clone(), sized.clone());
        async move {
            let size = TerminalSize { width: size.columns, height: size.rows };
            client.call(Request::Resize { container, size }, Vec::new()).await.map(|_| ())
        }
        .boxed()
    });
    let exit = async move {
        let _held = client;
        end_of_container(reports, &container).await
    };
    Ok(Process { stdio, exit: exit.boxed(), resize })
}

/// Sorts the descriptors that came with a reply: with a terminal there is one, otherwise one for
/// each stream that was asked for, in order.
fn stdio(fds: Vec<OwnedFd>, wanted: Wanted) -> Result<Stdio> {
    let mut fds = fds.into_iter();
    let mut next = |is_wanted: bool| match is_wanted {
        true => fds.next().map(Some).context("the monitor sent too few descriptors"),
        false => Ok(None),
    };
    if wanted.tty {
        return Ok(Stdio { terminal: next(true)?, ..Stdio::default() });
    }
    Ok(Stdio {
        stdin: next(wanted.stdin)?,
        stdout: next(wanted.stdout)?,
        stderr: next(wanted.stderr)?,
        terminal: None,
    })
}

fn resize_directly(master: OwnedFd) -> Resize {
    Box::new(move |size| {
        let window =
            Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        let resized = tcsetwinsize(&master, window).context("set the size of the terminal");
        async move { resized }.boxed()
    })
}

async fn end_of_exec(mut reports: Reports, id: &ExecId) -> Result<i32> {
    while let Some(report) = reports.recv().await {
        if let Report::ExecExited { exec, status } = report
            && exec == *id
        {
            return Ok(status.code());
        }
    }
    Err(monitor_is_gone())
}

async fn end_of_container(mut reports: Reports, id: &ContainerId) -> Result<i32> {
    while let Some(report) = reports.recv().await {
        // A client that was attached to the end has seen all of it, whatever the code.
        if let Report::Exited { container, exit: _ } = report
            && container == *id
        {
            return Ok(0);
        }
    }
    Err(monitor_is_gone())
}

fn monitor_is_gone() -> Error {
    Error::new(Kind::Unavailable, "the pod's monitor is gone")
}

/// Connects to a port on the pod's loopback interface; programs that listen on IPv6 only are
/// found by the second try.
async fn dial(monitor: &Path, port: u16) -> Result<TcpStream> {
    let (client, _reports) = Client::connect(monitor).await?;
    let first = open(&client, SocketKind::TcpV4).await?;
    let refused = match first.connect(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await
    {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let connected = match open(&client, SocketKind::TcpV6).await {
        Ok(socket) => socket.connect(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)).await,
        // A kernel without IPv6.
        Err(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
    };
    // The first answer is the one that an operator expects to read.
    connected.map_err(|_| refused).context("connect to 127.0.0.1").kind(Kind::Unavailable)
}

async fn open(client: &Client, kind: SocketKind) -> Result<TcpSocket> {
    let socket = std::net::TcpStream::from(client.open_socket(kind).await?);
    socket.set_nonblocking(true).context("prepare the socket")?;
    socket.set_nodelay(true).context("prepare the socket")?;
    Ok(TcpSocket::from_std_stream(socket))
}
