//! What the pod itself is: its namespaces, name and kernel settings.

use super::{Host, field};
use crate::engine::pod::config::{Config, NamespaceMode};
use crate::error::{Error, Result};
use crate::executor::plan::{Fd, Namespace, PodPid, PodPlan};

/// Of `/dev/shm`, as every engine gives it.
const SHM_SIZE: u64 = 64 << 20;
/// What `sethostname` takes.
const HOSTNAME_MAX: usize = 64;

/// What is another pod's, as descriptors that go along with the plan.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Joined {
    pub(crate) network: Option<Fd>,
    pub(crate) ipc: Option<Fd>,
    /// A detached mount.
    pub(crate) shm: Option<Fd>,
    /// A pidfd.
    pub(crate) pid: Option<Fd>,
}

/// The plan a monitor gets first. Its first descriptor is the directory for exit records; `joined`
/// names the others.
pub(crate) fn pod_plan(config: &Config, host: &Host, joined: Joined) -> Result<PodPlan> {
    check(config)?;
    let own = |mode: &NamespaceMode| match mode {
        NamespaceMode::Node => Namespace::Host,
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => Namespace::New,
    };
    let join_or = |joined: Option<Fd>, mode| joined.map_or(own(mode), Namespace::Join);
    let network = join_or(joined.network, &config.namespaces.network);
    let ipc = join_or(joined.ipc, &config.namespaces.ipc);
    // It has its own name, though the addresses may be another pod's.
    let uts = if has_host_name(config) { Namespace::Host } else { Namespace::New };
    let has_shm = ipc == Namespace::New && config.has_shm();
    let shm_size = config.standalone.as_ref().and_then(|own| own.shm_size);
    let pid = match (joined.pid, &config.namespaces.pid) {
        (Some(process), _) => PodPid::Joined(process),
        (None, NamespaceMode::Pod) => PodPid::Shared,
        (None, NamespaceMode::Container | NamespaceMode::Node | NamespaceMode::Target(_)) => {
            PodPid::PerContainer
        }
    };
    Ok(PodPlan {
        network,
        ipc,
        uts,
        pid,
        user: config.user_namespace.clone(),
        hostname: (uts == Namespace::New).then(|| hostname(config, host)),
        domainname: (uts == Namespace::New && !config.domainname().is_empty())
            .then(|| config.domainname().to_owned()),
        sysctls: config.sysctls.iter().map(|(key, value)| (dotted(key), value.clone())).collect(),
        shm_size: has_shm.then_some(shm_size.unwrap_or(SHM_SIZE)),
        shm: joined.shm,
        exits: Fd(0),
    })
}

/// A pod of the host's network is known to it by the host's name.
pub(super) fn has_host_name(config: &Config) -> bool {
    config.namespaces.network == NamespaceMode::Node
        || config.sharing().is_some_and(|sharing| sharing.host_uts)
}

/// The name that the pod's containers see.
pub(crate) fn hostname(config: &Config, host: &Host) -> String {
    let own = !has_host_name(config) && !config.hostname.is_empty();
    if own { config.hostname.clone() } else { host.hostname.clone() }
}

fn check(config: &Config) -> Result<()> {
    let namespaces = &config.namespaces;
    for (name, mode) in [("network", &namespaces.network), ("ipc", &namespaces.ipc)] {
        if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
            return Err(Error::invalid(format!("namespace_options.{name}: must be POD or NODE")));
        }
    }
    if let NamespaceMode::Target(_) = namespaces.pid {
        return Err(Error::invalid("namespace_options.pid: TARGET is for containers"));
    }
    if config.user_namespace.is_some() {
        // They belong to the host: a container with users of its own could mount neither.
        for (name, mode) in [("pid", &namespaces.pid), ("ipc", &namespaces.ipc)] {
            if *mode == NamespaceMode::Node {
                return Err(Error::invalid(format!(
                    "namespace_options.{name}: NODE cannot be had in a user namespace"
                )));
            }
        }
    }
    if config.run_as_group.is_some() && config.run_as_user.is_none() {
        return Err(Error::invalid("run_as_group: given without run_as_user"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    for (what, name) in [("hostname", &*config.hostname), ("domainname", config.domainname())] {
        if name.len() > HOSTNAME_MAX || !name.bytes().all(plain) {
            return Err(Error::invalid(format!(
                "{what}: {} is not a host name of at most {HOSTNAME_MAX} letters, digits, - and .",
                field::shown(name)
            )));
        }
    }
    config.sysctls.iter().try_for_each(|(key, value)| sysctl(config, key, value))
}

/// Both `net/ipv4/x` and `net.ipv4.x` are in use.
fn dotted(key: &str) -> String {
    key.replace('/', ".")
}

/// Only settings that belong to a namespace of the pod's own: any other would change the host.
fn sysctl(config: &Config, key: &str, value: &str) -> Result<()> {
    let shown = field::shown(key);
    let refuse = |why: &str| Err(Error::invalid(format!("sysctls: {shown} {why}")));
    let dotted = dotted(key);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let well_formed = key.len() <= 255
        && dotted.split('.').count() > 1
        && dotted.split('.').all(|part| !part.is_empty() && part.bytes().all(plain));
    if !well_formed {
        return refuse("is not the name of a kernel setting");
    }
    if value.len() > 4096 || value.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return refuse("has a value with control characters");
    }
    let is_node = |mode: &NamespaceMode| *mode == NamespaceMode::Node;
    if dotted.starts_with("net.") {
        if is_node(&config.namespaces.network) {
            return refuse("is not allowed with the host's network namespace");
        }
        return Ok(());
    }
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if dotted == "kernel.sem" || ipc.iter().any(|prefix| dotted.starts_with(prefix)) {
        if is_node(&config.namespaces.ipc) {
            return refuse("is not allowed with the host's IPC namespace");
        }
        return Ok(());
    }
    refuse("is not a setting of a namespace")
}
