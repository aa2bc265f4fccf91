//! Making a group: its directory in each hierarchy, its limits, its device rules.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Pid;

use super::controller::{Controller, Version};
use super::hierarchy::Hierarchy;
use super::path::{self, Parent};
use super::{
    Cgroup, Cgroups, DeviceRule, Directory, Record, Resources, cpuset, file, remove, systemd,
};
use crate::error::{Context, Error, Kind, Result};

/// What a group is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// As the client wrote it; empty is our default.
    pub(crate) parent: &'a str,
    /// One directory name of our own making.
    pub(crate) name: &'a str,
    pub(crate) resources: &'a Resources,
    /// `None` leaves what the parent allows.
    pub(crate) devices: Option<&'a [DeviceRule]>,
    /// A process that stands in until the group has one of its own: systemd makes no scope without.
    /// It is brought back by [`Cgroup::release_holder`]. Only a parent that is a slice needs it.
    pub(crate) holder: Option<Pid>,
}

impl Cgroups {
    /// Makes a group with its limits in force; on an error nothing of it is left.
    pub(crate) fn create(&self, request: &Request<'_>) -> Result<Cgroup> {
        path::component("cgroup name", request.name)?;
        let mut record = Record::planned(request.parent, request.name, request.holder)?;
        if let Parent::Slice { unit, .. } = path::parent("cgroup_parent", request.parent)?
            && record.scope.is_none()
        {
            let name = systemd::scope_name(request.name);
            record.scope = Some(systemd::Scope::new(name, unit, request.holder)?);
        }
        let parent = record.path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        let mut cgroup =
            Cgroup { hierarchies: Arc::clone(&self.hierarchies), record, dirs: Vec::new() };
        if let Some(scope) = &cgroup.record.scope {
            scope.start()?;
        }
        let filled = cgroup.fill(&parent, request);
        if let Err(error) = filled {
            // The first error is the one that says what was wrong.
            let _ = cgroup.release_holder();
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }
}

impl Cgroup {
    fn fill(&mut self, parent: &str, request: &Request<'_>) -> Result<()> {
        let hierarchies = Arc::clone(&self.hierarchies);
        for (index, hierarchy) in hierarchies.iter().enumerate() {
            let fd = self.make_in(hierarchy, parent, request.resources)?;
            self.dirs.push(Directory { hierarchy: index, fd });
        }
        let settings = self.settings(request.resources)?;
        self.tell_systemd(&settings, request.devices)?;
        self.write(&settings)?;
        match request.devices {
            Some(rules) => self.set_devices(rules),
            None => Ok(()),
        }
    }

    fn make_in(
        &mut self,
        hierarchy: &Hierarchy,
        parent: &str,
        resources: &Resources,
    ) -> Result<OwnedFd> {
        let path = self.record.path.clone();
        // Somebody who removes the same empty parent may win against us, but not again and again. A
        // directory that goes while it is open answers ENODEV.
        for _ in 0..32 {
            match self.make_parents(hierarchy, parent) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::NODEV) => continue,
                Err(errno) => {
                    let what = format!("create cgroup {}", hierarchy.show(parent));
                    return Err(errno).context(what);
                }
            }
            if hierarchy.version == Version::V2
                && let Err(error) = enable_controllers(hierarchy, parent, resources)
            {
                match file::open_dir(&hierarchy.root, parent) {
                    Err(Errno::NOENT) => continue,
                    Ok(_) | Err(_) => return Err(error),
                }
            }
            match make_one(hierarchy, &path).and_then(|_| self.hold(hierarchy)) {
                Ok(()) => return open_made(hierarchy, &path),
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => {
                    let what = format!("create cgroup {}", hierarchy.show(&path));
                    return Err(errno).context(what);
                }
            }
        }
        let path = hierarchy.show(&path);
        Err(Error::new(Kind::Busy, format!("create cgroup {path}: its parent keeps vanishing")))
    }

    /// Puts the scope's holder into the directory just made, on v1. systemd has it in its own hierarchy only, and when
    /// it looks after a slice it removes what is empty below it in all those that the slice has no use for.
    fn hold(&self, hierarchy: &Hierarchy) -> Result<(), Errno> {
        match &self.record.scope {
            Some(scope) if hierarchy.version == Version::V1 => {
                let dir = file::open_dir(&hierarchy.root, &self.record.path)?;
                file::write(&dir, "cgroup.procs", &scope.holder().to_string())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn make_parents(&mut self, hierarchy: &Hierarchy, parent: &str) -> Result<(), Errno> {
        if file::open_dir(&hierarchy.root, parent).is_ok() {
            return Ok(());
        }
        for (end, _) in parent.match_indices('/').skip(1).chain([(parent.len(), "")]) {
            let Some(path) = parent.get(..end) else { continue };
            if make_one(hierarchy, path)? == Made::New {
                remove::mark(&file::open_dir(&hierarchy.root, path)?);
                if !self.record.made_parents.iter().any(|known| known == path) {
                    self.record.made_parents.push(path.to_owned());
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    New,
    /// It was there: a retry after a kill, or somebody else's.
    Old,
}

/// Makes one directory whose parent exists. A v1 cpuset is made usable.
fn make_one(hierarchy: &Hierarchy, path: &str) -> Result<Made, Errno> {
    let relative = path.trim_start_matches('/');
    let made = match rustix::fs::mkdirat(&hierarchy.root, relative, Mode::from_raw_mode(0o755)) {
        Ok(()) => Made::New,
        Err(Errno::EXIST) => Made::Old,
        Err(errno) => return Err(errno),
    };
    if hierarchy.version == Version::V1 && hierarchy.has(Controller::Cpuset) {
        fill_cpuset(hierarchy, relative)?;
    }
    Ok(made)
}

/// From the top: who made a parent may have been killed before it was usable, or is still at it.
fn fill_cpuset(hierarchy: &Hierarchy, relative: &str) -> Result<(), Errno> {
    let mut parent = file::open_dir(&hierarchy.root, "")?;
    for (end, _) in relative.match_indices('/').chain([(relative.len(), "")]) {
        let child = file::open_dir(&hierarchy.root, relative.get(..end).unwrap_or(relative))?;
        cpuset::inherit(&parent, &child)?;
        parent = child;
    }
    Ok(())
}

fn open_made(hierarchy: &Hierarchy, path: &str) -> Result<OwnedFd> {
    file::open_dir(&hierarchy.root, path)
        .with_context(|| format!("open cgroup {}", hierarchy.show(path)))
}

/// Lets the controllers through from the root of the v2 hierarchy down to `parent`.
fn enable_controllers(hierarchy: &Hierarchy, parent: &str, resources: &Resources) -> Result<()> {
    let wanted = wanted(hierarchy, resources);
    if wanted.is_empty() {
        return Ok(());
    }
    let lacks = |path: &str| -> Result<(OwnedFd, Vec<&'static str>)> {
        let dir = open_made(hierarchy, path)?;
        let enabled = file::read(&dir, "cgroup.subtree_control")
            .with_context(|| format!("read controllers of cgroup {}", hierarchy.show(path)))?;
        let is_missing = |name: &&str| !enabled.split_whitespace().any(|own| own == *name);
        Ok((dir, wanted.iter().copied().filter(is_missing).collect()))
    };
    // What a group passes on, all above it pass on too: usually one look is enough.
    if lacks(parent)?.1.is_empty() {
        return Ok(());
    }
    let levels = parent.match_indices('/').map(|(at, _)| at).chain([parent.len()]);
    for level in levels.filter_map(|end| parent.get(..end)) {
        let (dir, missing) = lacks(level)?;
        for name in missing {
            match file::write(&dir, "cgroup.subtree_control", &format!("+{name}")) {
                // Not offered here: a setting that needs it will say so by its own name.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY) => {
                    return Err(Error::new(
                        Kind::WrongState,
                        format!(
                            "cgroup {} holds processes itself, so the {name} controller cannot be \
                             enabled below it",
                            hierarchy.show(level)
                        ),
                    ));
                }
                Err(errno) => {
                    return Err(errno).context(format!(
                        "enable the {name} controller in cgroup {}",
                        hierarchy.show(level)
                    ));
                }
            }
        }
    }
    Ok(())
}

fn wanted(hierarchy: &Hierarchy, resources: &Resources) -> Vec<&'static str> {
    let mut controllers = vec![
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Io,
        Controller::Memory,
        Controller::Pids,
    ];
    // Few machines use huge pages, and each controller costs every group memory.
    if !resources.hugepage_limits.is_empty() {
        controllers.push(Controller::Hugetlb);
    }
    let offered = controllers.into_iter().filter(|controller| hierarchy.has(*controller));
    offered.filter_map(Controller::v2_name).collect()
}
