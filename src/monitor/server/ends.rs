//! How containers and execs end: reaping, emptying the streams, recording, and what takes too long.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::children::{Container, Exec, ExecPhase, Fate, Phase};
use super::oom::OomCounter;
use super::poller::{Child, Key};
use super::{Server, now};
use crate::executor::CgroupFds;
use crate::executor::failure::{Failure, Fault};
use crate::monitor::protocol::{Exit, ExitStatus, Message, Reply, Report};
use crate::sys;

/// How long a stream that somebody else keeps open is waited for after the exit: this long without
/// a byte, and [`DRAIN_AT_MOST`] in all.
const DRAIN_QUIET: Duration = Duration::from_millis(100);
const DRAIN_AT_MOST: Duration = Duration::from_secs(1);

impl Server {
    /// Some child exited; one signal may stand for several.
    pub(super) fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.exited(pid, status_of(status));
        }
    }

    fn exited(&mut self, pid: Pid, status: ExitStatus) {
        // In a user namespace a container's first process makes its second, and ends: which one
        // this was is known when all that was said before is heard.
        if matches!(self.pod(), Ok(pod) if pod.users.is_some()) {
            for key in self.containers.keys().copied().collect::<Vec<_>>() {
                self.listen(Child::Container(key));
            }
        }
        let container = self.containers.iter().find(|(_, c)| c.pid == pid && !c.is_dead());
        if let Some(key) = container.map(|(key, _)| *key) {
            // What it said before it died comes first.
            self.hear_out(Child::Container(key));
            return self.container_exited(key, status);
        }
        let exec = self.execs.iter().find(|(_, exec)| exec.pid == pid).map(|(key, _)| *key);
        if let Some(key) = exec {
            self.hear_out(Child::Exec(key));
            return self.exec_exited(key, status);
        }
        let run = self.criu_runs.iter().find(|(_, run)| run.pid == pid).map(|(key, _)| *key);
        if let Some(key) = run {
            self.criu_ended(key, status);
        }
        // Else an orphan, or the pod's PID 1, whose containers are dying with it.
    }

    fn exec_exited(&mut self, key: Key, status: ExitStatus) {
        let Some(exec) = self.execs.remove(&key) else { return };
        if let ExecPhase::Running = exec.phase {
            let report = Report::ExecExited { exec: exec.id, status };
            self.send(exec.client, &Message::Report(report), Vec::new());
        }
        sys::memory::release_free_pages();
    }

    fn container_exited(&mut self, key: Key, status: ExitStatus) {
        let finished_at = now();
        let Some(container) = self.containers.get_mut(&key) else { return };
        let oom_killed = container.oom.as_ref().is_some_and(OomCounter::has_risen);
        let started_at = match container.phase {
            Phase::Running { started_at } => Some(started_at),
            Phase::Doomed { deleter: Some(Fate::Forget) } => return self.forget(key),
            Phase::Doomed { deleter: Some(Fate::Delete(caller)) } => {
                self.forget(key);
                return self.reply(caller, Ok(Reply::Done));
            }
            Phase::Creating { .. }
            | Phase::Created { .. }
            | Phase::Restored
            | Phase::Starting { .. }
            | Phase::Doomed { .. }
            | Phase::Draining { .. }
            | Phase::Exited(_) => None,
        };
        let exit = Exit { status, started_at, finished_at, oom_killed };
        let last = Instant::now();
        container.phase = Phase::Draining { exit, until: last + DRAIN_AT_MOST, last };
        if !container.own_pid_namespace {
            // With a namespace of its own the kernel has killed the others already.
            self.kill_leftovers(key);
        }
        if let Some((container, mut io)) = self.container_io(key) {
            container.streams.drain(&mut io);
        }
        self.finish_if_drained(key);
    }

    /// Records and reports an exit once nothing of the output is missing.
    pub(super) fn finish_if_drained(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if let Phase::Draining { exit, last, .. } = &mut container.phase {
            if container.streams.are_drained() {
                let exit = *exit;
                return self.finish(key, exit);
            }
            *last = Instant::now();
        }
    }

    pub(super) fn finish(&mut self, key: Key, exit: Exit) {
        if let Some((container, mut io)) = self.container_io(key) {
            container.streams.give_up(&mut io);
            container.phase = Phase::Exited(exit);
            container.cgroup = CgroupFds::default();
            if let Some(oom) = container.oom.take() {
                oom.close(io.poller);
            }
        }
        let Some(id) = self.containers.get(&key).map(|container| container.id.clone()) else {
            return;
        };
        self.record(&id, &exit);
        self.broadcast(&Report::Exited { container: id, exit });
        sys::memory::release_free_pages();
    }

    pub(super) fn forget(&mut self, key: Key) {
        if let Some(mut container) = self.containers.remove(&key) {
            container.streams.close(&mut self.poller);
            if let Some(oom) = container.oom.take() {
                oom.close(&mut self.poller);
            }
        }
    }

    /// When the loop must look again without an event.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let containers = self.containers.values().filter_map(Container::deadline);
        let execs = self.execs.values().filter_map(Exec::deadline);
        let looks = self.containers.values().filter_map(|it| it.oom.as_ref()?.look_at());
        let stopping = self.stopping.as_ref().map(|(_, until)| *until);
        let runs = self.criu_runs.values().filter_map(|run| run.deadline);
        containers.chain(execs).chain(looks).chain(stopping).chain(runs).min()
    }

    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let late = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let containers: Vec<Key> =
            self.containers.iter().filter(|(_, c)| late(c.deadline())).map(|(k, _)| *k).collect();
        for key in containers {
            self.container_late(key);
        }
        let looks: Vec<Key> = self
            .containers
            .iter()
            .filter(|(_, it)| late(it.oom.as_ref().and_then(OomCounter::look_at)))
            .map(|(key, _)| *key)
            .collect();
        for key in looks {
            self.look_at_memory_kills(key);
        }
        let execs: Vec<Key> =
            self.execs.iter().filter(|(_, e)| late(e.deadline())).map(|(k, _)| *k).collect();
        for key in execs {
            if let Some(exec) = self.execs.get(&key) {
                let _ = sys::process::pidfd_send_signal(exec.pidfd.as_fd(), libc::SIGKILL);
            }
            self.exec_failed(key, too_late());
        }
        self.end_late_criu(now);
    }

    fn container_late(&mut self, key: Key) {
        let Some(container) = self.containers.get(&key) else { return };
        if let Phase::Draining { exit, .. } = container.phase {
            return self.finish(key, exit);
        }
        let _ = sys::process::pidfd_send_signal(container.pidfd.as_fd(), libc::SIGKILL);
        self.container_failed(key, too_late());
    }
}

impl Container {
    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Creating { handshake, .. } | Phase::Starting { handshake, .. } => {
                handshake.deadline
            }
            Phase::Draining { until, last, .. } => Some((*last + DRAIN_QUIET).min(*until)),
            Phase::Created { .. }
            | Phase::Restored
            | Phase::Running { .. }
            | Phase::Doomed { .. }
            | Phase::Exited(_) => None,
        }
    }

    /// Its pid is no longer its own.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. } | Phase::Exited(_))
    }
}

impl Exec {
    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            ExecPhase::Preparing { handshake, .. } => handshake.deadline,
            ExecPhase::Running | ExecPhase::Failed => None,
        }
    }
}

fn too_late() -> Failure {
    Fault::internal("the process did not get ready in time").into_failure("wait for the process")
}

fn status_of(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        // Stops are not asked for.
        (None, None) => ExitStatus::Code(0),
    }
}
