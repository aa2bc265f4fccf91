//! What is mounted where: the kernel's file systems, the pod's files, what the request asks for.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::namespaces::id_mappings;
use super::{Draft, Input, field, user};
use crate::engine::cdi;
use crate::engine::container::config::{self, MountPropagation, MountSource};
use crate::engine::pod::config::NamespaceMode;
use crate::error::{Context, Error, Kind, Result};

/// The type of the mount that stands for the pod's own `/dev/shm`.
pub(crate) const POD_SHM: &str = "pod-shm";

/// The type of a mount whose source is an image.
pub(crate) const IMAGE: &str = "image";

/// The type of a mount whose source is a volume of the engine's.
pub(crate) const VOLUME: &str = "volume";

/// What a request may add to a mount.
const ADDED_OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

/// Debian's and everybody's group of terminals.
const TTY_GROUP: u32 = 5;

/// Files below `/proc` that may be mounted over, to show a container its own limits.
const PROC_FILES: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let mut requested = Vec::new();
    for (index, mount) in input.config.mounts.iter().enumerate() {
        let named = format!("mounts[{index}]");
        if input.pod.user_namespace.is_some()
            && mount.propagation == MountPropagation::Bidirectional
        {
            return Err(Error::invalid(format!(
                "{named}.propagation: BIDIRECTIONAL cannot be had in a user namespace, out of \
                 which no mount travels"
            )));
        }
        check_mappings(&named, input, mount)?;
        requested.push(request(&named, mount)?);
    }
    if let Some((index, _)) = requested.iter().enumerate().find(|(index, mount)| {
        requested.iter().skip(index + 1).any(|other| other.destination() == mount.destination())
    }) {
        let path = requested.get(index).map(|mount| mount.destination().display().to_string());
        return Err(Error::invalid(format!(
            "mounts[{index}].container_path: {} is mounted twice",
            path.unwrap_or_default()
        )));
    }
    for described in &input.cdi.mounts {
        let mount = of_device(described)?;
        requested.retain(|other| other.destination() != mount.destination());
        requested.push(mount);
    }
    let overridden = |mount: &Mount| {
        // A request that brings its own /dev or /sys brings what is below it as well.
        requested.iter().any(|own| mount.destination().starts_with(own.destination()))
    };
    let mut all = kernel_mounts(input)?;
    all.extend(pod_files(input)?);
    all.retain(|mount| !overridden(mount));
    // Parents before children, otherwise in the order of the request.
    requested.sort_by_key(|mount| mount.destination().components().count());
    all.extend(requested);
    draft.mounts = all;
    Ok(())
}

fn kernel_mounts(input: &Input<'_>) -> Result<Vec<Mount>> {
    let safe = ["nosuid", "noexec", "nodev"];
    let access = if input.config.security.privileged { "rw" } else { "ro" };
    let with_access = |more: &[&'static str]| [&safe[..], more, &[access]].concat();
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if user::has_group(input.rootfs, TTY_GROUP)? {
        pts.push("gid=5");
    }
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let mut all = vec![
        mount("/proc", "proc", "proc", &safe)?,
        mount("/dev", "tmpfs", "tmpfs", &dev)?,
        mount("/dev/pts", "devpts", "devpts", &pts)?,
        mount("/dev/mqueue", "mqueue", "mqueue", &safe)?,
        mount("/sys", "sysfs", "sysfs", &with_access(&[]))?,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &with_access(&["relatime"]))?,
    ];
    if input.pod.namespaces.ipc == NamespaceMode::Node {
        all.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"])?);
    } else if input.pod.has_shm() {
        all.push(mount("/dev/shm", POD_SHM, "shm", &safe)?);
    }
    Ok(all)
}

fn pod_files(input: &Input<'_>) -> Result<Vec<Mount>> {
    let access = if input.config.security.readonly_rootfs { "ro" } else { "rw" };
    let files = input.files;
    [
        ("/etc/hosts", &files.hosts),
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
    ]
    .into_iter()
    .map(|(target, source)| mount(target, "bind", source, &["bind", "rprivate", access]))
    .collect()
}

fn request(named: &str, request: &config::Mount) -> Result<Mount> {
    let target = field::path(&format!("{named}.container_path"), &request.container_path)?;
    let (kind, source, mut options) = match &request.source {
        MountSource::Host(path) => {
            let source = field::path(&format!("{named}.host_path"), path)?;
            ("bind", source, bind_options(named, request)?)
        }
        // Its layers are shared. Programs in it may run, but gain nothing by who owns them.
        MountSource::Image { image, .. } => (IMAGE, image.clone(), vec!["ro", "nosuid", "nodev"]),
        MountSource::Volume(volume) => {
            (VOLUME, volume.name.clone(), vec![if request.readonly { "ro" } else { "rw" }])
        }
        MountSource::Tmpfs => return tmpfs(named, &target, &request.options),
    };
    check_target(named, &target, &source)?;
    for option in &request.options {
        let known = ADDED_OPTIONS.iter().find(|known| *known == option).ok_or_else(|| {
            let shown = field::shown(option);
            let known = ADDED_OPTIONS.join(", ");
            Error::invalid(format!("{named}.mount_options: {shown} is none of {known}"))
        })?;
        if !options.contains(known) {
            options.push(known);
        }
    }
    let mut mount = mount(&target, kind, source, &options)?;
    // The files of an image have the pod's owners already.
    if kind != IMAGE && !request.uid_mappings.is_empty() {
        mount
            .set_uid_mappings(Some(id_mappings(&request.uid_mappings)?))
            .set_gid_mappings(Some(id_mappings(&request.gid_mappings)?));
    }
    Ok(mount)
}

/// The last option of a kind holds.
fn tmpfs(named: &str, target: &str, asked: &[String]) -> Result<Mount> {
    const FLAGS: [&str; 9] =
        ["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime"];
    const VALUES: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];
    check_target(named, target, "tmpfs")?;
    let mut options = vec!["nosuid", "nodev", "noexec"];
    for option in asked {
        let is_known = FLAGS.contains(&option.as_str())
            || option.split_once('=').is_some_and(|(key, _)| VALUES.contains(&key));
        if !is_known {
            let shown = field::shown(option);
            return Err(Error::invalid(format!("{named}: invalid tmpfs option {shown}")));
        }
        options.push(option);
    }
    mount(target, "tmpfs", "tmpfs", &options)
}

/// An image's files belong to the users of the pod, and so to no others.
fn check_mappings(named: &str, input: &Input<'_>, request: &config::Mount) -> Result<()> {
    let (uids, gids) = (&request.uid_mappings, &request.gid_mappings);
    let is_image = matches!(request.source, MountSource::Image { .. });
    if !is_image || (uids.is_empty() && gids.is_empty()) {
        return Ok(());
    }
    match &input.pod.user_namespace {
        Some(users) if (&users.uids, &users.gids) == (uids, gids) => Ok(()),
        Some(_) | None => Err(Error::invalid(format!(
            "{named}.uidMappings: the files of an image have the pod's own mappings"
        ))),
    }
}

/// None of them says `exec`, `dev` or `suid`: what the source's own mount forbids stays so.
fn bind_options(named: &str, request: &config::Mount) -> Result<Vec<&'static str>> {
    let propagation = match request.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let access = if request.recursive_readonly {
        if !request.readonly {
            return Err(Error::invalid(format!(
                "{named}.recursive_read_only: needs readonly as well"
            )));
        }
        if request.propagation != MountPropagation::Private {
            return Err(Error::invalid(format!(
                "{named}.recursive_read_only: needs private propagation"
            )));
        }
        "rro"
    } else if request.readonly {
        "ro"
    } else {
        "rw"
    };
    Ok(vec!["rbind", propagation, access])
}

/// A mount that a CDI device brings.
fn of_device(described: &cdi::Mount) -> Result<Mount> {
    const NAMED: &str = "CDI mounts";
    let target =
        field::path(&format!("{NAMED}: containerPath"), Path::new(&described.container_path))?;
    let options: Vec<&str> = described.options.iter().map(String::as_str).collect();
    if !matches!(described.kind.as_str(), "" | "none" | "bind") {
        return mount(&target, &described.kind, &described.host_path, &options);
    }
    let source = field::path(&format!("{NAMED}: hostPath"), Path::new(&described.host_path))?;
    check_target(NAMED, &target, &source)?;
    // Nobody makes what a device was to bring.
    std::fs::metadata(&source)
        .with_context(|| format!("{NAMED}: {source}"))
        .kind(Kind::InvalidArgument)?;
    mount(&target, "bind", source, &options)
}

/// Over `/` nothing would be left to see, and a false `/proc` would be asked about the process.
fn check_target(named: &str, target: &str, source: &str) -> Result<()> {
    let proc_of_host = target == "/proc" && source == "/proc";
    let inside_proc = target.starts_with("/proc/") && !PROC_FILES.contains(&target);
    if target == "/" || inside_proc || (target == "/proc" && !proc_of_host) {
        return Err(Error::invalid(format!(
            "{named}.container_path: nothing can be mounted at {}",
            field::shown(target)
        )));
    }
    Ok(())
}

fn mount(target: &str, kind: &str, source: impl AsRef<Path>, options: &[&str]) -> Result<Mount> {
    MountBuilder::default()
        .destination(PathBuf::from(target))
        .typ(kind.to_owned())
        .source(source.as_ref().to_owned())
        .options(options.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
        .build()
        .with_context(|| format!("mount at {target}"))
}
