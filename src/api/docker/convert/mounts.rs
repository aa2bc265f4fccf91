//! What of the host a container is to see, its volumes, and file systems of its own.

use std::path::{Path, PathBuf};

use super::create::unsupported;
use super::volume::check_driver;
use crate::api::docker::wire::container::{HostConfig, MountRequest};
use crate::engine::container::config::{Mount, MountPropagation, MountSource, VolumeRequest};
use crate::error::{Context, Error, Kind, Result};

/// `from` is what the container shares with others, `anonymous` where it wants a volume if nothing
/// else is mounted there: each gives way to what is asked for by name.
pub(crate) fn all(
    host: &HostConfig,
    from: Vec<Mount>,
    anonymous: &[&String],
) -> Result<Vec<Mount>> {
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
    if let Some((_, mount)) = twice {
        let path = mount.container_path.display();
        return Err(Error::invalid(format!("Duplicate mount point: {path}")));
    }
    let anonymous = anonymous.iter().map(|path| {
        let source = MountSource::Volume(VolumeRequest::default());
        // Of an image, and not always written with care.
        plain(source, path.trim_end_matches('/'))
    });
    for mount in from.into_iter().map(Ok).chain(anonymous) {
        let mount = mount?;
        if all.iter().all(|other| other.container_path != mount.container_path) {
            all.push(mount);
        }
    }
    Ok(all)
}

/// What `--volumes-from` shares of another container's mounts; `mode` is `ro`, `rw` or nothing.
pub(crate) fn of_another(mounts: &[Mount], mode: &str) -> Result<Vec<Mount>> {
    let readonly = match mode {
        "" | "rw" | "z" | "Z" => false,
        "ro" => true,
        other => return Err(Error::invalid(format!("invalid mode: {other}"))),
    };
    let is_shared =
        |mount: &&Mount| matches!(mount.source, MountSource::Host(_) | MountSource::Volume(_));
    let shared = mounts.iter().filter(is_shared).cloned();
    Ok(shared.map(|mount| Mount { readonly: mount.readonly || readonly, ..mount }).collect())
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

/// `/on/host:/inside[:ro,rslave]`, `volume:/inside[:ro,nocopy]`, or `/inside` alone for a volume
/// without a name. A directory of the host that is missing is made.
fn bind(text: &str) -> Result<Mount> {
    let refuse = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => {
            return plain(MountSource::Volume(VolumeRequest::default()), target)
                .map_err(|_| refuse());
        }
        ["", ..] => return Err(refuse()),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(refuse()),
    };
    if source.starts_with('/') {
        return bind_of_host(source, target, options);
    }
    let mut volume = VolumeRequest { name: source.to_owned(), ..VolumeRequest::default() };
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "rw" | "z" | "Z" => {}
            "nocopy" => volume.is_not_filled = true,
            other => return Err(Error::invalid(format!("invalid mode: {other}"))),
        }
    }
    Ok(Mount { readonly, ..plain(MountSource::Volume(volume), target)? })
}

fn bind_of_host(source: &str, target: &str, options: &str) -> Result<Mount> {
    let mut mount = plain(MountSource::Host(PathBuf::from(source)), target)?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.readonly = true,
            // Of other systems, or of volumes.
            "rw" | "z" | "Z" | "nocopy" | "cached" | "delegated" | "consistent" => {}
            other => mount.propagation = propagation(other)?,
        }
    }
    mount.recursive_readonly = is_recursive(&mount);
    Ok(mount)
}

/// What is read-only is so with all that is mounted below, unless more may come by propagation.
fn is_recursive(mount: &Mount) -> bool {
    mount.readonly && mount.propagation == MountPropagation::Private
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
            if options.non_recursive {
                return unsupported("bind-recursive=disabled");
            }
            let mut mount = plain(MountSource::Host(source.to_owned()), &request.target)?;
            mount.readonly = request.read_only;
            mount.propagation = propagation(&options.propagation)?;
            mount.recursive_readonly = !options.read_only_non_recursive && is_recursive(&mount);
            if options.read_only_force_recursive && !mount.recursive_readonly {
                return Err(Error::invalid(
                    "mount options conflict: bind-recursive=readonly needs a read-only mount with \
                     private propagation",
                ));
            }
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
        "volume" => of_volume(request),
        "" => Err(Error::invalid("invalid mount config: mount type unknown: \"\"")),
        other => unsupported(format!("a mount of the type {other:?}")),
    }
}

fn of_volume(request: &MountRequest) -> Result<Mount> {
    let options = request.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    // Not 404, which to clients means that the image is missing.
    check_driver(&driver.name).kind(Kind::InvalidArgument)?;
    let sub_path = options.subpath;
    if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
        return Err(Error::invalid(
            "invalid mount config for type \"volume\": subpath must be a relative path within the \
             volume",
        ));
    }
    let volume = VolumeRequest {
        name: request.source.clone(),
        // A part of it is not what the image has there.
        is_not_filled: options.no_copy || !sub_path.is_empty(),
        sub_path,
        labels: options.labels.unwrap_or_default(),
        options: driver.options.unwrap_or_default(),
    };
    let mount = plain(MountSource::Volume(volume), &request.target)?;
    Ok(Mount { readonly: request.read_only, ..mount })
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
        assert!(!mount.recursive_readonly && bind("/a:/b:ro").unwrap().recursive_readonly);
        for text in ["", "a", ":/b", "/a:b", "/a:/", "/a:/b:odd", "/a:/b:ro:rw", "v:/b:rslave"] {
            assert!(bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_source_without_a_slash_is_a_volume() {
        let volume = |text: &str| match bind(text).unwrap() {
            Mount { source: MountSource::Volume(volume), readonly, .. } => (volume, readonly),
            other => panic!("{other:?}"),
        };
        assert_eq!(volume("data:/b:ro").0.name, "data");
        assert!(volume("data:/b:ro").1 && !volume("data:/b").1);
        assert!(volume("data:/b:nocopy").0.is_not_filled && !volume("data:/b").0.is_not_filled);
        assert_eq!(volume("/b").0, VolumeRequest::default());
    }

    #[test]
    fn a_place_can_be_mounted_once() {
        let binds = |binds: &[&str]| HostConfig {
            binds: Some(binds.iter().map(|it| (*it).to_owned()).collect()),
            ..HostConfig::default()
        };
        assert_eq!(all(&binds(&["/a:/x", "/b:/y"]), Vec::new(), &[]).unwrap().len(), 2);
        let error = all(&binds(&["/a:/x", "/b:/x"]), Vec::new(), &[]).unwrap_err();
        assert_eq!(error.chain(), "Duplicate mount point: /x");
        // An image's volume gives way, and so does what is another container's.
        let (x, y) = ("/x/".to_owned(), "/y".to_owned());
        let from = vec![bind("other:/x").unwrap(), bind("other:/z").unwrap()];
        let mounts = all(&binds(&["/a:/x"]), from, &[&x, &y, &y]).unwrap();
        let paths: Vec<_> = mounts.iter().map(|mount| mount.container_path.clone()).collect();
        assert_eq!(paths, ["/x", "/z", "/y"].map(PathBuf::from));
        assert_eq!(mounts[0].source, MountSource::Host("/a".into()));
    }
}
