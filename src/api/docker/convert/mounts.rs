//! What of the host a container is to see, and file systems of its own.

use std::path::{Path, PathBuf};

use super::create::unsupported;
use crate::api::docker::wire::container::{HostConfig, MountRequest};
use crate::engine::container::config::{Mount, MountPropagation, MountSource};
use crate::error::{Error, Result};

pub(crate) fn all(host: &HostConfig) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    for text in host.binds.iter().flatten() {
        all.push(bind(text)?);
    }
    for mount in host.mounts.iter().flatten() {
        all.push(of_request(mount)?);
    }
    for (path, options) in host.tmpfs.iter().flatten() {
        all.push(tmpfs(path, options.split(',').filter(|option| !option.is_empty()))?);
    }
    let twice = all.iter().enumerate().find(|(index, mount)| {
        all.iter().skip(index + 1).any(|other| other.container_path == mount.container_path)
    });
    match twice {
        Some((_, mount)) => {
            let path = mount.container_path.display();
            Err(Error::invalid(format!("Duplicate mount point: {path}")))
        }
        None => Ok(all),
    }
}

fn plain(source: MountSource, target: &str) -> Result<Mount> {
    if !target.starts_with('/') || target == "/" {
        return Err(Error::invalid(format!(
            "invalid mount config: invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    Ok(Mount {
        container_path: PathBuf::from(target),
        source,
        readonly: false,
        recursive_readonly: false,
        propagation: MountPropagation::Private,
        selinux_relabel: false,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
        options: Vec::new(),
    })
}

/// `/on/host:/inside[:ro,rslave]`. A directory that is missing is made.
fn bind(text: &str) -> Result<Mount> {
    let refuse = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let (source, target, options) = (
        parts.next().unwrap_or_default(),
        parts.next().ok_or_else(refuse)?,
        parts.next().unwrap_or_default(),
    );
    if parts.next().is_some() || source.is_empty() {
        return Err(refuse());
    }
    if !source.starts_with('/') {
        return unsupported("a named volume");
    }
    let mut mount = plain(MountSource::Host(PathBuf::from(source)), target)?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.readonly = true,
            // Of other systems, or of volumes.
            "rw" | "z" | "Z" | "nocopy" | "cached" | "delegated" | "consistent" => {}
            other => mount.propagation = propagation(other)?,
        }
    }
    Ok(mount)
}

fn propagation(text: &str) -> Result<MountPropagation> {
    match text {
        "" | "rprivate" | "private" => Ok(MountPropagation::Private),
        "rslave" | "slave" => Ok(MountPropagation::HostToContainer),
        "rshared" | "shared" => Ok(MountPropagation::Bidirectional),
        other => Err(Error::invalid(format!("invalid mode: {other}"))),
    }
}

fn of_request(request: &MountRequest) -> Result<Mount> {
    match request.kind.as_str() {
        "bind" => {
            let source = Path::new(&request.source);
            let options = request.bind_options.clone().unwrap_or_default();
            if !source.is_absolute() {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": invalid mount path: '{}' mount path \
                     must be absolute",
                    request.source
                )));
            }
            if !options.create_mountpoint && std::fs::symlink_metadata(source).is_err() {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    request.source
                )));
            }
            let mut mount = plain(MountSource::Host(source.to_owned()), &request.target)?;
            mount.readonly = request.read_only;
            mount.propagation = propagation(&options.propagation)?;
            Ok(mount)
        }
        "tmpfs" => {
            let options = request.tmpfs_options.clone().unwrap_or_default();
            let mut all = Vec::new();
            if options.size_bytes > 0 {
                all.push(format!("size={}", options.size_bytes));
            }
            if options.mode > 0 {
                all.push(format!("mode={:o}", options.mode));
            }
            if request.read_only {
                all.push("ro".to_owned());
            }
            tmpfs(&request.target, all.iter().map(String::as_str))
        }
        "" => Err(Error::invalid("invalid mount config: mount type unknown: \"\"")),
        other => unsupported(format!("a mount of the type {other:?}")),
    }
}

fn tmpfs<'a>(target: &str, options: impl Iterator<Item = &'a str>) -> Result<Mount> {
    let mut mount = plain(MountSource::Tmpfs, target)?;
    mount.options = options.map(str::to_owned).collect();
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_has_a_source_a_target_and_options() {
        let mount = bind("/a:/b:ro,rslave").unwrap();
        assert_eq!(mount.source, MountSource::Host("/a".into()));
        assert_eq!(mount.container_path, Path::new("/b"));
        assert!(mount.readonly);
        assert_eq!(mount.propagation, MountPropagation::HostToContainer);
        for text in ["", "/a", ":/b", "/a:b", "/a:/", "/a:/b:odd", "/a:/b:ro:rw"] {
            assert!(bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_can_be_mounted_once() {
        let binds = |binds: &[&str]| HostConfig {
            binds: Some(binds.iter().map(|it| (*it).to_owned()).collect()),
            ..HostConfig::default()
        };
        assert_eq!(all(&binds(&["/a:/x", "/b:/y"])).unwrap().len(), 2);
        let error = all(&binds(&["/a:/x", "/b:/x"])).unwrap_err();
        assert_eq!(error.chain(), "Duplicate mount point: /x");
    }
}
