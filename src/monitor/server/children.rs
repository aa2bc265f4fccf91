//! The life of containers and execs, from the fork to the exit.
//!
//! ```text
//! Creating ──ready──▶ Created ──start──▶ Starting ──execve──▶ Running ──▶ Draining ──▶ Exited
//!    │                 │    └──CRIU──▶ Restored ──start──────────▲   init died    streams empty
//!    └──── failed ─────┴──── Doomed ◀──────┴─ Starting
//! ```
//!
//! `Doomed` waits for the exit of a child that will never be the program. One that was reported as
//! created still gets an exit record; one that was not is forgotten.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use rustix::process::Pid;

use super::clients::Caller;
use super::oom::OomCounter;
use super::poller::{Child, Key, Stream, Token};
use super::streams::{StdinPipe, Streams};
use super::{Server, attach, complain, now};
use crate::executor::CgroupFds;
use crate::executor::failure::{Failure, Fault};
use crate::executor::handshake::{self, Heard};
use crate::executor::plan::Stdin;
use crate::executor::procfs::Procfs;
use crate::id::{ContainerId, ExecId};
use crate::monitor::protocol::{Exit, Reply, State};
use crate::sys;

#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) own_pid_namespace: bool,
    pub(super) cgroup: CgroupFds,
    /// A line of `/proc/PID/cgroup` by which its processes are known.
    pub(super) cgroup_path: Option<String>,
    pub(super) oom: Option<OomCounter>,
    pub(super) terminal: bool,
    pub(super) stdin: Stdin,
    pub(super) phase: Phase,
    pub(super) streams: Streams,
}

#[derive(Debug)]
pub(super) enum Phase {
    Creating {
        handshake: Handshake,
        caller: Caller,
    },
    Created {
        handshake: Handshake,
    },
    /// Every process of it is stopped where it was when it was dumped.
    Restored,
    Starting {
        handshake: Handshake,
        caller: Caller,
    },
    Running {
        started_at: i64,
    },
    Doomed {
        deleter: Option<Fate>,
    },
    /// Dead; something may still be in its pipes.
    Draining {
        exit: Exit,
        until: Instant,
        last: Instant,
    },
    Exited(Exit),
}

/// What becomes of a doomed container when it is dead.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// Nobody was told that it exists.
    Forget,
    /// A client waits for it to be deleted.
    Delete(Caller),
}

#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) socket: OwnedFd,
    pub(super) token: Token,
    /// `None`: it waits for the start, for as long as that takes.
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Exec {
    pub(super) id: ExecId,
    pub(super) client: Key,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) phase: ExecPhase,
}

#[derive(Debug)]
pub(super) enum ExecPhase {
    /// `ends` go to the caller when it runs.
    Preparing {
        handshake: Handshake,
        caller: Caller,
        ends: Vec<OwnedFd>,
    },
    Running,
    Failed,
}

impl Container {
    /// `None`: clients do not know of it yet, or no more.
    pub(super) fn state(&self) -> Option<State> {
        let pid = self.pid.as_raw_pid();
        match &self.phase {
            Phase::Creating { .. } | Phase::Doomed { .. } => None,
            Phase::Created { .. } | Phase::Restored | Phase::Starting { .. } => {
                Some(State::Created { pid })
            }
            Phase::Running { started_at } => Some(State::Running { pid, started_at: *started_at }),
            Phase::Draining { exit, .. } | Phase::Exited(exit) => Some(State::Exited(*exit)),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        match self.phase {
            Phase::Created { .. }
            | Phase::Restored
            | Phase::Starting { .. }
            | Phase::Running { .. } => true,
            Phase::Creating { .. }
            | Phase::Doomed { .. }
            | Phase::Draining { .. }
            | Phase::Exited(_) => false,
        }
    }

    fn handshake(&self) -> Option<&Handshake> {
        match &self.phase {
            Phase::Creating { handshake, .. }
            | Phase::Created { handshake }
            | Phase::Starting { handshake, .. } => Some(handshake),
            Phase::Restored
            | Phase::Running { .. }
            | Phase::Doomed { .. }
            | Phase::Draining { .. }
            | Phase::Exited(_) => None,
        }
    }

    /// Takes the phase out, to be replaced at once.
    pub(super) fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Doomed { deleter: None })
    }
}

/// The number of a process that is held, as this monitor sees it.
fn pid_of(proc: &Procfs, pidfd: &OwnedFd) -> Option<Pid> {
    let mut text = Vec::new();
    proc.read(&format!("self/fdinfo/{}", pidfd.as_raw_fd()), &mut text).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    Pid::from_raw(pid.trim().parse().ok()?)
}

impl Exec {
    fn handshake(&self) -> Option<&Handshake> {
        match &self.phase {
            ExecPhase::Preparing { handshake, .. } => Some(handshake),
            ExecPhase::Running | ExecPhase::Failed => None,
        }
    }
}

impl Server {
    /// A half-made child spoke, or its end of the handshake closed.
    pub(super) fn listen(&mut self, child: Child) {
        loop {
            let handshake = match child {
                Child::Container(key) => self.containers.get(&key).and_then(Container::handshake),
                Child::Exec(key) => self.execs.get(&key).and_then(Exec::handshake),
            };
            let Some(handshake) = handshake else { return };
            let heard = handshake::hear(handshake.socket.as_fd(), &mut self.input);
            match (heard, child) {
                (Heard::Silence, _) => return,
                (Heard::Ready { notes, terminal }, Child::Container(key)) => {
                    for note in &notes {
                        complain(note);
                    }
                    self.container_ready(key, terminal);
                }
                // What an exec has to note, its container noted when it was made.
                (Heard::Ready { notes: _, terminal }, Child::Exec(key)) => {
                    if let Some(exec) = self.execs.get_mut(&key)
                        && let ExecPhase::Preparing { ends, .. } = &mut exec.phase
                    {
                        ends.extend(terminal);
                    }
                }
                (Heard::Forked { pidfd }, Child::Container(key)) => self.replaced(key, pidfd),
                // An exec is in its namespaces as soon as it is there.
                (Heard::Forked { .. }, Child::Exec(_)) => {}
                (Heard::Failed(failure), Child::Container(key)) => {
                    self.container_failed(key, failure);
                }
                (Heard::Failed(failure), Child::Exec(key)) => self.exec_failed(key, failure),
                (Heard::Closed, Child::Container(key)) => self.container_started(key),
                (Heard::Closed, Child::Exec(key)) => self.exec_started(key),
            }
        }
    }

    /// As [`Server::listen`], to one that has exited: it says no more, though the connection may be open still. In a user
    /// namespace the process that made it holds it until it is gone itself, which may be later.
    pub(super) fn hear_out(&mut self, child: Child) {
        self.listen(child);
        match child {
            Child::Container(key) => {
                if self.containers.get(&key).and_then(Container::handshake).is_some() {
                    self.container_started(key);
                }
            }
            Child::Exec(key) => {
                if self.execs.get(&key).and_then(Exec::handshake).is_some() {
                    self.exec_started(key);
                }
            }
        }
    }

    pub(super) fn end_handshake(&mut self, handshake: &Handshake) {
        self.poller.remove(&handshake.socket, handshake.token);
    }

    fn container_ready(&mut self, key: Key, terminal: Option<OwnedFd>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let phase = container.take_phase();
        let Phase::Creating { mut handshake, caller } = phase else {
            container.phase = phase;
            return;
        };
        handshake.deadline = None;
        container.phase = Phase::Created { handshake };
        let pid = container.pid.as_raw_pid();
        if let Some(terminal) = terminal
            && let Err(fault) = self.connect_terminal(key, terminal)
        {
            complain(&fault.into_failure("connect the terminal").detail);
        }
        let path = self.cgroup_path(pid);
        if let Some(container) = self.containers.get_mut(&key) {
            container.cgroup_path = path;
        }
        self.reply(caller, Ok(Reply::Created { pid }));
    }

    /// The process that was forked has made the one that will be the program.
    fn replaced(&mut self, key: Key, pidfd: OwnedFd) {
        let pid = self.pod().ok().and_then(|pod| pid_of(&pod.proc, &pidfd));
        let (Some(container), Some(pid)) = (self.containers.get_mut(&key), pid) else { return };
        (container.pid, container.pidfd) = (pid, pidfd);
        if self.stopping.is_some() {
            let _ = sys::process::pidfd_send_signal(container.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    fn connect_terminal(&mut self, key: Key, terminal: OwnedFd) -> Result<(), Fault> {
        let Some(container) = self.containers.get_mut(&key) else { return Ok(()) };
        attach::set_nonblocking(&terminal)?;
        if container.stdin != Stdin::Closed {
            let second = terminal.try_clone().map_err(|_| rustix::io::Errno::MFILE)?;
            // Hanging up is for its viewer to do; the end of one client's input is not that.
            container.streams.stdin = Some(StdinPipe::new(second, Stdin::Open));
        }
        Ok(container.streams.add_output(&mut self.poller, Stream::Stdout, terminal)?)
    }

    pub(super) fn container_failed(&mut self, key: Key, failure: Failure) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let phase = container.take_phase();
        let (handshake, caller, deleter) = match phase {
            Phase::Creating { handshake, caller } => (handshake, Some(caller), Some(Fate::Forget)),
            Phase::Starting { handshake, caller } => (handshake, Some(caller), None),
            Phase::Created { handshake } => (handshake, None, None),
            Phase::Restored
            | Phase::Running { .. }
            | Phase::Doomed { .. }
            | Phase::Draining { .. }
            | Phase::Exited(_) => {
                container.phase = phase;
                return;
            }
        };
        container.phase = Phase::Doomed { deleter };
        self.end_handshake(&handshake);
        if let Some(caller) = caller {
            self.reply(caller, Err(failure));
        }
    }

    /// The handshake closed without a failure: the program runs, if it was told to.
    fn container_started(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let phase = container.take_phase();
        let Phase::Starting { handshake, caller } = phase else {
            container.phase = phase;
            let died = Fault::internal("the process died before it was ready (out of memory?)");
            return self.container_failed(key, died.into_failure("create"));
        };
        let started_at = now();
        container.phase = Phase::Running { started_at };
        self.end_handshake(&handshake);
        self.reply(caller, Ok(Reply::Started { at: started_at }));
    }

    pub(super) fn exec_failed(&mut self, key: Key, failure: Failure) {
        let Some(exec) = self.execs.get_mut(&key) else { return };
        let phase = std::mem::replace(&mut exec.phase, ExecPhase::Failed);
        if let ExecPhase::Preparing { handshake, caller, .. } = phase {
            self.end_handshake(&handshake);
            self.reply(caller, Err(failure));
        }
    }

    fn exec_started(&mut self, key: Key) {
        let Some(exec) = self.execs.get_mut(&key) else { return };
        let pid = exec.pid.as_raw_pid();
        let phase = std::mem::replace(&mut exec.phase, ExecPhase::Running);
        if let ExecPhase::Preparing { handshake, caller, ends } = phase {
            self.end_handshake(&handshake);
            self.reply_with(caller, Ok(Reply::ExecStarted { pid }), ends);
        }
    }
}
