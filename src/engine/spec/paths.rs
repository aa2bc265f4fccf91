//! Paths of `/proc` and `/sys` that are hidden or cannot be written.
//!
//! The request adds to the defaults and cannot take from them: over the wire, a list that is left
//! out and one that is meant to be empty look the same, and unmasked `/proc` is safe only in a user
//! namespace.

use std::path::Path;

use super::{Draft, Input, field};
use crate::error::Result;

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let security = &input.config.security;
    let keep_defaults = security.user_namespace.is_none();
    let merged = |field: &str, defaults: &[&str], request: &[String]| -> Result<Vec<String>> {
        let defaults = defaults.iter().filter(|_| keep_defaults);
        let mut all: Vec<String> = defaults.map(|it| (*it).to_owned()).collect();
        for (index, path) in request.iter().enumerate() {
            let path = field::path(&format!("{field}[{index}]"), Path::new(path))?;
            if !all.contains(&path) {
                all.push(path);
            }
        }
        Ok(all)
    };

    let masked = merged("masked_paths", &MASKED, &security.masked_paths)?;
    let read_only = merged("readonly_paths", &READ_ONLY, &security.readonly_paths)?;
    let none = security.privileged;
    draft.linux.set_masked_paths(Some(if none { Vec::new() } else { masked }));
    draft.linux.set_readonly_paths(Some(if none { Vec::new() } else { read_only }));
    Ok(())
}
