//! A backend without monitors: commands run as children of the test, ports are our own.

use std::os::fd::OwnedFd;
use std::process::Stdio as Std;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::backend::{Attach, Backend, Exec, PortForward, Process, Stdio, Wanted};
use crate::error::{Context, Error, Result};

/// The plan of an exec is a shell script.
pub(super) struct Local;

impl Backend for Local {
    fn exec(&self, exec: Exec) -> BoxFuture<'static, Result<Process>> {
        async move {
            let script = String::from_utf8(exec.plan).context("the plan is not a script")?;
            if script == "fail" {
                return Err(Error::not_found("container c1"));
            }
            if exec.wanted.tty { with_terminal(&script) } else { with_pipes(&script, exec.wanted) }
        }
        .boxed()
    }

    fn attach(&self, attach: Attach) -> BoxFuture<'static, Result<Process>> {
        async move { with_pipes("cat; echo done >&2", attach.wanted) }.boxed()
    }

    fn dial(&self, _pod: &PortForward, port: u16) -> BoxFuture<'static, Result<TcpStream>> {
        async move { TcpStream::connect(("127.0.0.1", port)).await.context("connect") }.boxed()
    }
}

fn pipe(wanted: bool) -> Std {
    if wanted { Std::piped() } else { Std::null() }
}

fn with_pipes(script: &str, wanted: Wanted) -> Result<Process> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(pipe(wanted.stdin))
        .stdout(pipe(wanted.stdout))
        .stderr(pipe(wanted.stderr))
        .spawn()
        .context("run a shell")?;
    let stdio = Stdio {
        stdin: child.stdin.take().map(|end| end.into_owned_fd().unwrap()),
        stdout: child.stdout.take().map(|end| end.into_owned_fd().unwrap()),
        stderr: child.stderr.take().map(|end| end.into_owned_fd().unwrap()),
        terminal: None,
    };
    Ok(Process { stdio, exit: exit_of(child), resize: Box::new(|_| async { Ok(()) }.boxed()) })
}

fn with_terminal(script: &str) -> Result<Process> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .context("open a terminal")?;
    grantpt(&master).context("grantpt")?;
    unlockpt(&master).context("unlockpt")?;
    let path = ptsname(&master, Vec::new()).context("ptsname")?;
    let slave = rustix::fs::open(
        path.as_c_str(),
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .context("open the slave")?;
    let copy = |fd: &OwnedFd| fd.try_clone().map(Std::from).context("copy a descriptor");
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "/bin/sh", "-c", script]);
    command.stdin(copy(&slave)?).stdout(copy(&slave)?).stderr(copy(&slave)?);
    let child = command.spawn().context("run a shell")?;
    // The command holds copies of the slave; with them open the master would never end.
    drop(command);
    drop(slave);
    let sizes = master.try_clone().context("copy the master")?;
    let resize = Box::new(move |size: super::backend::WindowSize| {
        let window =
            Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        let result = tcsetwinsize(&sizes, window).context("set the window size");
        async move { result }.boxed()
    });
    let stdio = Stdio { terminal: Some(master), ..Stdio::default() };
    Ok(Process { stdio, exit: exit_of(child), resize })
}

fn exit_of(mut child: tokio::process::Child) -> BoxFuture<'static, Result<i32>> {
    use std::os::unix::process::ExitStatusExt;
    async move {
        let status = child.wait().await.context("wait for the command")?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
    .boxed()
}
