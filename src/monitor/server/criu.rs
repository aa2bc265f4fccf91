//! Runs of CRIU, and what they make of a container.
//!
//! CRIU is a child of the monitor, and so is what it restores: it is told to make the restored
//! first process its sibling. That one then is the container's, and the one that waited is ended.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::children::{Container, Phase};
use super::clients::Caller;
use super::kill::{parse_stat, text_of};
use super::pod::wrong_state;
use super::poller::Key;
use super::requests::unknown;
use super::{Server, complain, now};
use crate::executor::Fds;
use crate::executor::criu::{self, CriuSurroundings};
use crate::executor::failure::{Failure, Fault};
use crate::executor::handshake::{self, Heard};
use crate::executor::plan::{CriuPlan, CriuTask};
use crate::executor::procfs::read_all;
use crate::id::ContainerId;
use crate::monitor::protocol::{ExitStatus, Reply};
use crate::sys;

#[derive(Debug)]
pub(super) struct CriuRun {
    pub(super) pid: Pid,
    handshake: OwnedFd,
    caller: Caller,
    container: Key,
    /// `None`: it was killed for taking too long.
    pub(super) deadline: Option<Instant>,
    aim: Aim,
}

#[derive(Debug)]
enum Aim {
    Dump { switch: OwnedFd, thawed: String },
    Restore { results: OwnedFd, pid_file: String },
}

impl Server {
    pub(super) fn criu(&mut self, caller: Caller, id: &ContainerId, plan: &CriuPlan, fds: &Fds) {
        match self.start_criu(caller, id, plan, fds) {
            Ok(run) => {
                let key = self.new_key();
                self.criu_runs.insert(key, run);
            }
            Err(failure) => self.reply(caller, Err(failure)),
        }
    }

    fn start_criu(
        &self,
        caller: Caller,
        id: &ContainerId,
        plan: &CriuPlan,
        fds: &Fds,
    ) -> Result<CriuRun, Failure> {
        let key = self.find(id)?;
        let container = self.containers.get(&key).ok_or_else(|| unknown(id))?;
        match (&plan.task, &container.phase) {
            (CriuTask::Dump { .. }, Phase::Running { .. })
            | (CriuTask::Restore(_), Phase::Created { .. }) => {}
            (CriuTask::Dump { .. } | CriuTask::Restore(_), _) => {
                return Err(wrong_state("the container is not in the state for this"));
            }
        }
        if self.criu_runs.values().any(|run| run.container == key) {
            return Err(wrong_state("the container is being dumped or restored already"));
        }
        self.fork_criu(caller, (key, container), plan, fds)
            .map_err(|fault| fault.into_failure("run criu"))
    }

    fn fork_criu(
        &self,
        caller: Caller,
        (key, container): (Key, &Container),
        plan: &CriuPlan,
        fds: &Fds,
    ) -> Result<CriuRun, Fault> {
        let aim = match &plan.task {
            CriuTask::Dump { switch, thawed } => {
                Aim::Dump { switch: fds.duplicate(*switch)?, thawed: thawed.clone() }
            }
            CriuTask::Restore(restore) => Aim::Restore {
                results: fds.duplicate(restore.results)?,
                pid_file: restore.pid_file.clone(),
            },
        };
        let around = CriuSurroundings {
            proc: &self.pod()?.proc,
            target: container.pidfd.as_fd(),
            target_pid: container.pid.as_raw_pid(),
            cgroup: &container.cgroup,
            oom_score_adj: self.oom_score_adj,
        };
        let child = criu::run(plan, fds, around)?;
        let deadline = Some(Instant::now() + Duration::from_millis(plan.patience_ms));
        let (pid, handshake) = (child.pid, child.handshake);
        Ok(CriuRun { pid, handshake, caller, container: key, deadline, aim })
    }

    /// Ends those that take too long, with whatever they have forked in their session.
    pub(super) fn end_late_criu(&mut self, now: Instant) {
        for run in self.criu_runs.values_mut() {
            if run.deadline.is_some_and(|deadline| deadline <= now) {
                run.end();
            }
        }
    }

    pub(super) fn end_all_criu(&mut self) {
        self.criu_runs.values_mut().for_each(CriuRun::end);
    }

    pub(super) fn criu_ended(&mut self, key: Key, status: ExitStatus) {
        let Some(run) = self.criu_runs.remove(&key) else { return };
        if let Heard::Failed(failure) = handshake::hear(run.handshake.as_fd(), &mut self.input) {
            self.abandon(&run);
            return self.reply(run.caller, Err(failure));
        }
        let result = match &run.aim {
            Aim::Restore { results, pid_file } if status == ExitStatus::Code(0) => self
                .take_over(run.container, results, pid_file)
                .map(Some)
                .map_err(|fault| fault.into_failure("take over what criu restored")),
            Aim::Dump { .. } | Aim::Restore { .. } => Ok(None),
        };
        self.abandon(&run);
        let reply = result.map(|restored| Reply::CriuEnded { status, restored });
        self.reply(run.caller, reply);
    }

    /// CRIU leaves a container frozen that it found so. Nobody is left to thaw it when the client
    /// is gone; the next one may have done so before CRIU ended.
    fn abandon(&self, run: &CriuRun) {
        let Aim::Dump { switch, thawed } = &run.aim else { return };
        if !self.clients.contains_key(&run.caller.client)
            && let Err(errno) = rustix::io::write(switch, thawed.as_bytes())
        {
            complain(&format!("thaw a container: {errno}"));
        }
    }

    /// Makes the restored process the container's first one.
    fn take_over(&mut self, key: Key, results: &OwnedFd, pid_file: &str) -> Result<i32, Fault> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(results, pid_file, flags, Mode::empty())?;
        let mut text = Vec::new();
        read_all(file.as_fd(), &mut text)?;
        let pid = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        let pid = pid.and_then(Pid::from_raw).ok_or_else(|| Fault::internal("no process"))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        // Held now; a number that was given to somebody else's process is not our child.
        let stat = text_of(&self.pod()?.proc, &format!("{}/stat", pid.as_raw_pid()));
        let parent = stat.and_then(|stat| parse_stat(pid.as_raw_pid(), &stat)).map(|it| it.parent);
        if parent != Some(rustix::process::getpid().as_raw_pid()) {
            return Err(Fault::internal("the restored process is not a child of the monitor"));
        }
        let Some(container) = self.containers.get_mut(&key) else {
            let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            return Err(Fault::internal("the container is gone"));
        };
        let phase = container.take_phase();
        let Phase::Created { handshake } = phase else {
            container.phase = phase;
            let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            return Err(Fault::internal("the container has ended meanwhile"));
        };
        let _ = sys::process::pidfd_send_signal(container.pidfd.as_fd(), libc::SIGKILL);
        (container.pid, container.pidfd) = (pid, pidfd);
        container.phase = Phase::Restored;
        self.end_handshake(&handshake);
        Ok(pid.as_raw_pid())
    }

    /// The start of a restored container: its processes go on.
    pub(super) fn resume_restored(&mut self, caller: Caller, key: Key) {
        let started_at = now();
        if let Some(container) = self.containers.get_mut(&key) {
            container.phase = Phase::Running { started_at };
        }
        if let Some(container) = self.containers.get(&key) {
            self.signal_all(container, libc::SIGCONT);
        }
        self.reply(caller, Ok(Reply::Started { at: started_at }));
    }
}

impl CriuRun {
    fn end(&mut self) {
        self.deadline = None;
        // It leads its session, unless it did not get as far.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}
