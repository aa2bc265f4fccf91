//! Device nodes, and which of them the cgroup lets through.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};

use super::{Draft, Input, field};
use crate::cgroup::{DeviceAccess, DeviceRule, DeviceType};
use crate::engine::cdi::DeviceNode;
use crate::error::{Context, Error, Result};

/// Nodes that every container has: path, major, minor.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// Usable without a node of ours: the multiplexer and the terminals of the container's own devpts.
const TERMINALS: [(u32, Option<u32>); 2] = [(5, Some(2)), (136, None)];

/// Every node may be made, though not opened. The container's own init makes the listed ones under these rules, also those
/// that are given without `m`.
const MAKING: DeviceAccess = DeviceAccess { read: false, write: false, mknod: true };

/// Below a directory of devices, these are no devices of the host's to pass on.
const SKIPPED: [&str; 10] =
    ["console", "fd", "mqueue", "ptmx", "pts", "shm", ".lxc", ".lxd-mounts", ".udev", "initctl"];
const DEPTH_MAX: u32 = 8;
const NODES_MAX: usize = 4096;

/// A node found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: DeviceType,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut rules = [DeviceType::Character, DeviceType::Block]
        .map(|device| DeviceRule { device, major: None, minor: None, access: MAKING })
        .to_vec();
    // Nodes of the host's keep their owners, who may be nobody to a container with users of its
    // own: power inside must not open them.
    let (uid, gid) = input.pod.root_on_host();
    for (path, major, minor) in DEFAULTS {
        let kind = DeviceType::Character;
        nodes.insert(path.to_owned(), Node { kind, major, minor, mode: 0o666, uid, gid });
        rules.push(character(major, Some(minor)));
    }
    rules.extend(TERMINALS.map(|(major, minor)| character(major, minor)));
    rules.extend(&input.config.device_rules);
    if input.config.security.privileged {
        for (path, node) in below("devices", Path::new("/dev"), "/dev")? {
            nodes.entry(path).or_insert(node);
        }
    }
    for (index, request) in input.config.devices.iter().enumerate() {
        let named = format!("devices[{index}]");
        let host = field::path(&format!("{named}.host_path"), &request.host_path)?;
        let target = if request.container_path.as_os_str().is_empty() {
            host.clone()
        } else {
            field::path(&format!("{named}.container_path"), &request.container_path)?
        };
        let permissions = if request.permissions.is_empty() { "rwm" } else { &request.permissions };
        let access = DeviceAccess::parse(&format!("{named}.permissions"), permissions)?;
        for (path, node) in below(&format!("{named}.host_path"), Path::new(&host), &target)? {
            let Node { kind: device, major, minor, .. } = node;
            rules.push(DeviceRule { device, major: Some(major), minor: Some(minor), access });
            nodes.insert(path, node);
        }
    }
    let mut fifos = Vec::new();
    for wanted in &input.cdi.device_nodes {
        let path = field::path("CDI deviceNodes: path", Path::new(&wanted.path))?;
        let owner = Owner::of(wanted, draft);
        if wanted.kind == "p" {
            fifos.push(fifo(&path, wanted, &owner)?);
            continue;
        }
        let node = described(wanted, &owner)?;
        if wanted.permissions != "none" {
            let permissions =
                if wanted.permissions.is_empty() { "rwm" } else { &wanted.permissions };
            let access = DeviceAccess::parse("CDI deviceNodes: permissions", permissions)?;
            let Node { kind: device, major, minor, .. } = node;
            rules.push(DeviceRule { device, major: Some(major), minor: Some(minor), access });
        }
        nodes.insert(path, node);
    }
    let devices: Result<Vec<LinuxDevice>> =
        nodes.iter().map(|(path, node)| device(path, node)).collect();
    let mut devices = devices?;
    devices.extend(fifos);
    draft.linux.set_devices(Some(devices));
    draft.devices = (!input.config.security.privileged).then_some(rules);
    Ok(())
}

/// Whose a node is that a CDI device brings: as described, else the process's.
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    fn of(wanted: &DeviceNode, draft: &Draft) -> Self {
        let user = draft.process.user();
        let uid = wanted.uid.unwrap_or(user.uid());
        Self { uid, gid: wanted.gid.unwrap_or(user.gid()) }
    }
}

/// What the description leaves out is as with the node on the host.
fn described(wanted: &DeviceNode, owner: &Owner) -> Result<Node> {
    let host = if wanted.host_path.is_empty() { &wanted.path } else { &wanted.host_path };
    let found = std::fs::metadata(host).ok().as_ref().and_then(node);
    let kind = match (wanted.kind.as_str(), &found) {
        ("b", _) => DeviceType::Block,
        ("c" | "u", _) => DeviceType::Character,
        (_, Some(found)) => found.kind,
        (_, None) => return Err(Error::invalid(format!("CDI deviceNodes: no device at {host}"))),
    };
    let (major, minor) = match &found {
        _ if wanted.major != 0 && !wanted.kind.is_empty() => (wanted.major, wanted.minor),
        Some(found) if found.kind == kind => (found.major, found.minor),
        Some(_) | None => {
            return Err(Error::invalid(format!("CDI deviceNodes: no such device at {host}")));
        }
    };
    let mode = wanted.file_mode.or(found.map(|found| found.mode)).unwrap_or(0o666);
    Ok(Node { kind, major, minor, mode, uid: owner.uid, gid: owner.gid })
}

fn fifo(path: &str, wanted: &DeviceNode, owner: &Owner) -> Result<LinuxDevice> {
    LinuxDeviceBuilder::default()
        .path(PathBuf::from(path))
        .typ(LinuxDeviceType::P)
        .major(0)
        .minor(0)
        .file_mode(wanted.file_mode.unwrap_or(0o666))
        .uid(owner.uid)
        .gid(owner.gid)
        .build()
        .with_context(|| format!("device {path}"))
}

fn character(major: u32, minor: Option<u32>) -> DeviceRule {
    let (device, access) = (DeviceType::Character, DeviceAccess::ALL);
    DeviceRule { device, major: Some(major), minor, access }
}

fn device(path: &str, node: &Node) -> Result<LinuxDevice> {
    let typ = match node.kind {
        DeviceType::Block => LinuxDeviceType::B,
        DeviceType::Character => LinuxDeviceType::C,
    };
    LinuxDeviceBuilder::default()
        .path(PathBuf::from(path))
        .typ(typ)
        .major(i64::from(node.major))
        .minor(i64::from(node.minor))
        .file_mode(node.mode)
        .uid(node.uid)
        .gid(node.gid)
        .build()
        .with_context(|| format!("device {path}"))
}

/// The node at `host`, or every node below that directory, with paths below `target`.
fn below(field: &str, host: &Path, target: &str) -> Result<Vec<(String, Node)>> {
    // The request may name a symbolic link, as in /dev/disk/by-id.
    let found = std::fs::metadata(host).map_err(|error| {
        Error::invalid(format!("{field}: {}: {error}", field::shown(&host.to_string_lossy())))
    })?;
    if let Some(node) = node(&found) {
        return Ok(vec![(target.to_owned(), node)]);
    }
    if !found.is_dir() {
        let shown = field::shown(&host.to_string_lossy());
        return Err(Error::invalid(format!("{field}: {shown} is not a device node")));
    }
    let mut all = Vec::new();
    let mut waiting = vec![(host.to_owned(), target.to_owned(), 0)];
    while let Some((host, target, depth)) = waiting.pop() {
        // A directory or node that goes while we look is not there.
        for entry in std::fs::read_dir(&host).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Symbolic links are not followed here: what they mean is in the list already.
            let Ok(found) = entry.metadata() else { continue };
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{}/{name}", target.trim_end_matches('/'));
            if found.is_dir() && depth < DEPTH_MAX {
                waiting.push((entry.path(), path, depth + 1));
            } else if let Some(node) = node(&found) {
                all.push((path, node));
            }
        }
        if all.len() > NODES_MAX {
            return Err(Error::invalid(format!("{field}: more than {NODES_MAX} device nodes")));
        }
    }
    Ok(all)
}

fn node(found: &std::fs::Metadata) -> Option<Node> {
    let kind = match found.file_type() {
        kind if kind.is_char_device() => DeviceType::Character,
        kind if kind.is_block_device() => DeviceType::Block,
        _ => return None,
    };
    Some(Node {
        kind,
        major: rustix::fs::major(found.rdev()),
        minor: rustix::fs::minor(found.rdev()),
        mode: found.mode() & 0o777,
        uid: found.uid(),
        gid: found.gid(),
    })
}
