//! What plugins want of a container that is being created, done to its spec.
//!
//! What our executor cannot do is refused by the name of the field: a plugin that believes to have
//! set something it has not set is worse than one that fails.

mod devices;
mod process;
mod seccomp;
use std::path::{Path, PathBuf};

use cais_proto::nri::v1alpha1::{
    ContainerAdjustment, LinuxContainerAdjustment, LinuxNamespace as NamespaceMessage,
    LinuxResources, Mount as MountMessage,
};
use oci_spec::runtime::{
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, Process,
};

use super::resources;
use crate::engine::spec::{Bundle, field, oom_score};
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::ContainerPid;
use crate::seccomp::Cache;

pub(super) fn apply(
    adjust: ContainerAdjustment,
    bundle: &mut Bundle,
    filters: &Cache,
) -> Result<()> {
    let ContainerAdjustment {
        // Plugins tell each other by them; nothing of ours reads a spec's annotations.
        annotations: _,
        mounts,
        env,
        hooks,
        linux,
        rlimits,
        cdi_devices,
        args,
    } = adjust;
    let has_hooks = hooks.is_some_and(|hooks| hooks != Default::default());
    refuse("hooks", has_hooks)?;
    refuse("CDI_devices", !cdi_devices.is_empty())?;
    adjust_mounts(mounts, bundle)?;
    process::environment(&env, &mut bundle.env)?;
    if !args.is_empty() {
        process::arguments(args, process(bundle)?)?;
    }
    process::rlimits(rlimits, process(bundle)?)?;
    match linux {
        Some(linux) => adjust_linux(linux, bundle, filters),
        None => Ok(()),
    }
}

fn adjust_linux(
    linux: LinuxContainerAdjustment,
    bundle: &mut Bundle,
    filters: &Cache,
) -> Result<()> {
    let LinuxContainerAdjustment {
        devices,
        resources,
        cgroups_path,
        oom_score_adj,
        io_priority,
        seccomp_policy,
        namespaces,
        sysctl,
        net_devices,
        scheduler,
        rdt,
        memory_policy,
    } = linux;
    // The pod's group holds all of its containers, for its limits and its figures.
    refuse("linux.cgroups_path", !cgroups_path.is_empty())?;
    refuse("linux.io_priority", io_priority.is_some())?;
    // Network and IPC settings are the pod's, which runs already.
    refuse("linux.sysctl", !sysctl.is_empty())?;
    refuse("linux.net_devices", !net_devices.is_empty())?;
    refuse("linux.scheduler", scheduler.is_some())?;
    // Nothing of the kind is ever set: removing it is done.
    let asks_rdt = |rdt: &cais_proto::nri::v1alpha1::LinuxRdt| {
        rdt.clos_id.is_some() || rdt.schemata.is_some() || rdt.enable_monitoring.is_some()
    };
    refuse("linux.rdt", rdt.as_ref().is_some_and(asks_rdt))?;
    refuse("linux.memory_policy", memory_policy.is_some())?;
    devices::adjust(devices, bundle)?;
    if let Some(resources) = resources {
        adjust_resources(&resources, bundle)?;
    }
    if let Some(score) = oom_score_adj {
        let score = i32::try_from(score.value).unwrap_or(i32::MAX);
        let score = oom_score(score).context("linux")?;
        process(bundle)?.set_oom_score_adj(Some(score));
    }
    if let Some(policy) = seccomp_policy {
        bundle.filter = Some(seccomp::filter(&policy, process(bundle)?, filters)?);
    }
    adjust_namespaces(&namespaces, bundle)
}

fn refuse(field: &str, is_asked: bool) -> Result<()> {
    if is_asked {
        return Err(Error::new(Kind::Unsupported, format!("{field}: not supported")));
    }
    Ok(())
}

fn process(bundle: &mut Bundle) -> Result<&mut Process> {
    bundle.spec.process_mut().as_mut().context("the spec has no process")
}

/// The name of what is to be removed.
fn removed(key: &str) -> Option<&str> {
    key.strip_prefix('-')
}

fn adjust_mounts(asked: Vec<MountMessage>, bundle: &mut Bundle) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let mut mounts = bundle.spec.mounts().clone().unwrap_or_default();
    for mount in asked {
        let destination = removed(&mount.destination).unwrap_or(&mount.destination).to_owned();
        let path = field::path("mounts.destination", Path::new(&destination))?;
        mounts.retain(|known| known.destination() != Path::new(&path));
        if removed(&mount.destination).is_none() {
            mounts.push(new_mount(&path, mount)?);
        }
    }
    // Parents before children.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    bundle.spec.set_mounts(Some(mounts));
    Ok(())
}

fn new_mount(destination: &str, asked: MountMessage) -> Result<Mount> {
    let MountMessage { destination: _, r#type, source, options } = asked;
    let is_bind = r#type == "bind" || options.iter().any(|it| it == "bind" || it == "rbind");
    if is_bind {
        field::path(&format!("mounts: source of {destination}"), Path::new(&source))?;
    }
    MountBuilder::default()
        .destination(PathBuf::from(destination))
        .typ(if r#type.is_empty() && is_bind { "bind".to_owned() } else { r#type })
        .source(PathBuf::from(source))
        .options(options)
        .build()
        .with_context(|| format!("mount at {destination}"))
}

fn adjust_resources(asked: &LinuxResources, bundle: &mut Bundle) -> Result<()> {
    for rule in &asked.devices {
        let rule = devices::rule(rule)?;
        // Without rules everything is allowed already.
        if let Some(rules) = &mut bundle.devices {
            rules.extend(rule);
        }
    }
    resources::lay(asked, &mut bundle.resources)
}

/// The namespaces of a container that are its own business are those of processes and cgroups; all
/// others it shares with its pod.
fn adjust_namespaces(asked: &[NamespaceMessage], bundle: &mut Bundle) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let linux = bundle.spec.linux_mut().as_mut().context("the spec has no linux part")?;
    let mut all: Vec<LinuxNamespace> = linux.namespaces().clone().unwrap_or_default();
    for NamespaceMessage { r#type, path } in asked {
        let name = removed(r#type).unwrap_or(r#type);
        let kind = match LinuxNamespaceType::try_from(name) {
            Ok(kind @ (LinuxNamespaceType::Pid | LinuxNamespaceType::Cgroup)) => kind,
            Ok(_) | Err(_) => {
                let text = format!("linux.namespaces: {} cannot be changed", field::shown(name));
                return Err(Error::new(Kind::Unsupported, text));
            }
        };
        refuse(&format!("linux.namespaces: joining one ({path})"), !path.is_empty())?;
        all.retain(|known| known.typ() != kind);
        let is_own = removed(r#type).is_none();
        if is_own {
            let own = LinuxNamespaceBuilder::default().typ(kind).build();
            all.push(own.context("namespace")?);
        }
        if kind == LinuxNamespaceType::Pid {
            bundle.pid = if is_own { ContainerPid::Own } else { ContainerPid::Host };
        }
    }
    linux.set_namespaces(Some(all));
    Ok(())
}
