//! Changing limits of a running group: all of them or none.

use std::os::fd::OwnedFd;

use super::controller::{Controller, Version};
use super::hierarchy::Hierarchy;
use super::settings::{Current, Setting};
use super::{Cgroup, Resources, file};
use crate::error::{Context, Result};

impl Cgroup {
    /// Writes what is set in `resources`. When the kernel refuses one value, those already written
    /// get their old ones back and the error names the one refused.
    pub(crate) fn update(&self, resources: &Resources) -> Result<()> {
        let _stopped = self.stop_for_less_memory(resources)?;
        let settings = self.settings(resources)?;
        let old: Vec<Setting> = settings.iter().rev().filter_map(|it| self.present(it)).collect();
        let outcome = self.tell_systemd(&settings, None).and_then(|()| self.write(&settings));
        if outcome.is_err() {
            // The values were in force a moment ago, together.
            let _ = self.tell_systemd(&old, None);
            let _ = self.write(&old);
        }
        outcome
    }

    /// v2 kills for a limit below what is in use, so use is compared first, and nobody may allocate between the comparison and
    /// the write: who is stopped does not. v1 compares and refuses by itself.
    fn stop_for_less_memory(&self, resources: &Resources) -> Result<Option<Stopped<'_>>> {
        let limit = resources.memory_limit.and_then(|limit| u64::try_from(limit).ok());
        let on_v2 = |(hierarchy, _): &(&Hierarchy, _)| hierarchy.version == Version::V2;
        let Some(limit) = limit.filter(|limit| *limit != 0) else { return Ok(None) };
        let Some((_, dir)) = self.controller(Controller::Memory).filter(on_v2) else {
            return Ok(None);
        };
        let now = Current { cgroup: self }.number(Controller::Memory, "memory.max");
        let stands = |events: String| file::keyed(&events, "frozen") == Some(1);
        if now.is_none_or(|now| limit >= now) || file::read(dir, "cgroup.events").is_ok_and(stands)
        {
            return Ok(None);
        }
        self.freeze().context("stop the processes while memory is taken from them")?;
        Ok(Some(Stopped(dir)))
    }

    /// The same setting with the value it has now. Files of several lines are tables of exceptions,
    /// which cannot be written back as they read.
    fn present(&self, setting: &Setting) -> Option<Setting> {
        let (_, dir) = self.place(setting.place)?;
        let value = file::read(dir, &setting.file).ok()?.trim().to_owned();
        let restorable = !value.is_empty() && !value.contains('\n');
        restorable.then(|| Setting { value, ..setting.clone() })
    }
}

/// The directory of a group that was not frozen before, and goes on afterwards.
struct Stopped<'a>(&'a OwnedFd);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // Not waited for: who froze a group above meanwhile keeps this one stopped.
        if let Err(error) = file::write(self.0, "cgroup.freeze", "0") {
            tracing::error!(%error, "processes stay stopped");
        }
    }
}
