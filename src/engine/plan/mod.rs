//! From an OCI spec to the executor's plan, and to the host's part of it.
//!
//! ```text
//!   spec::Bundle ── draft ──▶ Draft { ContainerPlan, BindRequests } ── complete ──▶ plan, descriptors
//!                   (pure)                                      (opens on the host)
//! ```
//!
//! A plan names descriptors by number: 0 is the root, then come the binds in the order of the
//! mounts, then cgroups and log. Nothing here decides anything: a spec that cannot be expressed is
//! refused.

mod bind;
mod mounts;
mod process;
#[cfg(test)]
mod tests;
mod volume;

use std::os::fd::OwnedFd;

use oci_spec::runtime::{LinuxDeviceType, LinuxNamespaceType, Spec};
use serde_bytes::ByteBuf;

use bind::BindRequest;
use mounts::Mounts;
pub(crate) use process::{exec, resource_type};
pub(crate) use volume::Volume;
use volume::VolumeRequest;

use crate::cgroup::Join;
use crate::engine::spec::Bundle;
use crate::error::{Context, Error, Result};
use crate::executor::plan::{
    CgroupJoin, ContainerPlan, Device, DeviceKind, Fd, LogFormat, Propagation, Stdin, Stdio,
    UserNamespace,
};

/// A plan that still lacks its descriptors.
#[derive(Debug)]
pub(crate) struct Draft {
    plan: ContainerPlan,
    binds: Vec<BindRequest>,
    volumes: Vec<VolumeRequest>,
}

/// What the daemon has at hand when it completes a plan.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The container's root, a detached mount.
    pub(crate) rootfs: OwnedFd,
    /// One for each of [`Draft::owners`].
    pub(crate) owners: Vec<(UserNamespace, OwnedFd)>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) cgroup: Join,
    pub(crate) log: Option<OwnedFd>,
}

/// How standard input behaves, and the v1 hierarchies to show (empty on pure v2).
#[derive(Debug, Clone)]
pub(crate) struct Choices {
    pub(crate) stdin: Stdin,
    pub(crate) hierarchies: Vec<String>,
}

/// Symbolic links that every `/dev` has.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Reads a bundle into a plan without touching the host.
pub(crate) fn draft(bundle: &Bundle, choices: &Choices) -> Result<Draft> {
    let spec = &bundle.spec;
    let linux = spec.linux().as_ref().context("the spec has no linux part")?;
    let root = spec.root().as_ref().context("the spec has no root")?;
    let Mounts { list: mounts, binds, volumes } = mounts::read(spec, &choices.hierarchies)?;
    let paths = |list: &Option<Vec<String>>| {
        list.iter().flatten().map(|path| ByteBuf::from(path.as_bytes())).collect()
    };
    let rootfs_propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("" | "private" | "rprivate") => Propagation::Private,
        Some("slave" | "rslave") => Propagation::Slave,
        Some("shared" | "rshared") => Propagation::Shared,
        Some(other) => {
            return Err(Error::invalid(format!("rootfsPropagation: {other:?} is not known")));
        }
    };
    let plan = ContainerPlan {
        process: process::read(spec, bundle)?,
        rootfs: Fd(0),
        readonly_rootfs: root.readonly().unwrap_or(false),
        mounts,
        devices: devices(spec)?,
        links: LINKS.map(|(path, target)| (bytes(path), bytes(target))).to_vec(),
        masked_paths: paths(linux.masked_paths()),
        readonly_paths: paths(linux.readonly_paths()),
        pid: bundle.pid.clone(),
        cgroup_namespace: linux
            .namespaces()
            .iter()
            .flatten()
            .any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup),
        cgroup: CgroupJoin::default(),
        stdio: Stdio { stdin: choices.stdin, log: None, log_format: LogFormat::Cri },
        rootfs_propagation,
    };
    Ok(Draft { plan, binds, volumes })
}

impl Draft {
    /// The user namespaces that the binds need, each once.
    pub(crate) fn owners(&self) -> Vec<UserNamespace> {
        let mut all: Vec<UserNamespace> = Vec::new();
        for owners in self.binds.iter().filter_map(|bind| bind.owners.as_ref()) {
            if !all.contains(owners) {
                all.push(owners.clone());
            }
        }
        all
    }

    /// Opens the binds on the host and puts all descriptors in their places.
    pub(crate) fn complete(self, parts: Parts) -> Result<(ContainerPlan, Vec<OwnedFd>)> {
        let Self { mut plan, binds, volumes } = self;
        let Parts { rootfs, owners, volumes: mut opened, cgroup, log } = parts;
        let mut list = Descriptors(vec![rootfs]);
        for bind in &binds {
            let (mount, kind) = bind.open(&owners)?;
            let fd = list.push(mount)?;
            bind.place(&mut plan.mounts, fd, kind)?;
        }
        for volume in volumes {
            volume.complete(&mut plan.mounts, &mut opened, |tree| list.push(tree))?;
        }
        let Join { unified, legacy, oom_counter, oom_event } = cgroup;
        plan.cgroup = CgroupJoin {
            unified: unified.map(|fd| list.push(fd)).transpose()?,
            legacy: legacy.into_iter().map(|fd| list.push(fd)).collect::<Result<_>>()?,
            oom_counter: oom_counter.map(|fd| list.push(fd)).transpose()?,
            oom_event: oom_event.map(|fd| list.push(fd)).transpose()?,
        };
        plan.stdio.log = log.map(|fd| list.push(fd)).transpose()?;
        Ok((plan, list.0))
    }
}

struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    fn push(&mut self, fd: OwnedFd) -> Result<Fd> {
        let number = u32::try_from(self.0.len()).context("count descriptors")?;
        self.0.push(fd);
        Ok(Fd(number))
    }
}

fn devices(spec: &Spec) -> Result<Vec<Device>> {
    let list = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    list.into_iter()
        .flatten()
        .map(|device| {
            let path = device.path();
            let kind = match device.typ() {
                LinuxDeviceType::B => DeviceKind::Block,
                LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
                LinuxDeviceType::P => DeviceKind::Fifo,
                LinuxDeviceType::A => {
                    let text = format!("device {}: has no single type", path.display());
                    return Err(Error::invalid(text));
                }
            };
            let number = |value: i64| {
                u32::try_from(value).with_context(|| format!("device {}", path.display()))
            };
            Ok(Device {
                path: bytes_of(path),
                kind,
                major: number(device.major())?,
                minor: number(device.minor())?,
                mode: device.file_mode().unwrap_or(0o666) & 0o7777,
                uid: device.uid().unwrap_or(0),
                gid: device.gid().unwrap_or(0),
            })
        })
        .collect()
}

fn bytes(text: &str) -> ByteBuf {
    ByteBuf::from(text.as_bytes())
}

fn bytes_of(path: &std::path::Path) -> ByteBuf {
    use std::os::unix::ffi::OsStrExt;

    ByteBuf::from(path.as_os_str().as_bytes())
}
