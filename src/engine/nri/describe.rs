//! Pods and containers, as plugins are told of them.
//!
//! What a container is made of (its mounts, environment, devices) is known whole while it is being
//! created, and kept in a file beside its record if plugins were there to adjust it. Of one that was
//! made without plugins, a later one is told what the record and the template for execs say: all but
//! the mounts and devices that every container has.

use cais_proto::nri::v1alpha1::{
    Container, ContainerState, Image as ImageMessage, LinuxContainer, LinuxDevice, LinuxNamespace,
    LinuxPodSandbox, Mount, OptionalFileMode, OptionalInt, OptionalUInt32, PodSandbox, PosixRlimit,
    SecurityProfile, User, security_profile::ProfileType,
};
use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitType, Spec};
use prost::Message;

use super::resources;
use crate::engine::Shared;
use crate::engine::container::Container as Known;
use crate::engine::container::config::{Config, MountSource};
use crate::engine::container::phase::Phase;
use crate::engine::container::record::Record;
use crate::engine::plan;
use crate::engine::pod::config::SeccompProfile;
use crate::engine::pod::record::Record as PodRecord;
use crate::engine::spec::Bundle;
use crate::executor::plan as executor;
use crate::id::{ContainerId, PodId};
use crate::image::Image;

pub(super) fn pod(record: &PodRecord) -> PodSandbox {
    let config = &record.config;
    let limits = record.limits();
    let resources = |resources: Option<&_>| resources.map(resources::to_message);
    let addresses = record.attachment.iter().flat_map(|attachment| &attachment.addresses);
    PodSandbox {
        id: record.id.to_string(),
        name: config.name.clone(),
        uid: config.uid.clone(),
        namespace: config.namespace.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: config.runtime_handler.clone(),
        linux: Some(LinuxPodSandbox {
            pod_overhead: resources(limits.overhead.as_ref()),
            pod_resources: resources(limits.resources.as_ref()),
            cgroup_parent: config.cgroup_parent.clone(),
            cgroups_path: record.cgroup.path.clone(),
            namespaces: record.monitor_pid.map(pod_namespaces).unwrap_or_default(),
            resources: resources(limits.resources.as_ref()),
        }),
        pid: pid(record.monitor_pid),
        ips: addresses.map(|address| address.addr().to_string()).collect(),
    }
}

/// Those that the pod's containers share are the monitor's.
fn pod_namespaces(monitor: i32) -> Vec<LinuxNamespace> {
    [("network", "net"), ("ipc", "ipc"), ("uts", "uts")]
        .map(|(kind, file)| LinuxNamespace {
            r#type: kind.to_owned(),
            path: format!("/proc/{monitor}/ns/{file}"),
        })
        .to_vec()
}

fn pid(pid: Option<i32>) -> u32 {
    pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

/// A container that is being created.
pub(super) struct Draft<'a> {
    pub(super) id: &'a ContainerId,
    pub(super) pod: &'a PodId,
    pub(super) config: &'a Config,
    pub(super) image: &'a Image,
    pub(super) bundle: &'a Bundle,
    pub(super) cgroup: &'a str,
}

pub(super) fn draft(draft: &Draft<'_>) -> Container {
    let Draft { id, pod, config, image, bundle, cgroup } = *draft;
    let spec = &bundle.spec;
    let process = spec.process().as_ref();
    let limits = process.and_then(|process| process.rlimits().as_ref());
    let limit = |limit: &oci_spec::runtime::PosixRlimit| PosixRlimit {
        r#type: limit.typ().to_string(),
        hard: limit.hard(),
        soft: limit.soft(),
    };
    let digest = image.digests.first().map_or("", String::as_str);
    Container {
        args: process.and_then(|it| it.args().clone()).unwrap_or_default(),
        env: text(&bundle.env),
        mounts: spec.mounts().iter().flatten().map(mount).collect(),
        rlimits: limits.into_iter().flatten().map(limit).collect(),
        user: process.map(|process| User {
            uid: process.user().uid(),
            gid: process.user().gid(),
            additional_gids: process.user().additional_gids().clone().unwrap_or_default(),
        }),
        linux: Some(LinuxContainer {
            namespaces: namespaces(spec),
            devices: devices(spec),
            resources: Some(resources::to_message(&bundle.resources)),
            oom_score_adj: process
                .and_then(oci_spec::runtime::Process::oom_score_adj)
                .map(|score| OptionalInt { value: score.into() }),
            cgroups_path: cgroup.to_owned(),
            seccomp_profile: Some(seccomp(&config.security.seccomp)),
            ..LinuxContainer::default()
        }),
        ..identity(id, pod, config, image_message(config, digest, &image.id.to_string()))
    }
}

fn identity(id: &ContainerId, pod: &PodId, config: &Config, image: ImageMessage) -> Container {
    Container {
        id: id.to_string(),
        pod_sandbox_id: pod.to_string(),
        name: config.name.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        image: Some(image),
        ..Container::default()
    }
}

fn image_message(config: &Config, reference: &str, id: &str) -> ImageMessage {
    let asked = [&config.user_specified_image, &config.image];
    ImageMessage {
        name: asked.into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_default(),
        digest: reference.split_once('@').map(|(_, digest)| digest.to_owned()).unwrap_or_default(),
        config_digest: id.to_owned(),
    }
}

/// A container that exists, in the state that its record tells.
pub(super) fn container(shared: &Shared, container: &Known) -> Container {
    let record = container.record();
    let kept = shared.description(&record.id);
    let kept = kept.and_then(|bytes| Container::decode(&*bytes).ok());
    let mut told = kept.unwrap_or_else(|| from_record(shared, container, &record));
    let linux = told.linux.get_or_insert_default();
    let applied = resources::to_message(&record.resources);
    crate::nri::lay(&applied, linux.resources.get_or_insert_default());
    linux.cgroups_path.clone_from(&record.cgroup.path);
    told.created_at = record.created_at;
    match &record.phase {
        Phase::Created { .. } => told.set_state(ContainerState::ContainerCreated),
        Phase::Running { started_at, .. } => {
            told.set_state(ContainerState::ContainerRunning);
            told.started_at = *started_at;
        }
        Phase::Exited(end) => {
            told.set_state(ContainerState::ContainerStopped);
            told.started_at = end.started_at.unwrap_or(0);
            told.finished_at = end.finished_at;
            told.exit_code = end.code;
            end.reason.as_str().clone_into(&mut told.status_reason);
            told.status_message.clone_from(&end.message);
        }
    }
    told.pid = pid(record.phase.pid());
    told
}

fn from_record(shared: &Shared, container: &Known, record: &Record) -> Container {
    let config = &record.config;
    let image = image_message(config, &record.image_ref, &record.image_id);
    let mut told = Container {
        mounts: config.mounts.iter().map(requested_mount).collect(),
        user: Some(User {
            uid: record.user.uid,
            gid: record.user.gid,
            additional_gids: record.user.groups.clone(),
        }),
        linux: Some(LinuxContainer {
            oom_score_adj: Some(OptionalInt { value: config.oom_score_adj.into() }),
            seccomp_profile: Some(seccomp(&config.security.seccomp)),
            ..LinuxContainer::default()
        }),
        ..identity(&record.id, &record.pod, config, image)
    };
    match crate::engine::container::exec::template(shared, container) {
        Ok(process) => {
            told.args = text(&process.args);
            told.env = text(&process.env);
            told.rlimits = process.rlimits.iter().filter_map(rlimit).collect();
        }
        Err(error) => {
            tracing::warn!(container = %record.id, error = error.chain(), "tell plugins of it");
        }
    }
    told
}

/// Words that are not UTF-8 have no place in the interface.
fn text(lines: &[impl AsRef<[u8]>]) -> Vec<String> {
    lines.iter().filter_map(|line| String::from_utf8(line.as_ref().to_vec()).ok()).collect()
}

fn rlimit(limit: &executor::Rlimit) -> Option<PosixRlimit> {
    let name: PosixRlimitType = plan::resource_type(limit.resource)?;
    Some(PosixRlimit { r#type: name.to_string(), hard: limit.hard, soft: limit.soft })
}

fn mount(mount: &oci_spec::runtime::Mount) -> Mount {
    Mount {
        destination: mount.destination().display().to_string(),
        r#type: mount.typ().clone().unwrap_or_default(),
        source: mount.source().as_ref().map(|it| it.display().to_string()).unwrap_or_default(),
        options: mount.options().clone().unwrap_or_default(),
    }
}

fn requested_mount(mount: &crate::engine::container::config::Mount) -> Mount {
    let source = match &mount.source {
        MountSource::Host(path) => path.display().to_string(),
        MountSource::Image { image, .. } => image.clone(),
        MountSource::Volume(volume) => volume.name.clone(),
        MountSource::Tmpfs => "tmpfs".to_owned(),
    };
    let access = if mount.readonly { "ro" } else { "rw" };
    Mount {
        destination: mount.container_path.display().to_string(),
        r#type: "bind".to_owned(),
        source,
        options: vec!["rbind".to_owned(), access.to_owned()],
    }
}

fn namespaces(spec: &Spec) -> Vec<LinuxNamespace> {
    let all = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let namespace = |namespace: &oci_spec::runtime::LinuxNamespace| LinuxNamespace {
        r#type: namespace_type(namespace.typ()).to_owned(),
        path: namespace.path().as_ref().map(|it| it.display().to_string()).unwrap_or_default(),
    };
    all.into_iter().flatten().map(namespace).collect()
}

/// In the words of the runtime spec, which are not those of `/proc`.
fn namespace_type(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

fn devices(spec: &Spec) -> Vec<LinuxDevice> {
    let all = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    let number = |value: Option<u32>| value.map(|value| OptionalUInt32 { value });
    let device = |device: &oci_spec::runtime::LinuxDevice| LinuxDevice {
        path: device.path().display().to_string(),
        r#type: device.typ().as_str().to_owned(),
        major: device.major(),
        minor: device.minor(),
        file_mode: device.file_mode().map(|value| OptionalFileMode { value }),
        uid: number(device.uid()),
        gid: number(device.gid()),
    };
    all.into_iter().flatten().map(device).collect()
}

fn seccomp(profile: &SeccompProfile) -> SecurityProfile {
    let (kind, path) = match profile {
        SeccompProfile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        SeccompProfile::Unconfined => (ProfileType::Unconfined, String::new()),
        SeccompProfile::Localhost(path) => (ProfileType::Localhost, path.display().to_string()),
        // It has no name to be told by.
        SeccompProfile::Given(_) => (ProfileType::Localhost, String::new()),
    };
    SecurityProfile { profile_type: kind.into(), localhost_ref: path }
}

/// What [`container`] reads back.
pub(super) fn keep(container: &Container) -> Vec<u8> {
    container.encode_to_vec()
}
