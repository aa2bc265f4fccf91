//! Forking: new containers and execs, with the streams they get.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::Server;
use super::attach::set_nonblocking;
use super::children::{Container, Exec, ExecPhase, Handshake, Phase};
use super::clients::Caller;
use super::log::LogFile;
use super::oom::OomCounter;
use super::pod::wrong_state;
use super::poller::{Child, Key, READ, Source, Stream};
use super::requests::unknown;
use super::streams::{StdinPipe, Streams};
use crate::executor::failure::{Failure, FailureKind, Fault};
use crate::executor::plan::{ContainerPid, ContainerPlan, ExecPlan, Stdin};
use crate::executor::{self, CgroupFds, ChildStdio, Fds, Surroundings, handshake};
use crate::id::ContainerId;
use crate::sys;

/// How long a child may take to get ready, and a program to be executed. Both only talk to the
/// kernel; a minute means that something hangs (a dead network file system, a frozen cgroup).
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    pub(super) fn create(
        &mut self,
        caller: Caller,
        id: ContainerId,
        plan: ContainerPlan,
        fds: Fds,
    ) {
        if self.find(&id).is_ok() {
            return self.reply(caller, Err(wrong_state("the container exists already")));
        }
        let key = self.new_key();
        match self.fork_container((caller, key), id, &plan, &fds) {
            Ok(container) => {
                self.containers.insert(key, container);
            }
            Err(fault) => self.reply(caller, Err(fault.into_failure("create"))),
        }
        drop((plan, fds));
        // A plan is by far the largest thing that passes through here.
        sys::memory::release_free_pages();
    }

    fn fork_container(
        &mut self,
        (caller, key): (Caller, Key),
        id: ContainerId,
        plan: &ContainerPlan,
        fds: &Fds,
    ) -> Result<Container, Fault> {
        let pod = self.pod()?;
        let cgroup = CgroupFds {
            unified: plan.cgroup.unified.map(|fd| fds.duplicate(fd)).transpose()?,
            legacy: plan
                .cgroup
                .legacy
                .iter()
                .map(|fd| fds.duplicate(*fd))
                .collect::<Result<_, _>>()?,
        };
        let oom = plan.cgroup.oom_counter.map(|fd| fds.duplicate(fd)).transpose()?;
        let oom_event = plan.cgroup.oom_event.map(|fd| fds.duplicate(fd)).transpose()?;
        let log = plan.stdio.log.map(|fd| fds.duplicate(fd)).transpose()?;
        let terminal = plan.process.terminal.is_some();
        let pipes = if terminal {
            None
        } else {
            let open_stdin = plan.stdio.stdin != Stdin::Closed;
            Some(Pipes::new(&pod.open_null()?, [open_stdin, true, true])?)
        };
        let around = Surroundings {
            proc: &pod.proc,
            cgroup: &cgroup,
            stdio: pipes.as_ref().map(|pipes| &pipes.theirs),
            oom_score_adj: self.oom_score_adj,
            users: pod.users.as_ref(),
            pid_of: self.pid_namespace(&plan.pid)?,
        };
        let child = executor::create(plan, fds, around)?;

        let mut streams = Streams::new(key, log.map(LogFile::new));
        if let Some(pipes) = pipes {
            let [stdin, stdout, stderr] = pipes.ours;
            for (stream, fd) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
                let Some(fd) = fd else { continue };
                set_nonblocking(&fd)?;
                streams.add_output(&mut self.poller, stream, fd)?;
            }
            if let Some(fd) = stdin {
                set_nonblocking(&fd)?;
                streams.stdin = Some(StdinPipe::new(fd, plan.stdio.stdin));
            }
        }
        let handshake =
            Handshake::new(&mut self.poller, child.handshake, Child::Container(key), PATIENCE)?;
        let oom = oom.map(|counter| {
            OomCounter::new(&mut self.poller, key, counter, oom_event, cgroup.unified.as_ref())
        });
        Ok(Container {
            id,
            pid: child.pid,
            pidfd: child.pidfd,
            own_pid_namespace: plan.pid == ContainerPid::Own,
            cgroup,
            cgroup_path: None,
            oom,
            terminal,
            stdin: plan.stdio.stdin,
            phase: Phase::Creating { handshake, caller },
            streams,
        })
    }

    /// A process in the PID namespace to fork into, if it is not a new one or our own.
    fn pid_namespace(
        &self,
        pid: &ContainerPid,
    ) -> Result<Option<std::os::fd::BorrowedFd<'_>>, Fault> {
        match pid {
            ContainerPid::Own | ContainerPid::Host => Ok(None),
            ContainerPid::Pod => {
                let pod = self.pod()?;
                let process = pod.init.as_ref().map(|init| &init.pidfd).or(pod.pid_of.as_ref());
                let none = || Fault::invalid("the pod has no PID namespace to share");
                process.map(|process| Some(process.as_fd())).ok_or_else(none)
            }
            ContainerPid::Target(id) => {
                let target = self.containers.values().find(|container| container.id == *id);
                match target {
                    Some(target) if target.is_alive() => Ok(Some(target.pidfd.as_fd())),
                    Some(_) | None => Err(Fault::new(
                        FailureKind::WrongState,
                        format!("the target container {} does not run", id.short()),
                    )),
                }
            }
        }
    }

    pub(super) fn start(&mut self, caller: Caller, id: &ContainerId) {
        if let Err(failure) = self.send_start(caller, id) {
            self.reply(caller, Err(failure));
        }
    }

    fn send_start(&mut self, caller: Caller, id: &ContainerId) -> Result<(), Failure> {
        let key = self.find(id)?;
        let container = self.containers.get_mut(&key).ok_or_else(|| unknown(id))?;
        if let Phase::Restored = container.phase {
            self.resume_restored(caller, key);
            return Ok(());
        }
        let phase = container.take_phase();
        let Phase::Created { mut handshake } = phase else {
            container.phase = phase;
            return Err(wrong_state("the container was started already"));
        };
        // A dead child is noticed by its exit, which answers the caller.
        let _ = handshake::send_start(handshake.socket.as_fd());
        handshake.deadline = Some(Instant::now() + PATIENCE);
        container.phase = Phase::Starting { handshake, caller };
        Ok(())
    }

    pub(super) fn exec(&mut self, caller: Caller, plan: &ExecPlan) {
        let key = self.new_key();
        match self.fork_exec(caller, key, plan) {
            Ok(exec) => {
                self.execs.insert(key, exec);
            }
            Err(failure) => self.reply(caller, Err(failure)),
        }
    }

    fn fork_exec(&mut self, caller: Caller, key: Key, plan: &ExecPlan) -> Result<Exec, Failure> {
        let container_key = self.find(&plan.container)?;
        let container =
            self.containers.get(&container_key).ok_or_else(|| unknown(&plan.container))?;
        if !matches!(container.phase, Phase::Running { .. }) {
            return Err(wrong_state("the container does not run"));
        }
        let step = |fault: Fault| fault.into_failure("exec");
        let pod = self.pod().map_err(step)?;
        let pipes = if plan.process.terminal.is_some() {
            None
        } else {
            let null = pod.open_null().map_err(|errno| step(errno.into()))?;
            Some(Pipes::new(&null, [plan.stdin, plan.stdout, plan.stderr]).map_err(step)?)
        };
        let around = Surroundings {
            proc: &pod.proc,
            cgroup: &container.cgroup,
            stdio: pipes.as_ref().map(|pipes| &pipes.theirs),
            oom_score_adj: self.oom_score_adj,
            users: pod.users.as_ref(),
            pid_of: Some(container.pidfd.as_fd()),
        };
        let child = executor::exec(&plan.process, container.pidfd.as_fd(), around).map_err(step)?;
        let handshake =
            Handshake::new(&mut self.poller, child.handshake, Child::Exec(key), PATIENCE)
                .map_err(step)?;
        let ends = pipes.map_or_else(Vec::new, |pipes| pipes.ours.into_iter().flatten().collect());
        Ok(Exec {
            id: plan.id.clone(),
            client: caller.client,
            pid: child.pid,
            pidfd: child.pidfd,
            phase: ExecPhase::Preparing { handshake, caller, ends },
        })
    }
}

/// Both ends of standard streams, ours in the order stdin, stdout, stderr.
struct Pipes {
    ours: [Option<OwnedFd>; 3],
    theirs: ChildStdio,
}

impl Pipes {
    /// A stream that is not wanted leads to `null`.
    fn new(null: &OwnedFd, [stdin, stdout, stderr]: [bool; 3]) -> Result<Self, Fault> {
        let (their_stdin, our_stdin) = pipe(stdin)?;
        let (our_stdout, their_stdout) = pipe(stdout)?;
        let (our_stderr, their_stderr) = pipe(stderr)?;
        let or_null = |end: Option<OwnedFd>| match end {
            Some(end) => Ok(end),
            None => null.try_clone().map_err(|_| Errno::MFILE),
        };
        let theirs = ChildStdio {
            stdin: or_null(their_stdin)?,
            stdout: or_null(their_stdout)?,
            stderr: or_null(their_stderr)?,
        };
        Ok(Self { ours: [our_stdin, our_stdout, our_stderr], theirs })
    }
}

/// The reading and the writing end.
fn pipe(wanted: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Errno> {
    if !wanted {
        return Ok((None, None));
    }
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Some(read), Some(write)))
}

impl StdinPipe {
    pub(super) fn new(fd: OwnedFd, mode: Stdin) -> Self {
        let once = mode == Stdin::Once;
        Self { fd, token: None, pending: Vec::new(), once, closing: false }
    }
}

impl Handshake {
    fn new(
        poller: &mut super::poller::Poller,
        socket: OwnedFd,
        child: Child,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let token = poller.add(&socket, READ, Source::Handshake(child))?;
        Ok(Self { socket, token, deadline: Some(Instant::now() + patience) })
    }
}
