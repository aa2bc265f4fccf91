//! The mounts of a spec: file systems to make, and binds to open on the host.

use oci_spec::runtime::{LinuxIdMapping, Mount as SpecMount, Spec};

use super::bind::{BindRequest, ReadOnly};
use super::bytes_of;
use super::volume::VolumeRequest;
use crate::engine::spec::{IMAGE, POD_SHM, VOLUME};
use crate::error::{Context, Error, Result};
use crate::executor::plan::{
    Fd, IdMapping, Mount, MountAttributes, MountSource, Propagation, TargetKind, UserNamespace,
};

/// File systems that a container may have of its own.
const KINDS: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];

/// A spec's options, sorted by what they are for.
#[derive(Debug, Default)]
struct Options {
    attributes: MountAttributes,
    read_only: ReadOnly,
    is_bind: bool,
    is_recursive: bool,
    propagation: Option<Propagation>,
    /// For the file system itself: `size=64k`.
    rest: Vec<(String, Option<String>)>,
}

/// The mounts in their order, and what the places of some are to be filled with.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) list: Vec<Mount>,
    pub(super) binds: Vec<BindRequest>,
    pub(super) volumes: Vec<VolumeRequest>,
}

/// The number and the kind are known when the source is open.
const OPEN_PLACE: MountSource =
    MountSource::Attach { mount: Fd(u32::MAX), kind: TargetKind::Directory };

pub(super) fn read(spec: &Spec, hierarchies: &[String]) -> Result<Mounts> {
    let Mounts { list: mut mounts, mut binds, mut volumes } = Mounts::default();
    for mount in spec.mounts().iter().flatten() {
        let target = bytes_of(mount.destination());
        let named = || format!("mount at {}", mount.destination().display());
        let options = options(mount).with_context(named)?;
        let kind = mount.typ().as_deref().unwrap_or("none");
        let source = match kind {
            _ if options.is_bind || kind == "bind" => {
                binds.push(BindRequest {
                    place: mounts.len(),
                    source: mount.source().clone().with_context(named)?,
                    is_recursive: options.is_recursive,
                    read_only: options.read_only,
                    attributes: options.attributes,
                    propagation: options.propagation.unwrap_or(Propagation::Private),
                    owners: owners(mount),
                });
                OPEN_PLACE
            }
            IMAGE | VOLUME => {
                volumes.push(VolumeRequest {
                    place: mounts.len(),
                    target: mount.destination().clone(),
                    attributes: options.attributes,
                });
                OPEN_PLACE
            }
            POD_SHM => MountSource::PodShm,
            "cgroup" | "cgroup2" => MountSource::Cgroup {
                hierarchies: hierarchies.to_vec(),
                read_only: options.attributes.read_only,
            },
            kind if KINDS.contains(&kind) => MountSource::New {
                fstype: kind.to_owned(),
                options: options.rest,
                attributes: options.attributes,
            },
            other => {
                return Err(Error::invalid(format!("{}: unknown type {other:?}", named())));
            }
        };
        mounts.push(Mount { target, source });
    }
    Ok(Mounts { list: mounts, binds, volumes })
}

/// How the mount shows the owners of its files, when not as they are.
fn owners(mount: &SpecMount) -> Option<UserNamespace> {
    let of = |mappings: &Option<Vec<LinuxIdMapping>>| {
        let mapping = |mapping: &LinuxIdMapping| IdMapping {
            container: mapping.container_id(),
            host: mapping.host_id(),
            length: mapping.size(),
        };
        mappings.iter().flatten().map(mapping).collect::<Vec<_>>()
    };
    let owners = UserNamespace { uids: of(mount.uid_mappings()), gids: of(mount.gid_mappings()) };
    (!owners.uids.is_empty() || !owners.gids.is_empty()).then_some(owners)
}

fn options(mount: &SpecMount) -> Result<Options> {
    let mut options = Options::default();
    for text in mount.options().iter().flatten() {
        let attributes = &mut options.attributes;
        match text.as_str() {
            "ro" => (attributes.read_only, options.read_only) = (true, ReadOnly::This),
            "rw" => (attributes.read_only, options.read_only) = (false, ReadOnly::No),
            "rro" => (attributes.read_only, options.read_only) = (true, ReadOnly::Recursive),
            "nosuid" => attributes.no_suid = true,
            "suid" => attributes.no_suid = false,
            "nodev" => attributes.no_dev = true,
            "dev" => attributes.no_dev = false,
            "noexec" => attributes.no_exec = true,
            "exec" => attributes.no_exec = false,
            "noatime" => attributes.no_atime = true,
            "relatime" => attributes.rel_atime = true,
            "strictatime" => attributes.strict_atime = true,
            "bind" => options.is_bind = true,
            "rbind" => (options.is_bind, options.is_recursive) = (true, true),
            "private" | "rprivate" => options.propagation = Some(Propagation::Private),
            "slave" | "rslave" => options.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => options.propagation = Some(Propagation::Shared),
            // Every devpts is a new instance since Linux 4.7.
            "newinstance" | "defaults" => {}
            other => options.rest.push(match other.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (other.to_owned(), None),
            }),
        }
    }
    if options.is_bind
        && let Some((key, _)) = options.rest.first()
    {
        return Err(Error::invalid(format!("unknown option {key:?}")));
    }
    Ok(options)
}
