//! Commands in running containers that are made first and started later, as Docker has them.
//!
//! ```text
//!   Created ──start──▶ Running ──ended──▶ Exited (kept for who asks for its code)
//! ```
//!
//! They live as long as the daemon. A command outlives it, its client does not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Session, command_code};
use crate::engine::Shared;
use crate::engine::actions::Act;
use crate::engine::container::exec::{self as engine_exec, ExecRequest};
use crate::engine::spec::{self, field};
use crate::error::{Context, Error, Result};
use crate::executor::plan::{ExecPlan, Process, TerminalSize};
use crate::id::{ContainerId, ExecId};
use crate::streaming::backend::{Backend, Exec as Wire, Resize, Stdio, Wanted, WindowSize};
use crate::streaming::monitors::Monitors;

/// How long the code of a command is kept after its end.
const KEPT: Duration = Duration::from_secs(300);

/// What a command is asked to be.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
pub(crate) struct Request {
    pub(crate) command: Vec<String>,
    /// Over the container's own.
    pub(crate) env: Vec<(String, Vec<u8>)>,
    /// Empty: the container's.
    pub(crate) working_dir: String,
    /// `USER[:GROUP]`; empty: the container's.
    pub(crate) user: String,
    pub(crate) privileged: bool,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// As the client wrote them; empty: the usual ones.
    pub(crate) detach_keys: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Exited(i32),
}

pub(crate) struct Exec {
    pub(crate) id: ExecId,
    pub(crate) container: ContainerId,
    pub(crate) request: Request,
    state: watch::Sender<State>,
    resize: tokio::sync::Mutex<Option<Resize>>,
    ended: Mutex<Option<Instant>>,
}

#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

impl Execs {
    /// # Errors
    /// `NotFound` in Docker's words.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Exec>> {
        let shown: String = id.chars().take(80).collect();
        let found = self.lock().get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {shown}")))
    }

    pub(crate) fn of(&self, container: &ContainerId) -> Vec<String> {
        let execs = self.lock();
        let running = execs
            .values()
            .filter(|exec| exec.container == *container && matches!(exec.state(), State::Running));
        running.map(|exec| exec.id.to_string()).collect()
    }

    /// Forgets those that ended long ago, and those that cannot be started any more: of containers
    /// that `runs` says no to.
    fn insert(&self, exec: Arc<Exec>, runs: impl Fn(&ContainerId) -> bool) {
        let mut execs = self.lock();
        execs.retain(|_, exec| {
            exec.is_kept() && (exec.state() != State::Created || runs(&exec.container))
        });
        execs.insert(exec.id.to_string(), exec);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exec {
    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// The exit code, once the command has ended.
    pub(crate) async fn code(&self) -> i32 {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, State::Exited(_))).await;
        match ended.as_deref() {
            Ok(State::Exited(code)) => *code,
            // The sender is part of self: it cannot be gone.
            Ok(State::Created | State::Running) | Err(_) => 0,
        }
    }

    pub(crate) async fn resize(&self, width: u16, height: u16) -> Result<()> {
        match &mut *self.resize.lock().await {
            Some(resize) => resize(WindowSize { columns: width, rows: height }).await,
            None => Err(Error::wrong_state(format!("exec {} is not running", self.id))),
        }
    }

    fn is_kept(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_none_or(|at| at.elapsed() < KEPT)
    }

    fn over(&self, code: i32) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.state.send_replace(State::Exited(code));
    }
}

/// # Errors
/// `WrongState` in Docker's words for a container that does not run.
pub(crate) fn create(
    shared: &Shared,
    container: &ContainerId,
    request: Request,
) -> Result<Arc<Exec>> {
    check_running(shared, container)?;
    let exec = Arc::new(Exec {
        id: ExecId::generate()?,
        container: container.clone(),
        request,
        state: watch::Sender::new(State::Created),
        resize: tokio::sync::Mutex::default(),
        ended: Mutex::default(),
    });
    shared.execs.insert(exec.clone(), |id| engine_exec::running(shared, id.as_str()).is_ok());
    let command = &exec.request.command;
    shared.tell_of_running(container, Act::ExecCreate { exec: exec.id.as_str(), command });
    Ok(exec)
}

fn check_running(shared: &Shared, container: &ContainerId) -> Result<()> {
    let is_paused = shared
        .standalones
        .find(container.as_str())
        .ok()
        .is_some_and(|found| found.record().run().is_some_and(|run| run.is_paused));
    if is_paused {
        return Err(Error::wrong_state(format!(
            "Container {container} is paused, unpause the container before exec"
        )));
    }
    engine_exec::running(shared, container.as_str())
        .map(drop)
        .map_err(|_| Error::wrong_state(format!("container {container} is not running")))
}

/// Starts the command; `size` is that of its terminal. Its end goes on record whether anybody
/// carries its streams or not.
///
/// # Errors
/// `WrongState` for one that was started before. What the command itself cannot be is its end: 127
/// without such a program, 126 for one that cannot be executed.
pub(crate) async fn start(
    shared: &Arc<Shared>,
    exec: &Arc<Exec>,
    is_detached: bool,
    size: Option<(u16, u16)>,
) -> Result<Session> {
    if let Err(error) = check_running(shared, &exec.container) {
        // Its client asks for a code next, and would take none for success.
        if exec.state() == State::Created {
            exec.over(126);
        }
        return Err(error);
    }
    let mut is_mine = false;
    exec.state.send_if_modified(|state| {
        is_mine = *state == State::Created;
        if is_mine {
            *state = State::Running;
        }
        is_mine
    });
    if !is_mine {
        return Err(Error::wrong_state(format!(
            "OCI runtime exec failed: exec {} has already run",
            exec.id
        )));
    }
    let started = launch(shared, exec, is_detached, size).await;
    if let Err(error) = &started {
        exec.over(command_code(error).unwrap_or(126));
    }
    started
}

async fn launch(
    shared: &Arc<Shared>,
    exec: &Arc<Exec>,
    is_detached: bool,
    size: Option<(u16, u16)>,
) -> Result<Session> {
    let request = &exec.request;
    let container = shared.containers.find(exec.container.as_str())?;
    let streams = !is_detached;
    let plan = ExecPlan {
        id: exec.id.clone(),
        container: container.id.clone(),
        process: process(shared, &container, request, size)?,
        stdin: request.stdin && streams,
        stdout: request.stdout && streams,
        stderr: request.stderr && streams && !request.tty,
    };
    let wanted =
        Wanted { stdin: plan.stdin, stdout: plan.stdout, stderr: plan.stderr, tty: request.tty };
    let wire = Wire {
        monitor: shared.monitor_socket(&container.record().pod),
        container: container.id.clone(),
        plan: rmp_serde::to_vec_named(&plan).context("encode the plan")?,
        wanted,
    };
    let mut process = Monitors.exec(wire).await?;
    if is_detached {
        // A terminal must be there as long as the command; all else has nobody.
        process.stdio = Stdio { terminal: process.stdio.terminal.take(), ..Stdio::default() };
    }
    let exit = std::mem::replace(&mut process.exit, Box::pin(std::future::pending()));
    let resize = std::mem::replace(&mut process.resize, no_resize());
    *exec.resize.lock().await = Some(resize);
    let command = &request.command;
    shared.tell_of_running(&exec.container, Act::ExecStart { exec: exec.id.as_str(), command });
    let (shared, ending) = (shared.clone(), exec.clone());
    tokio::spawn(async move {
        // Without a monitor the container was killed, and the command with it.
        let code = exit.await.unwrap_or(137);
        *ending.resize.lock().await = None;
        shared.tell_of_running(&ending.container, Act::ExecDie { exec: ending.id.as_str(), code });
        ending.over(code);
    });
    Ok(Session { process, _carrier: None })
}

fn no_resize() -> Resize {
    Box::new(|_| Box::pin(async { Ok(()) }))
}

/// The first process's confinement with another command, and what the request changes in it.
fn process(
    shared: &Shared,
    container: &crate::engine::container::Container,
    request: &Request,
    size: Option<(u16, u16)>,
) -> Result<Process> {
    let plain = ExecRequest {
        command: request.command.clone(),
        tty: request.tty,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let mut process = engine_exec::plan(shared, container, &plain)?.process;
    if let (Some(terminal), Some((width, height))) = (&mut process.terminal, size) {
        *terminal = TerminalSize { width, height };
    }
    for (name, value) in &request.env {
        field::no_nul("Env", name.as_bytes())?;
        field::no_nul("Env", value)?;
        let prefix = format!("{name}=");
        process.env.retain(|line| !line.starts_with(prefix.as_bytes()));
        process.env.push([prefix.as_bytes(), value.as_slice()].concat().into());
    }
    if !request.working_dir.is_empty() {
        let path = field::path("WorkingDir", std::path::Path::new(&request.working_dir))?;
        process.cwd = path.into_bytes().into();
    }
    if !request.user.is_empty() {
        let pid = container.record().phase.pid().context("the container has no process")?;
        // What is looked up is the container's own user database, below its own root.
        let root = std::fs::File::open(format!("/proc/{pid}/root")).context("open its root")?;
        let umask = process.user.umask;
        process.user = spec::user_in(&request.user, std::os::fd::AsFd::as_fd(&root))?;
        process.user.umask = umask;
    }
    if request.privileged {
        let all = shared.host.capabilities;
        process.capabilities.bounding = all;
        process.capabilities.permitted = all;
        process.capabilities.effective = all;
        process.seccomp = None;
        process.apparmor = None;
    }
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(container: &ContainerId, state: State) -> Arc<Exec> {
        Arc::new(Exec {
            id: ExecId::generate().unwrap(),
            container: container.clone(),
            request: Request {
                command: vec!["true".to_owned()],
                env: Vec::new(),
                working_dir: String::new(),
                user: String::new(),
                privileged: false,
                tty: false,
                stdin: false,
                stdout: false,
                stderr: false,
                detach_keys: String::new(),
            },
            state: watch::Sender::new(state),
            resize: tokio::sync::Mutex::default(),
            ended: Mutex::default(),
        })
    }

    #[test]
    fn a_command_that_was_never_started_goes_with_its_container() {
        let [gone, there] = [(); 2].map(|()| ContainerId::generate().unwrap());
        let execs = Execs::default();
        let of_gone = exec(&gone, State::Created);
        let (created, ended) = (exec(&there, State::Created), exec(&gone, State::Exited(0)));
        for one in [&of_gone, &created, &ended] {
            execs.insert(one.clone(), |_| true);
        }
        execs.insert(exec(&there, State::Created), |id| *id == there);
        assert!(execs.find(of_gone.id.as_str()).is_err());
        assert!(execs.find(created.id.as_str()).is_ok());
        assert!(execs.find(ended.id.as_str()).is_ok(), "its code may still be asked for");
    }
}
