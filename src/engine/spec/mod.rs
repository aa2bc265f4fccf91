//! What a container is to be: from the pod's and the container's configuration and the image's own
//! to an OCI runtime spec.
//!
//! Policy is decided here and nowhere below: the executor obeys. Each concern is a file with one
//! function that reads the [`Input`] and writes into the [`Draft`]; [`APPLIERS`] is their order. What
//! the request gets wrong is refused here, by the name of the field.
//!
//! Beside the spec a [`Bundle`] carries what OCI has no words for: an environment of bytes, a
//! compiled filter, the namespace of another container. [`crate::engine::plan`] makes the
//! executor's plan of both.

mod capabilities;
mod cwd;
mod devices;
mod env;
pub(in crate::engine) mod field;
mod host;
mod lsm;
mod mounts;
mod namespaces;
mod paths;
mod pod;
mod privileges;
mod process;
mod resources;
pub(in crate::engine) mod rlimits;
mod seccomp;
#[cfg(test)]
mod tests;
mod user;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use oci_spec::runtime::{Linux, Mount, Process, Root, Spec};

pub(crate) use capabilities::from_oci as capability_mask;
#[cfg(test)]
use capabilities::set as capability_set;
pub(crate) use host::Host;
pub(crate) use lsm::load_default_profile;
pub(crate) use mounts::{IMAGE, POD_SHM, VOLUME};
pub(crate) use pod::{Joined, hostname, pod_plan};
pub(in crate::engine) use privileges::oom_score;
pub(in crate::engine) use user::user_in;

use crate::cgroup::{DeviceRule, Resources};
use crate::engine::cdi::Edits;
use crate::engine::container::config::Config;
use crate::engine::pod::config::Config as PodConfig;
use crate::error::{Context, Result};
use crate::executor::plan::{ContainerPid, Seccomp};
use crate::image::config::ImageConfig;
use crate::seccomp::Cache;

/// All that a spec is made from.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) pod: &'a PodConfig,
    pub(crate) config: &'a Config,
    pub(crate) image: &'a ImageConfig,
    /// The container's root, mounted but not attached: users are looked up in it.
    pub(crate) rootfs: BorrowedFd<'a>,
    pub(crate) files: &'a PodFiles,
    pub(crate) host: &'a Host,
    pub(crate) filters: &'a Cache,
    /// What the devices that the request names by CDI change.
    pub(crate) cdi: &'a Edits,
}

/// Files on the host that all containers of a pod see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodFiles {
    pub(crate) hosts: PathBuf,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) hostname: PathBuf,
}

/// A spec, and beside it what has no place in one.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    pub(crate) spec: Spec,
    /// `NAME=value`; the spec's own has the values that are UTF-8.
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) pid: ContainerPid,
    pub(crate) resources: Resources,
    /// `None`: every device.
    pub(crate) devices: Option<Vec<DeviceRule>>,
    pub(crate) filter: Option<Seccomp>,
}

/// A spec in the making.
struct Draft {
    process: Process,
    linux: Linux,
    mounts: Vec<Mount>,
    env: Vec<Vec<u8>>,
    /// The home directory of the user, when the image knows one.
    home: Option<Vec<u8>>,
    pid: ContainerPid,
    resources: Resources,
    devices: Option<Vec<DeviceRule>>,
    capabilities: u64,
    filter: Option<Seccomp>,
}

type Applier = fn(&Input<'_>, &mut Draft) -> Result<()>;

const APPLIERS: &[(&str, Applier)] = &[
    ("process", process::apply),
    ("working directory", cwd::apply),
    ("user", user::apply),
    // After the user, who has a home.
    ("environment", env::apply),
    ("privileges", privileges::apply),
    ("capabilities", capabilities::apply),
    ("resource limits", rlimits::apply),
    ("namespaces", namespaces::apply),
    ("mounts", mounts::apply),
    ("devices", devices::apply),
    ("resources", resources::apply),
    // After the capabilities, which decide what the default profile allows.
    ("seccomp", seccomp::apply),
    ("security labels", lsm::apply),
    ("masked paths", paths::apply),
];

/// A spec without any of the crate's defaults: what stands in it, stands in it on purpose.
const BLANK: &str = r#"{"ociVersion":"1.3.0","process":{"user":{},"cwd":"/"},"linux":{}}"#;

/// Makes the spec, or says which field of the request cannot be served.
pub(crate) fn build(input: &Input<'_>) -> Result<Bundle> {
    let mut spec: Spec = serde_json::from_str(BLANK).context("blank spec")?;
    let mut draft = Draft {
        process: spec.process().clone().context("blank process")?,
        linux: spec.linux().clone().context("blank linux")?,
        mounts: Vec::new(),
        env: Vec::new(),
        home: None,
        pid: ContainerPid::Own,
        resources: Resources::default(),
        devices: None,
        capabilities: 0,
        filter: None,
    };
    for (_, apply) in APPLIERS {
        apply(input, &mut draft)?;
    }
    let mut root = Root::default();
    root.set_path(PathBuf::from("/")).set_readonly(Some(input.config.security.readonly_rootfs));
    let Draft { process, linux, mounts, env, pid, resources, devices, filter, .. } = draft;
    spec.set_process(Some(process));
    spec.set_linux(Some(linux));
    spec.set_mounts(Some(mounts));
    spec.set_root(Some(root));
    spec.set_hostname(Some(hostname(input.pod, input.host)));
    Ok(Bundle { spec, env, pid, resources, devices, filter })
}
