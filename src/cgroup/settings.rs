//! From [`Resources`] to the files to write, and the writing of them.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::hierarchy::Hierarchy;
use super::{Cgroup, Resources, cpu, cpuset, file, hugetlb, io, memory, pids, unified};
use crate::error::{Context, Error, Kind, Result};

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) place: Place,
    pub(super) file: String,
    pub(super) value: String,
    pub(super) missing: Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Controller(Controller),
    /// A raw file of the v2 hierarchy.
    Unified,
}

/// What to do when the kernel has no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Refuse,
    Skip,
}

impl Setting {
    pub(super) fn new(
        controller: Controller,
        file: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        Self {
            place: Place::Controller(controller),
            file: file.into(),
            value: value.into(),
            missing: Missing::Refuse,
        }
    }

    pub(super) fn skip_if_missing(mut self) -> Self {
        self.missing = Missing::Skip;
        self
    }
}

/// What the group's files say now, for settings that depend on each other.
pub(super) struct Current<'a> {
    pub(super) cgroup: &'a Cgroup,
}

impl Current<'_> {
    pub(super) fn text(&self, controller: Controller, name: &str) -> Option<String> {
        let (_, dir) = self.cgroup.controller(controller)?;
        file::read(dir, name).ok()
    }

    pub(super) fn number(&self, controller: Controller, name: &str) -> Option<u64> {
        file::parse_number(&self.text(controller, name)?)
    }
}

impl Cgroup {
    /// All files that `resources` asks to be written, in the order of writing.
    pub(super) fn settings(&self, resources: &Resources) -> Result<Vec<Setting>> {
        let current = Current { cgroup: self };
        let version = |controller| {
            let place = self.controller(controller);
            place.map_or(Version::V2, |(hierarchy, _)| hierarchy.version)
        };
        // Memory first: it is the one that is refused when a limit shrinks, before anything else
        // has changed.
        let mut all = memory::settings(resources, version(Controller::Memory), &current)?;
        all.extend(cpu::settings(resources, version(Controller::Cpu), &current)?);
        all.extend(cpuset::settings(resources)?);
        all.extend(pids::settings(resources));
        all.extend(hugetlb::settings(resources, version(Controller::Hugetlb))?);
        all.extend(io::settings(resources, version(Controller::Io))?);
        all.extend(unified::settings(resources)?);
        Ok(all)
    }

    /// Writes settings in order. One that the kernel refuses as invalid is tried again after the
    /// others: limits that bound each other (memory and swap, quota and period) can then be given in
    /// any order.
    pub(super) fn write(&self, settings: &[Setting]) -> Result<()> {
        let mut again = Vec::new();
        for setting in settings {
            match self.write_one(setting) {
                Err(Errno::INVAL) => again.push(setting),
                outcome => self.explained(setting, outcome)?,
            }
        }
        for setting in again {
            self.explained(setting, self.write_one(setting))?;
        }
        Ok(())
    }

    fn write_one(&self, setting: &Setting) -> Result<(), Errno> {
        let outcome = match self.place(setting.place) {
            Some((_, dir)) => file::write(dir, &setting.file, &setting.value),
            None => Err(Errno::NOENT),
        };
        match outcome {
            // EACCES: cgroupfs lets nobody create, and answers so for a name that does not exist.
            Err(Errno::NOENT | Errno::ACCESS | Errno::OPNOTSUPP)
                if setting.missing == Missing::Skip =>
            {
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn place(&self, place: Place) -> Option<(&Hierarchy, &OwnedFd)> {
        match place {
            Place::Controller(controller) => self.controller(controller),
            Place::Unified => self.unified(),
        }
    }

    fn explained(&self, setting: &Setting, outcome: Result<(), Errno>) -> Result<()> {
        let Err(errno) = outcome else { return Ok(()) };
        let Setting { file, value, place, .. } = setting;
        let Some((hierarchy, _)) = self.place(*place) else {
            let what = match place {
                Place::Controller(controller) => controller.v1_name(),
                Place::Unified => "unified",
            };
            let text =
                format!("cgroup: cannot write {value:?} to {file}: no {what} controller here");
            return Err(Error::new(Kind::Unsupported, text));
        };
        let kind = match errno {
            Errno::INVAL | Errno::RANGE | Errno::NOSPC => Kind::InvalidArgument,
            Errno::BUSY => Kind::WrongState,
            Errno::NOENT | Errno::OPNOTSUPP => Kind::Unsupported,
            _ => Kind::Internal,
        };
        let doing = self.what(hierarchy, &format!("write {value:?} to {file}"));
        Err(errno).context(doing).kind(kind)
    }
}
