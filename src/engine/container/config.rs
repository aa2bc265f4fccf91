//! What a container is asked to be: the one meaning behind CRI's ContainerConfig and Docker's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::{DeviceRule, Resources};
use crate::engine::pod::config::{AppArmorProfile, Namespaces, SeccompProfile, SelinuxLabel};
use crate::executor::plan::{IdMapping, UserNamespace};
use crate::id::ContainerId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) attempt: u32,
    /// What the client asks for: an image id or a reference.
    pub(crate) image: String,
    /// What the user wrote, kept for status and events; may be empty.
    pub(crate) user_specified_image: String,
    /// Replaces the image's ENTRYPOINT (and drops its CMD) when not empty.
    pub(crate) command: Vec<String>,
    /// Replaces the image's CMD when not empty.
    pub(crate) args: Vec<String>,
    /// Empty: the image's.
    pub(crate) working_dir: String,
    /// Appended over the image's; values need not be UTF-8.
    pub(crate) env: Vec<(String, Vec<u8>)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) devices: Vec<Device>,
    /// What may be opened and made beside them.
    #[serde(default)]
    pub(crate) device_rules: Vec<DeviceRule>,
    pub(crate) cdi_devices: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Relative to the pod's log directory; `None`: no log.
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    /// Signal number; `None`: the image's, or SIGTERM.
    pub(crate) stop_signal: Option<i32>,
    pub(crate) resources: Resources,
    pub(crate) oom_score_adj: i32,
    pub(crate) rlimits: Vec<RlimitRequest>,
    pub(crate) security: Security,
    /// Set for a run of a standalone container: its id. The writable layer outlives the run.
    #[serde(default)]
    pub(crate) standalone: Option<ContainerId>,
}

impl Config {
    /// Names of the volumes that are mounted in it.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume(volume) => Some(volume.name.as_str()),
            MountSource::Host(_) | MountSource::Image { .. } | MountSource::Tmpfs => None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RlimitRequest {
    /// `nofile`, `RLIMIT_NOFILE`: as the client writes it.
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) container_path: PathBuf,
    pub(crate) source: MountSource,
    pub(crate) readonly: bool,
    pub(crate) recursive_readonly: bool,
    pub(crate) propagation: MountPropagation,
    pub(crate) selinux_relabel: bool,
    pub(crate) uid_mappings: Vec<IdMapping>,
    pub(crate) gid_mappings: Vec<IdMapping>,
    /// Extra options such as `noexec`, `nosuid`, `nodev`; for a tmpfs also `size=64m`.
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountSource {
    /// Absolute path on the host.
    Host(PathBuf),
    /// The files of an image, read-only.
    Image {
        /// An image id or a reference.
        image: String,
        /// What the user wrote; may be empty.
        #[serde(default)]
        user_specified_image: String,
        /// Relative to the image's root, which it is when empty.
        sub_path: String,
    },
    /// An empty file system in memory.
    Tmpfs,
    /// A volume of the engine's. CRI has none.
    Volume(VolumeRequest),
}

/// A volume, which is made if it is not there yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRequest {
    /// Empty: a new one, of a name that nobody chose.
    pub(crate) name: String,
    /// Relative to the volume's root, which it is when empty.
    pub(crate) sub_path: String,
    /// An empty volume stays empty, whatever the image has there.
    pub(crate) is_not_filled: bool,
    /// For a volume that is made.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountPropagation {
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) container_path: PathBuf,
    /// A node, or a directory of which every node below is meant.
    pub(crate) host_path: PathBuf,
    /// Of `r`, `w`, `m`.
    pub(crate) permissions: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Security {
    /// Names without `CAP_`; `ALL` is special.
    pub(crate) add_capabilities: Vec<String>,
    pub(crate) drop_capabilities: Vec<String>,
    pub(crate) add_ambient_capabilities: Vec<String>,
    pub(crate) privileged: bool,
    pub(crate) namespaces: Namespaces,
    pub(crate) user_namespace: Option<UserNamespace>,
    pub(crate) user: UserRequest,
    pub(crate) run_as_group: Option<u32>,
    pub(crate) supplemental_groups: Vec<u32>,
    /// More of them, looked up in the image's own /etc/group.
    #[serde(default)]
    pub(crate) supplemental_group_names: Vec<String>,
    pub(crate) groups_policy: GroupsPolicy,
    pub(crate) readonly_rootfs: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) seccomp: SeccompProfile,
    pub(crate) apparmor: Option<AppArmorProfile>,
    pub(crate) selinux: Option<SelinuxLabel>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UserRequest {
    /// The image's USER, or root.
    Image,
    Uid(u32),
    /// Looked up in the image's own /etc/passwd.
    Name(String),
    /// Docker's `USER[:GROUP]`, names or numbers.
    Spec(String),
}

/// CRI's SupplementalGroupsPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupsPolicy {
    /// Groups of the user in the image's /etc/group, and those asked for.
    Merge,
    /// Only those asked for.
    Strict,
}
