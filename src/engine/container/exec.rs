//! ExecSync, and the sessions that Exec, Attach and PortForward hand to the stream server.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::Container;
use crate::engine::Shared;
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::{ExecPlan, Process, TerminalSize};
use crate::id::ExecId;
use crate::monitor::client::{Client, Reports, failure_of};
use crate::monitor::protocol::{ExitStatus, Failure, FailureKind, KillScope, Report, Request};

/// What is kept of each stream; the rest is read and dropped, so that the command goes on
/// (CVE-2022-1708: an unbounded capture ends the daemon).
const CAPTURE_LIMIT: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct ExecOutput {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) code: i32,
}

/// What Exec is asked for.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the CRI")]
pub(crate) struct ExecRequest {
    pub(crate) command: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// What Attach is asked for; the terminal is the container's own.
#[derive(Debug, Clone)]
pub(crate) struct AttachRequest {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Runs a command to its end. One that cannot be executed ends as a shell would say it, with 126 or
/// 127 and the reason on standard error: kubelet takes an error of the call for one of ours and goes
/// on with a probe as if it had not been asked (kubernetes/kubernetes#106682).
///
/// # Errors
/// `Timeout` when it takes longer than `timeout`; everything it started is killed then.
pub(crate) async fn exec_sync(
    shared: &Arc<Shared>,
    id: &str,
    command: Vec<String>,
    timeout: Option<Duration>,
) -> Result<ExecOutput> {
    let container = running(shared, id)?;
    let request = ExecRequest { command, tty: false, stdin: false, stdout: true, stderr: true };
    let plan = plan(shared, &container, &request)?;
    run(shared, &container, plan, Limits { time: timeout, bytes: CAPTURE_LIMIT }).await
}

/// How long a command may take, and what is kept of each of its streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Option<Duration>,
    pub(crate) bytes: usize,
}

/// As [`exec_sync`], with a plan that has both outputs and no input.
async fn run(
    shared: &Shared,
    container: &Container,
    plan: ExecPlan,
    limits: Limits,
) -> Result<ExecOutput> {
    try_run(shared, container, plan, limits).await.or_else(not_executed)
}

/// As [`exec_sync`], with a plan that has both outputs and no input; a command that cannot be
/// executed is an error.
pub(crate) async fn try_run(
    shared: &Shared,
    container: &Container,
    plan: ExecPlan,
    limits: Limits,
) -> Result<ExecOutput> {
    let exec = plan.id.clone();
    tracing::debug!(exec = exec.as_str(), container = %container.id, "exec");
    // A connection of its own: the report of the end comes to whoever started the exec.
    let socket = shared.monitor_socket(&container.record().pod);
    let (monitor, mut reports) = Client::connect(&socket).await.context("reach the monitor")?;
    // The start counts, too: in a frozen container it does not come to its end.
    let run = async {
        let started = monitor.call(Request::Exec(Box::new(plan)), Vec::new()).await;
        match started {
            Ok((_, fds)) => capture(&mut reports, &exec, fds, limits.bytes).await,
            Err(error) => {
                Err(error).with_context(|| format!("exec in container {}", container.id.short()))
            }
        }
    };
    let Some(limit) = limits.time else { return run.await };
    match tokio::time::timeout(limit, run).await {
        Ok(output) => output,
        Err(_) => {
            let kill = Request::KillExec { exec, signal: libc::SIGKILL, scope: KillScope::All };
            match monitor.call(kill, Vec::new()).await {
                Err(error) if error.kind() != Kind::NotFound => return Err(error),
                Ok(_) | Err(_) => {}
            }
            Err(Error::new(
                Kind::Timeout,
                format!("the command did not end within {} s and was killed", limit.as_secs()),
            ))
        }
    }
}

/// What a command comes to that is missing or no program.
fn not_executed(error: Error) -> Result<ExecOutput> {
    match failure_of(&error) {
        Some(
            failure @ Failure {
                kind: FailureKind::CommandNotFound | FailureKind::CommandNotExecutable,
                ..
            },
        ) => Ok(ExecOutput {
            stdout: Vec::new(),
            stderr: format!("{}\n", failure.detail).into_bytes(),
            code: failure.exit_code(),
        }),
        Some(_) | None => Err(error),
    }
}

/// Reads both streams until the command ends; what a child left behind in the background writes
/// later is nobody's.
async fn capture(
    reports: &mut Reports,
    exec: &ExecId,
    descriptors: Vec<OwnedFd>,
    limit: usize,
) -> Result<ExecOutput> {
    let mut pipes = descriptors.into_iter();
    let mut stdout = Capture::of(pipes.next(), limit)?;
    let mut stderr = Capture::of(pipes.next(), limit)?;
    let ended = ended(reports, exec);
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            status = &mut ended => break status?,
            read = stdout.read() => read?,
            read = stderr.read() => read?,
        }
    };
    // Everything the command itself wrote is in the pipes by now.
    Ok(ExecOutput { stdout: stdout.rest()?, stderr: stderr.rest()?, code: status.code() })
}

async fn ended(reports: &mut Reports, wanted: &ExecId) -> Result<ExitStatus> {
    while let Some(report) = reports.recv().await {
        match report {
            Report::ExecExited { exec, status } if exec == *wanted => return Ok(status),
            Report::ExecExited { .. } | Report::Exited { .. } => {}
        }
    }
    Err(Error::new(Kind::Unavailable, "the pod's monitor is gone"))
}

struct Capture {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
    limit: usize,
    buffer: Box<[u8]>,
    is_open: bool,
}

impl Capture {
    fn of(descriptor: Option<OwnedFd>, limit: usize) -> Result<Self> {
        let descriptor = descriptor.context("the monitor sent too few descriptors")?;
        Ok(Self {
            pipe: pipe::Receiver::from_owned_fd(descriptor).context("read from the command")?,
            kept: Vec::new(),
            limit,
            buffer: vec![0; 16 << 10].into_boxed_slice(),
            is_open: true,
        })
    }

    /// Reads once; never returns after the end of the stream.
    async fn read(&mut self) -> Result<()> {
        if !self.is_open {
            return std::future::pending().await;
        }
        let count = self.pipe.read(&mut self.buffer).await.context("read from the command")?;
        self.keep(count);
        Ok(())
    }

    /// What is in the pipe now, without waiting for more. Asks the kernel: tokio's `try_read` answers
    /// from what the last poll saw, and the command may have written after it.
    fn rest(mut self) -> Result<Vec<u8>> {
        while self.is_open {
            match rustix::io::read(&self.pipe, &mut *self.buffer) {
                Ok(count) => self.keep(count),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("read from the command"),
            }
        }
        Ok(self.kept)
    }

    fn keep(&mut self, count: usize) {
        self.is_open = count > 0;
        let room = self.limit.saturating_sub(self.kept.len());
        self.kept.extend(self.buffer.iter().take(count.min(room)));
    }
}

/// The container, if something can be executed in it.
pub(crate) fn running(shared: &Shared, id: &str) -> Result<Arc<Container>> {
    let container = shared.containers.find(id)?;
    container.check_running()?;
    Ok(container)
}

/// The init's confinement with another command.
pub(crate) fn plan(
    shared: &Shared,
    container: &Container,
    request: &ExecRequest,
) -> Result<ExecPlan> {
    let first = template(shared, container)?;
    let terminal = request.tty.then(TerminalSize::default);
    let process = crate::engine::plan::exec(&first, &request.command, terminal)?;
    Ok(ExecPlan {
        id: ExecId::generate()?,
        container: container.id.clone(),
        process,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr && !request.tty,
    })
}

/// The container's first process, as it was made.
pub(crate) fn template(shared: &Shared, container: &Container) -> Result<Process> {
    let path = shared.layout.process(&container.id);
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    rmp_serde::from_read(std::io::BufReader::new(file))
        .with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_that_the_reactor_has_not_seen_yet_is_not_lost() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let capture = Capture::of(Some(reader), CAPTURE_LIMIT).unwrap();
        rustix::io::write(&writer, b"last words").unwrap();

        assert_eq!(capture.rest().unwrap(), b"last words");
    }
}
