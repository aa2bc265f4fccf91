//! Signals: to one process, to all of a container, to all that an exec started; and the end.
//!
//! A container's processes are found in proc by their cgroup. Each is held by a pidfd and looked
//! at again before it is signalled, so a number that was given to another meanwhile is no danger.
//!
//! An exec has no cgroup of its own. Its processes are those that descend from it or are in a
//! session that one of them started. While it lives it is the reaper of its orphans
//! (`session::die_with_monitor`), so descent is not lost when a process in between exits. Before a
//! kill all of them are stopped, in rounds until a round finds nobody new: then none can fork away
//! from the list, and all are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};

use super::Server;
use super::children::{Container, Fate, Phase};
use super::clients::Caller;
use super::pod::wrong_state;
use super::poller::Key;
use super::requests::unknown;
use crate::executor::failure::{Failure, FailureKind, Fault};
use crate::executor::procfs::Procfs;
use crate::id::{ContainerId, ExecId};
use crate::monitor::protocol::{KillScope, Reply};
use crate::sys;

/// A fork that is under way can bring a process after a round; a bomb must not hold the loop up.
const ROUNDS: usize = 16;
/// How long a shutdown waits for killed processes: one in the kernel's hands may take its time.
const SHUTDOWN: Duration = Duration::from_secs(5);

impl Server {
    pub(super) fn kill(
        &mut self,
        id: &ContainerId,
        signal: i32,
        scope: KillScope,
    ) -> Result<(), Failure> {
        check(signal)?;
        let key = self.find(id)?;
        let container = self.containers.get(&key).ok_or_else(|| unknown(id))?;
        if !container.is_alive() {
            return Err(wrong_state("the container does not run"));
        }
        if signal == libc::SIGKILL {
            self.look_at_memory_kills(key);
        }
        let container = self.containers.get(&key).ok_or_else(|| unknown(id))?;
        match scope {
            KillScope::Init => send(&container.pidfd, signal),
            KillScope::All => {
                self.signal_all(container, signal);
                Ok(())
            }
        }
    }

    /// The kills for memory so far were of other processes of the container, unless the first one
    /// is dying: what it ends of later is something else. Looked at a moment after a kill, and when
    /// the kill that comes is ours.
    pub(super) fn look_at_memory_kills(&mut self, key: Key) {
        let Ok(pod) = self.pod() else { return };
        let Some(container) = self.containers.get(&key) else { return };
        let lives = !is_dying(&pod.proc, container.pid.as_raw_pid());
        if let Some(oom) = self.containers.get_mut(&key).and_then(|it| it.oom.as_mut()) {
            oom.looked_at(lives);
        }
    }

    /// Every process of the container.
    pub(super) fn signal_all(&self, container: &Container, signal: i32) {
        if signal == libc::SIGKILL && kill_cgroup(container) {
            return;
        }
        // The first process takes its PID namespace along.
        let _ = send(&container.pidfd, signal);
        if signal == libc::SIGKILL && container.own_pid_namespace {
            return;
        }
        let Ok(pod) = self.pod() else { return };
        let mut seen = BTreeSet::from([container.pid.as_raw_pid()]);
        for _ in 0..ROUNDS {
            let new = members(&pod.proc, container.cgroup_path.as_deref());
            let mut found = false;
            for process in new {
                if seen.insert(process.pid) {
                    found = true;
                    signal_member(&pod.proc, container, process.pid, signal);
                }
            }
            // Only a kill has to reach those that were forked meanwhile.
            if !found || signal != libc::SIGKILL {
                return;
            }
        }
    }

    /// What a dead first process without a PID namespace of its own left behind.
    pub(super) fn kill_leftovers(&self, key: Key) {
        if let Some(container) = self.containers.get(&key) {
            self.signal_all(container, libc::SIGKILL);
        }
    }

    pub(super) fn kill_exec(
        &self,
        id: &ExecId,
        signal: i32,
        scope: KillScope,
    ) -> Result<(), Failure> {
        check(signal)?;
        let exec = self.execs.values().find(|exec| exec.id == *id).ok_or_else(|| {
            Fault::new(FailureKind::NotFound, format!("exec {} is not here", id.short()))
                .into_failure("find the exec")
        })?;
        if scope == KillScope::Init {
            return send(&exec.pidfd, signal);
        }
        let pod = self.pod().map_err(|fault| fault.into_failure("find the exec's processes"))?;
        let root = exec.pid.as_raw_pid();
        let kill = signal == libc::SIGKILL;
        let mut family = BTreeMap::new();
        if kill {
            let _ = sys::process::pidfd_send_signal(exec.pidfd.as_fd(), libc::SIGSTOP);
        }
        for _ in 0..ROUNDS {
            let relatives = family_of(root, &processes(&pod.proc, |_| true));
            let known = family.len();
            for pid in relatives.iter().filter(|pid| **pid != root) {
                if family.contains_key(pid) {
                    continue;
                }
                if let Some(pidfd) = hold_relative(&pod.proc, *pid, &relatives) {
                    let first = if kill { libc::SIGSTOP } else { signal };
                    let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), first);
                    family.insert(*pid, pidfd);
                }
            }
            if family.len() == known {
                break;
            }
        }
        if kill {
            for pidfd in family.values() {
                let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), signal);
            }
        }
        send(&exec.pidfd, signal)
    }

    pub(super) fn delete(&mut self, caller: Caller, id: &ContainerId) {
        let result = self.find(id).and_then(|key| self.begin_delete(caller, key));
        match result {
            Ok(Deletion::Done) => self.reply(caller, Ok(Reply::Done)),
            // Answered when its process is dead.
            Ok(Deletion::Killed) => {}
            Err(failure) => self.reply(caller, Err(failure)),
        }
    }

    fn begin_delete(&mut self, caller: Caller, key: Key) -> Result<Deletion, Failure> {
        let Some(container) = self.containers.get_mut(&key) else { return Ok(Deletion::Done) };
        match &mut container.phase {
            Phase::Exited(_) => {
                self.forget(key);
                Ok(Deletion::Done)
            }
            Phase::Draining { exit, .. } => {
                let exit = *exit;
                self.finish(key, exit);
                self.forget(key);
                Ok(Deletion::Done)
            }
            Phase::Created { handshake } => {
                self.poller.remove(&handshake.socket, handshake.token);
                let killed = send(&container.pidfd, libc::SIGKILL);
                container.phase = Phase::Doomed { deleter: Some(Fate::Delete(caller)) };
                killed.map(|()| Deletion::Killed)
            }
            Phase::Restored => {
                let killed = send(&container.pidfd, libc::SIGKILL);
                container.phase = Phase::Doomed { deleter: Some(Fate::Delete(caller)) };
                killed.map(|()| Deletion::Killed)
            }
            Phase::Doomed { deleter } => {
                *deleter = Some(Fate::Delete(caller));
                Ok(Deletion::Killed)
            }
            Phase::Creating { .. } | Phase::Starting { .. } | Phase::Running { .. } => {
                Err(wrong_state("the container is not stopped"))
            }
        }
    }

    pub(super) fn shut_down(&mut self, caller: Caller) {
        self.stopping = Some((caller, Instant::now() + SHUTDOWN));
        self.end_all_criu();
        for container in self.containers.values() {
            if !container.is_dead() {
                self.signal_all(container, libc::SIGKILL);
            }
        }
        if let Ok(pod) = self.pod()
            && let Some(init) = &pod.init
        {
            let _ = sys::process::pidfd_send_signal(init.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// True when a shutdown was asked for and there is nothing more to wait for.
    pub(super) fn has_stopped(&mut self) -> bool {
        let Some((caller, until)) = self.stopping else { return false };
        let all_dead =
            self.containers.values().all(|container| matches!(container.phase, Phase::Exited(_)));
        if !all_dead && Instant::now() < until {
            return false;
        }
        self.reply(caller, Ok(Reply::Done));
        true
    }

    /// The line by which the processes of a container are told from others: that of its v2 cgroup
    /// or, on v1, of the hierarchy where it lies deepest. `None` when it has no cgroup of its own:
    /// whatever the monitor itself is in must never be taken for the container.
    pub(super) fn cgroup_path(&self, pid: i32) -> Option<String> {
        let proc = &self.pod().ok()?.proc;
        let theirs = text_of(proc, &format!("{pid}/cgroup"))?;
        let ours = text_of(proc, "self/cgroup")?;
        own_cgroup(&theirs, &ours).map(str::to_owned)
    }
}

fn own_cgroup<'a>(theirs: &'a str, ours: &str) -> Option<&'a str> {
    let length = |line: &&str| line.splitn(3, ':').nth(2).map_or(0, str::len);
    theirs.lines().filter(|line| length(line) > 1 && !is_in(ours, line)).max_by_key(length)
}

/// True when a process with these cgroups is in the one of `line` or below it.
fn is_in(cgroups: &str, line: &str) -> bool {
    cgroups.lines().any(|own| {
        own.strip_prefix(line).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

enum Deletion {
    Done,
    Killed,
}

/// One process as proc shows it.
pub(super) struct Process {
    pid: i32,
    pub(super) parent: i32,
    session: i32,
}

/// The processes whose cgroup is the one of `line` or below it. Without a line, none: what is not
/// in a cgroup of its own cannot be told from the host's.
fn members(proc: &Procfs, line: Option<&str>) -> Vec<Process> {
    let Some(line) = line else { return Vec::new() };
    let mut text = Vec::new();
    processes(proc, |pid| is_member(proc, pid, line, &mut text))
}

/// All processes of the host that are `wanted`.
fn processes(proc: &Procfs, mut wanted: impl FnMut(i32) -> bool) -> Vec<Process> {
    let Ok(directory) = proc.open(".", OFlags::RDONLY | OFlags::DIRECTORY) else {
        return Vec::new();
    };
    let Ok(entries) = rustix::fs::Dir::new(directory) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse::<i32>().ok())
        .filter(|pid| wanted(*pid))
        .filter_map(|pid| parse_stat(pid, &text_of(proc, &format!("{pid}/stat"))?))
        .collect()
}

/// A hold on a process that is still of the family now that it cannot change its number.
fn hold_relative(proc: &Procfs, pid: i32, family: &BTreeSet<i32>) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let process = parse_stat(pid, &text_of(proc, &format!("{pid}/stat"))?)?;
    (family.contains(&process.parent) || family.contains(&process.session)).then_some(pidfd)
}

fn is_member(proc: &Procfs, pid: i32, line: &str, text: &mut Vec<u8>) -> bool {
    text.clear();
    if proc.read(&format!("{pid}/cgroup"), text).is_err() {
        return false;
    }
    std::str::from_utf8(text).is_ok_and(|cgroups| is_in(cgroups, line))
}

pub(super) fn text_of(proc: &Procfs, path: &str) -> Option<String> {
    let mut text = Vec::new();
    proc.read(path, &mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The name in parentheses may hold anything, so the fields are counted from its end.
pub(super) fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let _state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let _group = fields.next()?;
    let session = fields.next()?.parse().ok()?;
    Some(Process { pid, parent, session })
}

/// True when a process is dead or has a SIGKILL waiting for it.
fn is_dying(proc: &Procfs, pid: i32) -> bool {
    text_of(proc, &format!("{pid}/status")).is_none_or(|status| shows_death(&status))
}

fn shows_death(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_dead = field("State:").is_none_or(|state| state.trim_start().starts_with(['Z', 'X']));
    let kill = 1 << (libc::SIGKILL - 1);
    let pending = |name| field(name).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    is_dead || ["SigPnd:", "ShdPnd:"].iter().any(|name| pending(name).unwrap_or(0) & kill != 0)
}

/// `root`, whoever descends from it, and whoever is in a session that one of these leads.
fn family_of(root: i32, all: &[Process]) -> BTreeSet<i32> {
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        for process in all {
            if family.contains(&process.parent) || family.contains(&process.session) {
                family.insert(process.pid);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

/// Signals a process if it is still one of the container's now that it cannot change its number.
fn signal_member(proc: &Procfs, container: &Container, pid: i32, signal: i32) {
    let Some(line) = container.cgroup_path.as_deref() else { return };
    let Some(raw) = Pid::from_raw(pid) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else { return };
    if is_member(proc, pid, line, &mut Vec::new()) {
        let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), signal);
    }
}

/// v2 since Linux 5.14 kills a whole cgroup at once.
fn kill_cgroup(container: &Container) -> bool {
    let Some(directory) = &container.cgroup.unified else { return false };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, "cgroup.kill", flags, Mode::empty())
        .and_then(|file| rustix::io::write(&file, b"1"))
        .is_ok()
}

fn send(pidfd: &OwnedFd, signal: i32) -> Result<(), Failure> {
    sys::process::pidfd_send_signal(pidfd.as_fd(), signal)
        .map_err(|errno| Fault::from(errno).into_failure("send the signal"))
}

fn check(signal: i32) -> Result<(), Failure> {
    if (1..=64).contains(&signal) {
        Ok(())
    } else {
        Err(Fault::invalid(format!("there is no signal {signal}")).into_failure("send the signal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse_the_fields() {
        let process = parse_stat(7, "7 (a) b) c) S 3 7 5 0 -1").unwrap();
        assert_eq!((process.pid, process.parent, process.session), (7, 3, 5));
    }

    #[test]
    fn a_container_in_the_monitors_own_cgroup_has_none() {
        let ours = "9:pids:/\n4:memory:/tools/me\n0::/";
        assert_eq!(own_cgroup(ours, ours), None);
        assert_eq!(own_cgroup("9:pids:/\n4:memory:/tools\n0::/", ours), None);
        assert_eq!(
            own_cgroup("9:pids:/a\n4:memory:/tools/me/box\n0::/", ours),
            Some("4:memory:/tools/me/box")
        );
        assert_eq!(own_cgroup("4:memory:/tools/me2\n", ours), Some("4:memory:/tools/me2"));
    }

    #[test]
    fn a_dead_process_and_one_with_a_kill_on_its_way_are_dying() {
        let status = |state: &str, own: &str, shared: &str| {
            format!("Name:\tsh\nState:\t{state}\nSigPnd:\t{own}\nShdPnd:\t{shared}\n")
        };
        let (none, kill, term) = ("0000000000000000", "0000000000000100", "0000000000004000");
        assert!(!shows_death(&status("S (sleeping)", none, none)));
        assert!(!shows_death(&status("D (disk sleep)", none, term)));
        assert!(shows_death(&status("D (disk sleep)", none, kill)));
        assert!(shows_death(&status("S (sleeping)", kill, none)));
        assert!(shows_death(&status("Z (zombie)", none, none)));
    }

    #[test]
    fn a_family_is_descent_and_sessions() {
        let all = [(10, 1, 10), (11, 10, 10), (12, 11, 12), (13, 1, 12), (14, 1, 14), (15, 14, 14)]
            .map(|(pid, parent, session)| Process { pid, parent, session });
        assert_eq!(family_of(10, &all), BTreeSet::from([10, 11, 12, 13]));
    }
}
