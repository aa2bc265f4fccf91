//! What a child could only find out half way is checked before it is forked.

use serde_bytes::ByteBuf;

use super::Fds;
use super::failure::{About, Fault};
use super::plan::{ContainerPlan, Fd, MountSource, Process};

/// Filter flags a plan may set: SYNC, LOG, SPEC_ALLOW. A listener would need a receiver.
const FILTER_FLAGS: u32 = 1 | 2 | 4;

pub(super) fn container(plan: &ContainerPlan, fds: &Fds) -> Result<(), Fault> {
    process(&plan.process)?;
    let mut named: Vec<Fd> = vec![plan.rootfs];
    named.extend(plan.stdio.log);
    named.extend(plan.cgroup.unified);
    named.extend(plan.cgroup.oom_counter);
    named.extend(plan.cgroup.oom_event);
    named.extend(&plan.cgroup.legacy);
    for mount in &plan.mounts {
        absolute(&mount.target).about("mount target")?;
        match &mount.source {
            MountSource::Attach { mount, .. } => named.push(*mount),
            MountSource::AttachPart { mount, path, .. } => {
                no_nul(path).about("part of a mount")?;
                named.push(*mount);
            }
            MountSource::New { .. } | MountSource::Cgroup { .. } | MountSource::PodShm => {}
        }
    }
    for fd in named {
        fds.get(fd)?;
    }
    for device in &plan.devices {
        absolute(&device.path).about("device")?;
    }
    for (path, target) in &plan.links {
        absolute(path).about("link")?;
        no_nul(target).about("link")?;
    }
    for path in plan.masked_paths.iter().chain(&plan.readonly_paths) {
        absolute(path).about("hidden path")?;
    }
    Ok(())
}

pub(super) fn process(process: &Process) -> Result<(), Fault> {
    if process.args.first().is_none_or(|name| name.is_empty()) {
        return Err(Fault::invalid("no command"));
    }
    for string in process.args.iter().chain(&process.env) {
        no_nul(string).about("argument or environment")?;
    }
    absolute(&process.cwd).about("working directory")?;
    if process.user.uid == u32::MAX || process.user.gid == u32::MAX {
        return Err(Fault::invalid("the user or group number means `unchanged` to the kernel"));
    }
    match &process.seccomp {
        Some(seccomp) if seccomp.flags & !FILTER_FLAGS != 0 => {
            Err(Fault::invalid(format!("seccomp flags {:#x} are not supported", seccomp.flags)))
        }
        Some(_) | None => Ok(()),
    }
}

fn absolute(path: &ByteBuf) -> Result<(), Fault> {
    no_nul(path)?;
    if path.first() != Some(&b'/') {
        let shown = String::from_utf8_lossy(path);
        return Err(Fault::invalid(format!("{shown:?} is not an absolute path")));
    }
    Ok(())
}

fn no_nul(string: &ByteBuf) -> Result<(), Fault> {
    if string.contains(&0) {
        return Err(Fault::invalid(format!("{:?} has a NUL", String::from_utf8_lossy(string))));
    }
    Ok(())
}
