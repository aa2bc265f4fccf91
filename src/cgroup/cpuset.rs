//! Which CPUs and memory nodes may be used.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::controller::Controller;
use super::settings::Setting;
use super::{Resources, file};
use crate::error::{Error, Result};

const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

pub(super) fn settings(resources: &Resources) -> Result<Vec<Setting>> {
    let [cpus, mems] = FILES;
    let mut all = Vec::new();
    for (field, list, name) in [
        ("cpuset_cpus", &resources.cpuset_cpus, cpus),
        ("cpuset_mems", &resources.cpuset_mems, mems),
    ] {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else { continue };
        if !is_list(list) {
            let shown: String = list.chars().take(80).collect();
            return Err(Error::invalid(format!("{field}: {shown:?} is not a list such as 0-2,7")));
        }
        all.push(Setting::new(Controller::Cpuset, name, list));
    }
    Ok(all)
}

/// `N`, `N-M` and commas between.
fn is_list(list: &str) -> bool {
    list.split(',').all(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (number(first), number(last)) {
            (Some(first), Some(last)) => first <= last,
            _ => false,
        }
    })
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A new v1 cpuset is empty and takes no process before it has CPUs and memory nodes.
pub(super) fn inherit(parent: &OwnedFd, child: &OwnedFd) -> Result<(), Errno> {
    for name in FILES {
        // Another creator of the same parent may have filled it, or a clone_children parent did.
        if file::read(child, name)?.trim().is_empty() {
            file::write(child, name, file::read(parent, name)?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_reach_the_kernel() {
        for good in ["0", "0-2,7", "1,3,5-6"] {
            assert!(is_list(good), "{good}");
        }
        for bad in ["", "a", "0-", "3-1", "0 1", "0\n1", "-1", "0,,1", "99999999999"] {
            assert!(!is_list(bad), "{bad:?}");
        }
    }
}
