//! Changing limits of a running group: all of them or none.

use super::settings::Setting;
use super::{Cgroup, Resources, file};
use crate::error::Result;

impl Cgroup {
    /// Writes what is set in `resources`. When the kernel refuses one value, those already written
    /// get their old ones back and the error names the one refused.
    pub(crate) fn update(&self, resources: &Resources) -> Result<()> {
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

    /// The same setting with the value it has now. Files of several lines are tables of exceptions,
    /// which cannot be written back as they read.
    fn present(&self, setting: &Setting) -> Option<Setting> {
        let (_, dir) = self.place(setting.place)?;
        let value = file::read(dir, &setting.file).ok()?.trim().to_owned();
        let restorable = !value.is_empty() && !value.contains('\n');
        restorable.then(|| Setting { value, ..setting.clone() })
    }
}
