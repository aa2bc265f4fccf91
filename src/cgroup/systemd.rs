//! Groups that systemd knows: a scope below the slice that the client names.
//!
//! systemd makes the scope's directories, and takes them away when the last process has gone; limits
//! are written to the files by us, as in any other group, after systemd was told of them
//! ([`super::properties`]). A scope cannot be started empty, so a
//! process of ours holds it until the container's first one is in it.

use std::path::Path;
use std::time::{Duration, Instant};

use cgroups_rs::systemd::SystemdClient;
use cgroups_rs::systemd::props::{PropertiesBuilder, Property};
use rustix::event::{Timespec, poll};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{Cgroup, Hierarchy, file};
use crate::error::{Context, Error, Kind, Result};

/// systemd answers before it has made the directory.
const PATIENCE: Duration = Duration::from_secs(30);

/// A unit of systemd for one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    unit: String,
    slice: String,
    holder: Holder,
}

/// The process that stands in, and the groups it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    pid: i32,
    /// As in `/proc/PID/cgroup`.
    home: String,
}

/// True when PID 1 is systemd.
pub(super) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// `cais-NAME.scope`.
pub(super) fn scope_name(name: &str) -> String {
    format!("cais-{name}.scope")
}

impl Scope {
    pub(super) fn new(unit: String, slice: String, holder: Option<Pid>) -> Result<Self> {
        if !is_running() {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "cgroup_parent: {slice} is a slice, but systemd does not run on this machine"
                ),
            ));
        }
        let holder = holder.context("a scope needs a process to hold it")?;
        let pid = holder.as_raw_nonzero().get();
        let home = file::read_path(&format!("/proc/{pid}/cgroup"))
            .with_context(|| format!("read the cgroups of process {pid}"))?;
        Ok(Self { unit, slice, holder: Holder { pid, home } })
    }

    /// Asks systemd for the scope and waits until the holder is in it.
    pub(super) fn start(&self) -> Result<()> {
        let doing = || format!("start {} in {}", self.unit, self.slice);
        let pid = u32::try_from(self.holder.pid).with_context(doing)?;
        let mut properties = PropertiesBuilder::default_cgroup(&self.slice, &self.unit)
            .description(format!("Cais container {}", self.unit))
            .pids(vec![pid])
            .build();
        // Else systemd has a limit of its own for units that name none.
        properties.push(("TasksMax", u64::MAX.into()));
        let client = SystemdClient::new(&self.unit, properties)
            .kind(Kind::Unavailable)
            .with_context(doing)?;
        client.start().kind(Kind::Unavailable).with_context(doing)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_held() {
            if Instant::now() >= deadline {
                return Err(Error::new(Kind::Timeout, format!("{}: systemd is slow", doing())));
            }
            // There is no event to wait for but the job's signal on the bus.
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
        Ok(())
    }

    /// The process that stands in.
    pub(super) fn holder(&self) -> i32 {
        self.holder.pid
    }

    /// Changes properties of the unit; systemd has put them into force when this returns.
    pub(super) fn set(&self, properties: &[Property<'static>]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let doing = || format!("set limits of {}", self.unit);
        let mut client = SystemdClient::new(&self.unit, Vec::new())
            .kind(Kind::Unavailable)
            .with_context(doing)?;
        client.set_properties(properties).kind(Kind::Unavailable).with_context(doing)
    }

    fn is_held(&self) -> bool {
        file::read_path(&format!("/proc/{}/cgroup", self.holder.pid))
            .is_ok_and(|groups| groups.lines().any(|line| line.ends_with(&self.unit)))
    }
}

impl Cgroup {
    /// Brings the holder back to where it came from. To be called as soon as the group has a process
    /// of its own; without a scope it does nothing.
    pub(crate) fn release_holder(&self) -> Result<()> {
        let held = self.record.scope.as_ref().filter(|scope| scope.is_held());
        // Not in the scope: brought back before, or its number belongs to a stranger now.
        let Some(Scope { holder, .. }) = held else { return Ok(()) };
        for hierarchy in self.hierarchies.iter() {
            let Some(home) = home(&holder.home, hierarchy) else { continue };
            let pid = holder.pid.to_string();
            let moved = file::open_dir(&hierarchy.root, home)
                .and_then(|dir| file::write(&dir, "cgroup.procs", &pid));
            match moved {
                // A holder that is gone holds nothing.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => {
                    let path = hierarchy.show(home);
                    return Err(errno).context(format!("move process {pid} back to {path}"));
                }
            }
        }
        Ok(())
    }

    /// After the directories are gone: systemd may still have a unit for them.
    pub(super) fn forget_unit(&self) {
        let name = self.record.path.rsplit('/').next().unwrap_or_default();
        let unit = match &self.record.scope {
            Some(scope) => scope.unit.as_str(),
            None if name.ends_with(".slice") => name,
            None => return,
        };
        if is_running()
            && let Ok(client) = SystemdClient::new(unit, Vec::new())
        {
            // Best effort: the directories are gone, and a unit that failed is only a line in a list.
            let _ = client.stop();
        }
    }

    /// The holder is never killed with the group.
    pub(super) fn is_holder(&self, pid: Pid) -> bool {
        let held = self.record.scope.as_ref().map(|scope| scope.holder.pid);
        held == Some(pid.as_raw_nonzero().get())
    }
}

/// The path that a process has in a hierarchy, from its `/proc/PID/cgroup`.
fn home<'a>(text: &'a str, hierarchy: &Hierarchy) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        hierarchy.is_called(controllers).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Cgroups;

    #[test]
    fn every_hierarchy_finds_its_own_line() {
        let own = file::read_path("/proc/self/cgroup").unwrap();
        let marked: String = own
            .lines()
            .filter_map(|line| {
                let (start, _) = line.rsplit_once(':')?;
                Some(format!("{start}:/at:{start}\n"))
            })
            .collect();
        let cgroups = Cgroups::detect().unwrap();
        let homes: Vec<_> = cgroups.hierarchies.iter().filter_map(|it| home(&marked, it)).collect();
        assert_eq!(homes.len(), cgroups.hierarchies.len());
        let different: std::collections::HashSet<_> = homes.iter().collect();
        assert_eq!(different.len(), homes.len(), "{homes:?}");
    }

    #[test]
    fn a_record_without_a_scope_is_read_as_one_of_ours() {
        let record: crate::cgroup::Record =
            serde_json::from_str(r#"{"path":"/cais/x","made_parents":[]}"#).unwrap();
        assert_eq!(record.scope, None);
        assert_eq!(scope_name("abc"), "cais-abc.scope");
    }
}
