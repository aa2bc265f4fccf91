//! A pod's directory under the state directory.
//!
//! ```text
//! pods/<id>/  monitor.sock  exits/<container>  hosts  hostname  resolv.conf
//! ```
//!
//! The last three are bound into every container of the pod.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::config::NamespaceMode;
use super::record::Record;
use crate::engine::spec::PodFiles;
use crate::error::{Context, Result};
use crate::net::dns_files::{self, Dns, HostAlias};
use crate::store::atomic::{Directory, Durability};

pub(super) fn make_directory(path: &Path) -> Result<()> {
    for directory in [path, &path.join("exits")] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("make {}", directory.display()))?;
    }
    Ok(())
}

/// Succeeds on what is gone.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The socket of a monitor that is gone answers nobody; best effort, the directory goes later.
pub(super) fn remove_socket(directory: &Path) {
    let _ = std::fs::remove_file(directory.join("monitor.sock"));
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    File::open(path).map(Into::into).with_context(|| format!("open {}", path.display()))
}

/// Renders hosts, hostname and resolv.conf, for every user of a container to read. With another
/// pod's network, the names are those in its directory `joined`.
pub(super) fn write(
    path: &Path,
    record: &Record,
    hostname: &str,
    joined: Option<&Path>,
) -> Result<()> {
    let config = &record.config;
    let directory = Directory::open(path, Durability::UntilReboot)?;
    if let Some(joined) = joined {
        for name in ["hosts", "hostname", "resolv.conf"] {
            let file = joined.join(name);
            let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            directory.publish(name, &text, config.root_on_host())?;
        }
        return Ok(());
    }
    let aliases: Vec<HostAlias> = config
        .standalone
        .iter()
        .flat_map(|own| &own.hosts)
        .map(|(address, name)| HostAlias { address: *address, names: vec![name.clone()] })
        .collect();
    let is_hosts = config.namespaces.network == NamespaceMode::Node;
    let hosts = match is_hosts {
        false => {
            let addresses = record.attachments().flat_map(|attachment| &attachment.addresses);
            let addresses: Vec<_> = addresses.map(|it| it.addr()).collect();
            dns_files::hosts(hostname, &addresses, &aliases)?
        }
        // With the host's network its own names hold.
        true => host_file("/etc/hosts") + &dns_files::alias_lines(&aliases)?,
    };
    // Root of the pod may change them, as in any container.
    let owner = config.root_on_host();
    directory.publish("hosts", hosts.as_bytes(), owner)?;
    directory.publish("hostname", dns_files::hostname(hostname)?.as_bytes(), owner)?;
    let resolv_conf = match (&config.dns, &record.attachment) {
        (Some(dns), _) => dns_files::resolv_conf(dns)?,
        (None, Some(attachment)) if !attachment.name_servers.is_empty() => {
            dns_files::resolv_conf(&Dns {
                servers: attachment.name_servers.clone(),
                searches: attachment.name_searches.clone(),
                options: attachment.name_options.clone(),
            })?
        }
        (None, Some(_)) => dns_files::copy_of_host(&host_file("/etc/resolv.conf")),
        (None, None) if !is_hosts => dns_files::copy_of_host(&host_file("/etc/resolv.conf")),
        (None, None) => host_file("/etc/resolv.conf"),
    };
    directory.publish("resolv.conf", resolv_conf.as_bytes(), owner)
}

/// Brings the pod's own lines in its hosts file up to its addresses. In place: containers have this
/// very file, and may have written into it.
pub(in crate::engine) fn rewrite_hosts(directory: &Path, record: &Record) -> Result<()> {
    let path = directory.join("hosts");
    let describe = || format!("rewrite {}", path.display());
    let hostname = &record.config.hostname;
    let addresses = record.attachments().flat_map(|attachment| &attachment.addresses);
    let addresses: Vec<_> = addresses.map(|it| it.addr()).collect();
    let old = std::fs::read_to_string(&path).with_context(describe)?;
    let new = dns_files::with_addresses(&old, hostname, &addresses);
    let mut file = File::options().write(true).truncate(true).open(&path).with_context(describe)?;
    file.write_all(new.as_bytes()).with_context(describe)
}

/// The files that are bound into every container of the pod.
pub(crate) fn for_containers(directory: &Path) -> PodFiles {
    PodFiles {
        hosts: directory.join("hosts"),
        resolv_conf: directory.join("resolv.conf"),
        hostname: directory.join("hostname"),
    }
}

/// A host without the file has nothing to say.
fn host_file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
