//! Memory and swap.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::Resources;
use super::controller::{Controller, Version};
use super::file;
use super::settings::{Current, Setting};
use crate::error::{Error, Result};

pub(super) fn settings(
    resources: &Resources,
    version: Version,
    current: &Current<'_>,
) -> Result<Vec<Setting>> {
    let limit = resources.memory_limit.filter(|limit| *limit != 0);
    let total = resources.memory_swap_limit.filter(|total| *total != 0);
    if let (Some(limit @ 1..), Some(total @ 1..)) = (limit, total)
        && total < limit
    {
        return Err(Error::invalid(format!(
            "memory_swap_limit: {total} (memory and swap together) is less than the memory limit \
             {limit}"
        )));
    }
    if let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()) {
        refuse_below_usage(limit, version, current)?;
    }
    let mut all = match version {
        Version::V1 => v1(limit, total, current),
        Version::V2 => v2(limit, total, current)?,
    };
    let reservation = resources.memory_reservation.filter(|reservation| *reservation != 0);
    all.extend(reservation.map(|reservation| reserve(reservation, version)));
    Ok(all)
}

/// A descriptor that counts up whenever the v1 group of `oom_control` runs out of memory, just before
/// the kernel kills somebody.
pub(super) fn oom_event(dir: &OwnedFd, oom_control: &OwnedFd) -> Result<OwnedFd, Errno> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let words = format!("{} {}", event.as_raw_fd(), oom_control.as_raw_fd());
    file::write(dir, "cgroup.event_control", &words)?;
    Ok(event)
}

fn reserve(reservation: i64, version: Version) -> Setting {
    match version {
        Version::V1 => {
            let value = reservation.max(-1).to_string();
            Setting::new(Controller::Memory, "memory.soft_limit_in_bytes", value)
        }
        Version::V2 => {
            Setting::new(Controller::Memory, "memory.low", reservation.max(0).to_string())
        }
    }
}

fn v1(limit: Option<i64>, total: Option<i64>, current: &Current<'_>) -> Vec<Setting> {
    let memory =
        |file: &str, value: i64| Setting::new(Controller::Memory, file, value.max(-1).to_string());
    let mut all = Vec::new();
    all.extend(limit.map(|limit| memory("memory.limit_in_bytes", limit)));
    let total = total.or_else(|| {
        // The kernel wants limit <= total. An old total below a new limit keeps its distance.
        let new = u64::try_from(limit?).ok();
        let old = current.number(Controller::Memory, "memory.limit_in_bytes")?;
        let total = current.number(Controller::Memory, "memory.memsw.limit_in_bytes")?;
        match new {
            Some(new) if new > total => {
                i64::try_from(new.saturating_add(total.saturating_sub(old))).ok()
            }
            Some(_) => None,
            None => Some(-1),
        }
    });
    // Kernels without swap accounting have no such file: nothing to limit then.
    all.extend(total.map(|total| memory("memory.memsw.limit_in_bytes", total).skip_if_missing()));
    all
}

fn v2(limit: Option<i64>, total: Option<i64>, current: &Current<'_>) -> Result<Vec<Setting>> {
    let number = |value: i64| u64::try_from(value).map_or("max".to_owned(), |n| n.to_string());
    let mut all = Vec::new();
    if let Some(total) = total {
        let limit = match (total, limit) {
            (..0, _) => None,
            (_, Some(limit)) => Some(limit),
            (_, None) => {
                let now = current.number(Controller::Memory, "memory.max");
                now.and_then(|now| i64::try_from(now).ok())
            }
        };
        let swap = match limit {
            _ if total < 0 => "max".to_owned(),
            Some(limit @ 0..) if limit <= total => (total - limit).to_string(),
            // v2 counts swap by itself; a sum means nothing without its other part.
            _ => {
                return Err(Error::invalid(format!(
                    "memory_swap_limit: {total} needs a memory limit that is not larger"
                )));
            }
        };
        all.push(Setting::new(Controller::Memory, "memory.swap.max", swap).skip_if_missing());
    }
    all.extend(limit.map(|limit| Setting::new(Controller::Memory, "memory.max", number(limit))));
    Ok(all)
}

/// v2 kills when a limit is set below what is in use; v1 refuses after having swapped out what it
/// can. Neither is what a resize should do, so it is refused before anything is written. File cache
/// does not count: the kernel drops it.
fn refuse_below_usage(limit: u64, version: Version, current: &Current<'_>) -> Result<()> {
    let (usage, caches): (_, &[&str]) = match version {
        Version::V1 => ("memory.usage_in_bytes", &["total_inactive_file", "total_active_file"]),
        Version::V2 => ("memory.current", &["inactive_file", "active_file"]),
    };
    let Some(usage) = current.number(Controller::Memory, usage).filter(|usage| *usage > limit)
    else {
        return Ok(());
    };
    let stat = current.text(Controller::Memory, "memory.stat").unwrap_or_default();
    let cache: u64 = caches.iter().filter_map(|key| file::keyed(&stat, key)).sum();
    let needed = usage.saturating_sub(cache);
    if needed > limit {
        return Err(Error::wrong_state(format!(
            "memory_limit: {limit} is below the {needed} bytes in use; nothing was changed"
        )));
    }
    Ok(())
}
