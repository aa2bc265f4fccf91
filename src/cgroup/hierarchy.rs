//! Which hierarchies are mounted and which controllers live in them.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};

use super::controller::{Controller, Version};
use super::file;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::mountinfo::unescape;

/// One mounted hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Mount options on v1 (`cpu`, `name=systemd`), `cgroup.controllers` on v2.
    controllers: Vec<String>,
    mount: String,
    pub(super) root: OwnedFd,
}

impl Hierarchy {
    pub(super) fn has(&self, controller: Controller) -> bool {
        let name = match self.version {
            Version::V1 => Some(controller.v1_name()),
            Version::V2 => controller.v2_name(),
        };
        name.is_some_and(|name| self.controllers.iter().any(|own| own == name))
    }

    /// Whether this is the hierarchy that `/proc/PID/cgroup` writes so: the controllers of a v1 one,
    /// nothing for v2.
    pub(super) fn is_called(&self, controllers: &str) -> bool {
        match self.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => {
                let names = || controllers.split(',');
                !controllers.is_empty()
                    && names().all(|name| self.controllers.iter().any(|own| own == name))
            }
        }
    }

    /// The path under which a person finds a group of this hierarchy.
    pub(super) fn show(&self, path: &str) -> String {
        format!("{}{path}", self.mount)
    }

    /// `cpu,cpuacct` of `/sys/fs/cgroup/cpu,cpuacct`; `name=systemd` of one without controllers, which
    /// can be mounted by that only.
    pub(super) fn mount_name(&self) -> Option<String> {
        let place = self.mount.strip_prefix("/sys/fs/cgroup/")?;
        let name = self.controllers.iter().find(|option| option.starts_with("name="));
        Some(name.cloned().unwrap_or_else(|| place.to_owned()))
    }
}

/// A line of mountinfo that is about cgroups.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    version: Version,
    options: Vec<String>,
    mount: String,
}

/// Reads mountinfo and opens the hierarchies that processes of ours are to be in.
pub(super) fn from_mountinfo(text: &str) -> Result<Vec<Hierarchy>> {
    let mut found = Vec::new();
    for mounted in needed(parse(text)) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, mounted.mount.as_str(), flags, Mode::empty())
            .with_context(|| format!("open cgroup hierarchy {}", mounted.mount))?;
        let controllers = match mounted.version {
            Version::V1 => mounted.options,
            Version::V2 => {
                let list = file::read(&root, "cgroup.controllers")
                    .with_context(|| format!("read {}/cgroup.controllers", mounted.mount))?;
                list.split_whitespace().map(str::to_owned).collect()
            }
        };
        let Mounted { version, mount, .. } = mounted;
        found.push(Hierarchy { version, controllers, mount, root });
    }
    if found.is_empty() {
        return Err(Error::new(Kind::Unsupported, "no cgroup hierarchy is mounted"));
    }
    Ok(found)
}

fn parse(text: &str) -> Vec<Mounted> {
    let mut found: Vec<Mounted> = Vec::new();
    for mounted in text.lines().filter_map(parse_line) {
        let same = |other: &Mounted| {
            other.version == mounted.version
                && (mounted.version == Version::V2 || other.options == mounted.options)
        };
        // A hierarchy may be mounted again elsewhere; the first place is as good as any.
        if !found.iter().any(same) {
            found.push(mounted);
        }
    }
    found
}

/// `ID PARENT MAJ:MIN ROOT MOUNT OPTIONS [FIELDS] - TYPE SOURCE SUPEROPTIONS`
fn parse_line(line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let mount = unescape(left.split(' ').nth(4)?);
    let mount = String::from_utf8_lossy(&mount).into_owned();
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = right.nth(1)?.split(',').filter(|option| *option != "rw" && *option != "ro");
    Some(Mounted { version, options: options.map(str::to_owned).collect(), mount })
}

/// Drops hierarchies that would cost every start something and serve nothing.
fn needed(all: Vec<Mounted>) -> Vec<Mounted> {
    let unified = all.iter().any(|it| it.version == Version::V2);
    let serves = |it: &Mounted| {
        let any = |wanted: &[Controller]| {
            wanted.iter().any(|wanted| it.options.iter().any(|own| own == wanted.v1_name()))
        };
        let useful = any(&[
            Controller::Cpu,
            Controller::Cpuset,
            Controller::Memory,
            Controller::Pids,
            Controller::Devices,
            Controller::Io,
            Controller::Hugetlb,
        ]);
        // A v2 group counts CPU time, freezes and is watched by systemd without any controller.
        let is_watched = it.options.iter().any(|option| option == "name=systemd");
        useful || (!unified && (is_watched || any(&[Controller::Cpuacct, Controller::Freezer])))
    };
    all.into_iter().filter(|it| it.version == Version::V2 || serves(it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
99 31 0:32 / /mnt/again\\040here rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn a_hierarchy_is_called_what_it_can_be_mounted_by() {
        let name = |mount: &str, options: &[&str]| {
            let root = rustix::fs::open("/", OFlags::RDONLY, Mode::empty()).unwrap();
            let controllers = options.iter().map(|option| (*option).to_owned()).collect();
            let mount = mount.to_owned();
            Hierarchy { version: Version::V1, controllers, mount, root }.mount_name()
        };
        let prefix = "/sys/fs/cgroup";
        let cpu = name(&format!("{prefix}/cpu,cpuacct"), &["cpu", "cpuacct"]);
        assert_eq!(cpu.as_deref(), Some("cpu,cpuacct"));
        let named = name(&format!("{prefix}/systemd"), &["xattr", "name=systemd"]);
        assert_eq!(named.as_deref(), Some("name=systemd"));
        assert_eq!(name("/mnt/elsewhere", &["memory"]), None);
    }

    #[test]
    fn every_hierarchy_is_found_once_and_useless_ones_are_left_out() {
        let mounts = |text: &str| -> Vec<String> {
            needed(parse(text)).into_iter().map(|it| it.mount).collect()
        };
        let prefix = "/sys/fs/cgroup";
        assert_eq!(
            mounts(HYBRID),
            [
                format!("{prefix}/cpu,cpuacct"),
                format!("{prefix}/memory"),
                format!("{prefix}/unified")
            ]
        );
        let legacy: String = HYBRID
            .lines()
            .filter(|line| !line.contains("cgroup2"))
            .map(|l| format!("{l}\n"))
            .collect();
        assert!(mounts(&legacy).contains(&format!("{prefix}/freezer")));
    }

    #[test]
    fn a_machine_without_cgroups_is_told_so() {
        let error = from_mountinfo("31 23 0:28 / / rw - ext4 /dev/vda rw\n").unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
    }
}
