//! Control groups: one interface over v1, hybrid and v2.
//!
//! ```text
//! Cgroups::detect ── create(parent, name, limits) ──▶ Cgroup ── join ──▶ descriptors for the child
//!                 └─ open(record) ─────────────────────▲   ├─ update, stats, freeze, kill
//!                                                          └─ remove
//! ```
//!
//! A [`Cgroup`] is one directory of the same path in every hierarchy that matters. Whatever a
//! controller has to say is in its own file as a pure function from [`Resources`] to the files to
//! write, so that the v1 and v2 forms stand side by side and can be tested without a kernel.
//!
//! This module never makes, changes or removes a directory that it did not name itself, except
//! missing parents, which it removes again when they are empty.
//!
//! Everything on the way to a running container goes through directory descriptors of our own; the
//! crate `cgroups-rs` serves what concerns systemd: the names of slices and the scopes in them.

mod controller;
mod cpu;
mod cpuset;
mod create;
mod details;
mod devices;
mod file;
mod freeze;
mod hierarchy;
mod hugetlb;
mod io;
mod kill;
mod memory;
mod path;
mod pids;
mod program;
mod properties;
mod raw;
mod remove;
mod resources;
mod settings;
mod stats;
mod systemd;
#[cfg(test)]
mod tests;
mod unified;
mod update;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use controller::{Controller, Version};
pub(crate) use create::Request;
#[cfg(test)]
pub(crate) use details::Hugetlb;
pub(crate) use details::{Details, Io};
pub(crate) use devices::{DeviceAccess, DeviceRule, DeviceType};
use hierarchy::Hierarchy;
pub(crate) use raw::Raw;
pub(crate) use resources::{BlkioDevice, BlkioLimit, Resources};
pub(crate) use stats::{Pressure, Stall, Stats};

use crate::error::{Context, Result};

/// The machine's hierarchies, found once.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    hierarchies: Arc<Vec<Hierarchy>>,
}

/// One container's or pod's directory in each hierarchy.
#[derive(Debug)]
pub(crate) struct Cgroup {
    hierarchies: Arc<Vec<Hierarchy>>,
    record: Record,
    /// In the order of the hierarchies.
    dirs: Vec<Directory>,
}

#[derive(Debug)]
struct Directory {
    hierarchy: usize,
    fd: OwnedFd,
}

/// What finds a [`Cgroup`] again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Below the mount point of each hierarchy, with a leading slash.
    pub(crate) path: String,
    /// Parents that were missing and were made for this group, outermost first.
    pub(crate) made_parents: Vec<String>,
    /// Set when systemd has a unit for the group.
    #[serde(default)]
    scope: Option<systemd::Scope>,
}

/// The descriptors with which a new process gets into a group.
#[derive(Debug)]
pub(crate) struct Join {
    /// The v2 directory, for `CLONE_INTO_CGROUP`.
    pub(crate) unified: Option<OwnedFd>,
    /// `tasks` of each v1 hierarchy, write-only. The new process writes `0` while it has a single
    /// thread: unlike a write to `cgroup.procs` that takes no system-wide lock, whose cost is an RCU
    /// grace period.
    pub(crate) legacy: Vec<OwnedFd>,
    /// Where OOM kills are counted, as a line `oom_kill N`.
    pub(crate) oom_counter: Option<OwnedFd>,
    /// Counts up when a v1 group runs out of memory. The counter of v2 can be waited for itself.
    pub(crate) oom_event: Option<OwnedFd>,
}

impl Record {
    /// The group that a request's parent names; `field` is what an error calls it.
    pub(crate) fn of_parent(field: &str, text: &str) -> Result<Self> {
        let path = match path::parent(field, text)? {
            path::Parent::Path(path) | path::Parent::Slice { path, .. } => path,
        };
        Ok(Self { path, made_parents: Vec::new(), scope: None })
    }

    /// The group of pod `name`, as a slice of systemd's below the configured `parent`.
    pub(crate) fn of_slice(parent: &str, name: &str) -> Result<Self> {
        Self::of_parent("cgroup.parent", &path::pod_slice(parent, name))
    }

    /// The group that [`Cgroups::create`] makes of this parent and name, to be noted down before.
    pub(crate) fn planned(parent: &str, name: &str, holder: Option<Pid>) -> Result<Self> {
        let (path, name, scope) = match path::parent("cgroup_parent", parent)? {
            path::Parent::Path(path) => (path, name.to_owned(), None),
            path::Parent::Slice { unit, path } => {
                let name = systemd::scope_name(name);
                // With its holder: who undoes this must bring it back, and not kill it.
                let held = holder.map(|pid| systemd::Scope::new(name.clone(), unit, Some(pid)));
                (path, name, held.transpose()?)
            }
        };
        Ok(Self { path: format!("{path}/{name}"), made_parents: Vec::new(), scope })
    }
}

impl Cgroups {
    /// Finds the mounted hierarchies.
    pub(crate) fn detect() -> Result<Self> {
        let mountinfo = file::read_path("/proc/self/mountinfo").context("find cgroups")?;
        let hierarchies = hierarchy::from_mountinfo(&mountinfo)?;
        Ok(Self { hierarchies: Arc::new(hierarchies) })
    }

    /// Finds a group made earlier. One that is partly or wholly gone is opened as far as it exists.
    pub(crate) fn open(&self, record: &Record) -> Result<Cgroup> {
        self.open_where(record, |_| true)
    }

    /// What a group uses; `None` when nothing is left of it.
    pub(crate) fn stats(&self, record: &Record) -> Result<Option<Stats>> {
        // A node asks this of hundreds of groups at a time: no directory is opened in vain.
        let group = self.open_where(record, stats::are_in)?;
        group.exists().then(|| group.stats()).transpose()
    }

    fn open_where(&self, record: &Record, wanted: fn(&Hierarchy) -> bool) -> Result<Cgroup> {
        let path = path::absolute("cgroup path", &record.path)?;
        let mut dirs = Vec::new();
        for (index, hierarchy) in self.hierarchies.iter().enumerate() {
            if !wanted(hierarchy) {
                continue;
            }
            match file::open_dir(&hierarchy.root, &path) {
                Ok(fd) => dirs.push(Directory { hierarchy: index, fd }),
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => {
                    return Err(errno).context(format!("open cgroup {}", hierarchy.show(&path)));
                }
            }
        }
        Ok(Cgroup { hierarchies: Arc::clone(&self.hierarchies), record: record.clone(), dirs })
    }

    /// The v1 hierarchies below `/sys/fs/cgroup`, by their last component or `name=NAME`: what a
    /// container's view of the cgroup file system is made from. Empty on pure v2.
    pub(crate) fn legacy_names(&self) -> Vec<String> {
        let legacy = self.hierarchies.iter().filter(|it| it.version == Version::V1);
        legacy.filter_map(Hierarchy::mount_name).collect()
    }
}

impl Cgroup {
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// False when nothing of it is left in any hierarchy.
    pub(crate) fn exists(&self) -> bool {
        !self.dirs.is_empty()
    }

    /// Opens what a new process needs to be born or moved into the group.
    pub(crate) fn join(&self) -> Result<Join> {
        let mut join =
            Join { unified: None, legacy: Vec::new(), oom_counter: None, oom_event: None };
        for (hierarchy, dir) in self.directories() {
            match hierarchy.version {
                Version::V2 => {
                    let fd = dir.try_clone().context("duplicate the cgroup's descriptor")?;
                    join.unified = Some(fd);
                }
                Version::V1 => {
                    let tasks = file::open_write(dir, "tasks");
                    join.legacy.push(tasks.with_context(|| self.what(hierarchy, "open tasks"))?);
                }
            }
        }
        if let Some((hierarchy, dir)) = self.controller(Controller::Memory) {
            let name = match hierarchy.version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            };
            let counter = file::open_read(dir, name);
            let counter = counter.with_context(|| self.what(hierarchy, name))?;
            if hierarchy.version == Version::V1 {
                // Without it the counter alone has to do.
                join.oom_event = memory::oom_event(dir, &counter).ok();
            }
            join.oom_counter = Some(counter);
        }
        Ok(join)
    }

    fn directories(&self) -> impl Iterator<Item = (&Hierarchy, &OwnedFd)> {
        self.dirs.iter().filter_map(|dir| Some((self.hierarchies.get(dir.hierarchy)?, &dir.fd)))
    }

    /// The directory in which a controller's files are.
    fn controller(&self, controller: Controller) -> Option<(&Hierarchy, &OwnedFd)> {
        self.directories().find(|(hierarchy, _)| hierarchy.has(controller))
    }

    fn unified(&self) -> Option<(&Hierarchy, &OwnedFd)> {
        self.directories().find(|(hierarchy, _)| hierarchy.version == Version::V2)
    }

    /// Words for an error: what was done where.
    fn what(&self, hierarchy: &Hierarchy, doing: &str) -> String {
        format!("{doing} in cgroup {}", hierarchy.show(&self.record.path))
    }
}
