//! What the parent makes on the host for one pod: cgroups with limits, and the overlay.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::{Doing, Result, usage};

/// One v1 hierarchy.
pub(super) struct Hierarchy {
    pub(super) name: String,
    mount: PathBuf,
}

impl Hierarchy {
    /// What a mount of it inside the container is made with.
    pub(super) fn option(&self) -> (&str, &str) {
        match self.name.as_str() {
            "systemd" => ("name", "systemd"),
            controller => (controller, ""),
        }
    }
}

pub(super) struct Groups {
    pub(super) hierarchies: Vec<Hierarchy>,
    /// Relative to every hierarchy.
    parent: String,
    /// A v1 cpuset takes no process before it is told its CPUs and memory nodes.
    cpus: String,
    nodes: String,
}

impl Groups {
    pub(super) fn find(parent: String) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let hierarchies: Vec<Hierarchy> = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup "))
            .filter_map(|line| line.split(' ').nth(4))
            .map(|mount| Hierarchy {
                name: mount.rsplit('/').next().unwrap_or_default().to_owned(),
                mount: mount.into(),
            })
            .collect();
        if hierarchies.is_empty() {
            return Err("no cgroup v1 hierarchy: the floor knows v1 and hybrid only".into());
        }
        let read = |file: &str| {
            let text = fs::read_to_string(root.join("cpuset").join(file));
            text.unwrap_or_default().trim().to_owned()
        };
        let (cpus, nodes) = (read("cpuset.cpus"), read("cpuset.mems"));
        Ok(Self { hierarchies, parent, cpus, nodes })
    }

    /// A pod's group and a container's group in it, with limits; the files to join by.
    pub(super) fn make(&self, pod: &str) -> Result<Vec<File>> {
        let mut joins = Vec::new();
        for hierarchy in &self.hierarchies {
            let pod = hierarchy.mount.join(&self.parent).join(pod);
            let container = pod.join("c");
            self.level(hierarchy, &pod)?;
            self.level(hierarchy, &container)?;
            for (file, value) in limits(&hierarchy.name) {
                set(&container.join(file), value)?;
            }
            let join = OpenOptions::new().write(true).open(container.join("cgroup.procs"));
            joins.push(join.doing("cgroup.procs")?);
        }
        Ok(joins)
    }

    fn level(&self, hierarchy: &Hierarchy, path: &Path) -> Result<()> {
        fs::create_dir(path).doing(path.display())?;
        if hierarchy.name == "cpuset" {
            set(&path.join("cpuset.cpus"), &self.cpus)?;
            set(&path.join("cpuset.mems"), &self.nodes)?;
        }
        Ok(())
    }

    pub(super) fn make_parent(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            self.level(hierarchy, &hierarchy.mount.join(&self.parent))?;
        }
        Ok(())
    }

    pub(super) fn remove_parent(&self) {
        for hierarchy in &self.hierarchies {
            usage::remove_tree(&hierarchy.mount.join(&self.parent));
        }
    }

    pub(super) fn remove(&self, pod: &str) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let pod = hierarchy.mount.join(&self.parent).join(pod);
            remove_when_empty(&pod.join("c"))?;
            fs::remove_dir(&pod).doing(pod.display())?;
        }
        Ok(())
    }
}

/// A group stays busy for a moment after its last process was waited for.
fn remove_when_empty(group: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                if Instant::now() > deadline {
                    return Err(error).doing(group.display());
                }
            }
            other => return other.doing(group.display()),
        }
    }
}

fn limits(hierarchy: &str) -> &'static [(&'static str, &'static str)] {
    match hierarchy {
        "cpu" => &[("cpu.shares", "102"), ("cpu.cfs_quota_us", "50000")],
        "memory" => &[("memory.limit_in_bytes", "67108864")],
        "pids" => &[("pids.max", "1024")],
        "devices" => &[
            ("devices.deny", "a"),
            ("devices.allow", "c *:* m"),
            ("devices.allow", "b *:* m"),
            ("devices.allow", "c 1:3 rwm"),
            ("devices.allow", "c 1:5 rwm"),
            ("devices.allow", "c 1:7 rwm"),
            ("devices.allow", "c 1:8 rwm"),
            ("devices.allow", "c 1:9 rwm"),
            ("devices.allow", "c 5:0 rwm"),
            ("devices.allow", "c 5:2 rwm"),
            ("devices.allow", "c 136:* rwm"),
        ],
        _ => &[],
    }
}

fn set(file: &Path, value: &str) -> Result<()> {
    let opened = OpenOptions::new().write(true).open(file);
    let mut opened = opened.doing(file.display())?;
    opened.write_all(value.as_bytes()).doing(format!("{} = {value}", file.display()))
}

/// The image's files below a new writable layer, mounted nowhere yet.
pub(super) fn overlay(lower: &Path, layer: &Path) -> Result<OwnedFd> {
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for directory in [layer, &upper, &work] {
        fs::create_dir(directory).doing(directory.display())?;
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing("fsopen")?;
    let set = |key: &str, value: &Path| fsconfig_set_string(context.as_fd(), key, value).doing(key);
    set("lowerdir", lower)?;
    set("upperdir", &upper)?;
    set("workdir", &work)?;
    fsconfig_set_flag(context.as_fd(), "volatile").doing("volatile")?;
    fsconfig_create(context.as_fd()).doing("make the overlay")?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .doing("fsmount")
}
