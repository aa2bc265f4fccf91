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

use super::config::{Config, NamespaceMode};
use super::record::Record;
use crate::dns;
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
            dns_files::hosts(&own_names(hostname, config), &addresses, &aliases)?
        }
        // With the host's network its own names hold.
        true => host_file("/etc/hosts") + &dns_files::alias_lines(&aliases)?,
    };
    // Root of the pod may change them, as in any container.
    let owner = config.root_on_host();
    directory.publish("hosts", hosts.as_bytes(), owner)?;
    directory.publish("hostname", dns_files::hostname(hostname)?.as_bytes(), owner)?;
    directory.publish("resolv.conf", resolv_conf(record)?.as_bytes(), owner)
}

fn resolv_conf(record: &Record) -> Result<String> {
    let config = &record.config;
    let host = || host_file("/etc/resolv.conf");
    if record.asks_names {
        let own = config.dns.clone().unwrap_or_default();
        return dns_files::with_server(dns::ADDRESS.into(), &own, &host());
    }
    match (&config.dns, &record.attachment) {
        // Kubernetes says all of it, Docker's clients say what differs from the host.
        (Some(dns), _) if config.standalone.is_some() => dns_files::over_host(dns, &host()),
        (Some(dns), _) => dns_files::resolv_conf(dns),
        (None, Some(attachment)) if !attachment.name_servers.is_empty() => {
            dns_files::resolv_conf(&Dns {
                servers: attachment.name_servers.clone(),
                searches: attachment.name_searches.clone(),
                options: attachment.name_options.clone(),
            })
        }
        (None, None) if config.namespaces.network == NamespaceMode::Node => Ok(host()),
        (None, Some(_) | None) => Ok(dns_files::copy_of_host(&host())),
    }
}

/// Makes containers that run ask for names. What one of them made of the file itself stays.
pub(super) fn ask_names(directory: &Path, before: &Record, now: &Record) -> Result<()> {
    let path = directory.join("resolv.conf");
    let describe = || format!("rewrite {}", path.display());
    if std::fs::read_to_string(&path).with_context(describe)? != resolv_conf(before)? {
        return Ok(());
    }
    rewrite(&path, &resolv_conf(now)?)
}

/// In place: containers have this very file.
fn rewrite(path: &Path, text: &str) -> Result<()> {
    let describe = || format!("rewrite {}", path.display());
    let mut file = File::options().write(true).truncate(true).open(path).with_context(describe)?;
    file.write_all(text.as_bytes()).with_context(describe)
}

/// Brings the pod's own lines in its hosts file up to its addresses. Containers may have written
/// others.
pub(in crate::engine) fn rewrite_hosts(directory: &Path, record: &Record) -> Result<()> {
    let path = directory.join("hosts");
    let names = own_names(&record.config.hostname, &record.config);
    let addresses = record.attachments().flat_map(|attachment| &attachment.addresses);
    let addresses: Vec<_> = addresses.map(|it| it.addr()).collect();
    let old = std::fs::read_to_string(&path);
    let old = old.with_context(|| format!("read {}", path.display()))?;
    rewrite(&path, &dns_files::with_addresses(&old, &names, &addresses))
}

/// The longer one first, as resolvers expect it (hosts(5)).
fn own_names(hostname: &str, config: &Config) -> Vec<String> {
    let whole = match config.domainname() {
        "" => None,
        domain => Some(format!("{hostname}.{domain}")),
    };
    whole.into_iter().chain([hostname.to_owned()]).collect()
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
