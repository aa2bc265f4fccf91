//! One CDI specification: what a file may say, and what must hold of it.
//!
//! A name that is not known here is refused, as the interface demands: an edit that is not understood
//! cannot be left out. So is a field that the version in the file does not have yet.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::yaml;
use crate::error::{Context, Error, Kind, Result};

/// Released versions, the oldest first.
const VERSIONS: [&str; 8] =
    ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];
/// The longest that is read; those of real vendors have some hundred KiB.
const LARGEST: u64 = 16 << 20;
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    cdi_version: String,
    /// `vendor/class`.
    pub(super) kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// For every container that gets one of the devices.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(super) container_edits: Edits,
}

/// What is changed about a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Edits {
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) device_nodes: Vec<DeviceNode>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) hooks: Vec<Hook>,
    pub(crate) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<IntelRdt>,
    #[serde(rename = "additionalGids")]
    pub(crate) additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct DeviceNode {
    /// In the container.
    pub(crate) path: String,
    /// The same as `path` when empty.
    #[serde(default)]
    pub(crate) host_path: String,
    /// `b`, `c`, `u`, `p`, or empty for that of the host's node.
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    /// 0: the host's node says both.
    #[serde(default)]
    pub(crate) major: u32,
    #[serde(default)]
    pub(crate) minor: u32,
    pub(crate) file_mode: Option<u32>,
    /// Of `rwm`, or `none`; empty is all.
    #[serde(default)]
    pub(crate) permissions: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Mount {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    /// Those of an OCI mount.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default, rename = "args")]
    _args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(rename = "timeout")]
    _timeout: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    _clos_id: String,
    #[serde(rename = "l3CacheSchema")]
    _l3_cache_schema: String,
    #[serde(rename = "memBwSchema")]
    _mem_bw_schema: String,
    schemata: Vec<String>,
    enable_monitoring: bool,
}

impl File {
    /// Reads a `.json` or `.yaml` file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).context("look at it")?.len();
        if length > LARGEST {
            return Err(Error::invalid(format!("{length} bytes, the longest is {LARGEST}")));
        }
        let text = std::fs::read_to_string(path).context("read it")?;
        let value: Value = if path.extension().is_some_and(|extension| extension == "json") {
            serde_json::from_str(&text).kind(Kind::InvalidArgument)?
        } else {
            yaml::parse(&text)?
        };
        Self::parse(value)
    }

    pub(super) fn parse(value: Value) -> Result<Self> {
        let file: Self = serde_json::from_value(value).kind(Kind::InvalidArgument)?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        self.check_version()?;
        let kind = self.kind.split_once('/');
        if !kind.is_some_and(|(vendor, class)| is_label(vendor) && is_label(class)) {
            return Err(Error::invalid(format!(
                "kind: {:?} is not of the form vendor/class",
                self.kind
            )));
        }
        let mut seen = HashSet::new();
        for device in &self.devices {
            let name = &device.name;
            if !is_device_name(name) {
                return Err(Error::invalid(format!("devices: {name:?} is not a device's name")));
            }
            if !seen.insert(name) {
                return Err(Error::invalid(format!("devices: {name:?} is there twice")));
            }
            if device.container_edits == Edits::default() {
                return Err(Error::invalid(format!("device {name}: edits nothing")));
            }
            device.container_edits.check().with_context(|| format!("device {name}"))?;
        }
        self.container_edits.check()
    }

    fn check_version(&self) -> Result<()> {
        let said = self.cdi_version.strip_prefix('v').unwrap_or(&self.cdi_version);
        let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
        let Some(said) = place(said) else {
            let known = VERSIONS.join(", ");
            return Err(Error::invalid(format!(
                "cdiVersion: {:?} is none of {known}",
                self.cdi_version
            )));
        };
        let (needed, what) = self.needs();
        if place(needed).is_some_and(|needed| needed > said) {
            return Err(Error::invalid(format!(
                "cdiVersion: {} does not have {what}, which came with {needed}",
                self.cdi_version
            )));
        }
        Ok(())
    }

    /// The version that the newest field in use came with, and that field.
    fn needs(&self) -> (&'static str, &'static str) {
        let all = || {
            let own = std::iter::once(&self.container_edits);
            own.chain(self.devices.iter().map(|device| &device.container_edits))
        };
        let rdt = |edits: &Edits, newest: bool| {
            edits
                .intel_rdt
                .as_ref()
                .is_some_and(|rdt| !newest || !rdt.schemata.is_empty() || rdt.enable_monitoring)
        };
        let has_annotations = || self.devices.iter().any(|device| !device.annotations.is_empty());
        let class = self.kind.split_once('/').map_or("", |(_, class)| class);
        if all().any(|edits| !edits.net_devices.is_empty()) {
            ("1.1.0", "netDevices")
        } else if all().any(|edits| rdt(edits, true)) {
            ("1.1.0", "intelRdt.schemata and intelRdt.enableMonitoring")
        } else if all().any(|edits| rdt(edits, false)) {
            ("0.7.0", "intelRdt")
        } else if all().any(|edits| !edits.additional_gids.is_empty()) {
            ("0.7.0", "additionalGids")
        } else if !self.annotations.is_empty() || has_annotations() {
            ("0.6.0", "annotations")
        } else if class.contains('.') {
            ("0.6.0", "dots in the class")
        } else if self.devices.iter().any(|it| it.name.starts_with(|c: char| c.is_ascii_digit())) {
            ("0.5.0", "names that begin with a digit")
        } else if all().flat_map(|edits| &edits.device_nodes).any(|it| !it.host_path.is_empty()) {
            ("0.5.0", "deviceNodes.hostPath")
        } else if all().flat_map(|edits| &edits.mounts).any(|mount| !mount.kind.is_empty()) {
            ("0.4.0", "mounts.type")
        } else {
            ("0.3.0", "")
        }
    }
}

impl Edits {
    fn check(&self) -> Result<()> {
        let hook_env = self.hooks.iter().flat_map(|hook| &hook.env);
        for variable in self.env.iter().chain(hook_env) {
            let name = variable.split_once('=').map_or("", |(name, _)| name);
            if name.is_empty() || variable.contains('\0') {
                return Err(Error::invalid(format!("env: {variable:?} is not NAME=value")));
            }
        }
        for node in &self.device_nodes {
            if !node.path.starts_with('/') {
                return Err(Error::invalid(format!("deviceNodes: {:?} is no path", node.path)));
            }
            if !["", "b", "c", "u", "p"].contains(&node.kind.as_str()) {
                return Err(Error::invalid(format!("{}: type {:?}", node.path, node.kind)));
            }
            let letters = node.permissions.chars().all(|letter| "rwm".contains(letter));
            if !letters && node.permissions != "none" {
                let permissions = &node.permissions;
                return Err(Error::invalid(format!("{}: permissions {permissions:?}", node.path)));
            }
        }
        for mount in &self.mounts {
            if mount.host_path.is_empty() || !mount.container_path.starts_with('/') {
                return Err(Error::invalid("mounts: hostPath and containerPath must be paths"));
            }
        }
        for hook in &self.hooks {
            if !HOOKS.contains(&hook.hook_name.as_str()) || !hook.path.starts_with('/') {
                let (name, path) = (&hook.hook_name, &hook.path);
                return Err(Error::invalid(format!("hooks: no hook {name:?} of {path:?}")));
            }
        }
        for device in &self.net_devices {
            if device.host_interface_name.is_empty() || device.name.is_empty() {
                return Err(Error::invalid("netDevices: an interface without a name"));
            }
        }
        Ok(())
    }

    pub(super) fn append(&mut self, other: &Self) {
        let Self { env, device_nodes, net_devices, hooks, mounts, intel_rdt, additional_gids } =
            other.clone();
        self.env.extend(env);
        self.device_nodes.extend(device_nodes);
        self.net_devices.extend(net_devices);
        self.hooks.extend(hooks);
        self.mounts.extend(mounts);
        self.intel_rdt = intel_rdt.or(self.intel_rdt.take());
        self.additional_gids.extend(additional_gids);
    }
}

/// A vendor or a class.
fn is_label(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && is_name(text, "_-.")
}

fn is_device_name(text: &str) -> bool {
    is_name(text, "_-.:")
}

/// Letters and digits at both ends, between them also `marks`.
fn is_name(text: &str, marks: &str) -> bool {
    let is_edge = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric());
    is_edge(text.chars().next())
        && is_edge(text.chars().last())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || marks.contains(char))
}

/// A device's whole name: `vendor/class=name`.
pub(super) fn is_qualified(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, name)| {
        let labels = kind.split_once('/');
        labels.is_some_and(|(vendor, class)| is_label(vendor) && is_label(class))
            && is_device_name(name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(version: &str, kind: &str, name: &str, edits: &Value) -> Value {
        json!({ "cdiVersion": version, "kind": kind,
                "devices": [{ "name": name, "containerEdits": edits }] })
    }

    fn refused(value: Value) -> String {
        let error = File::parse(value).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        error.chain()
    }

    #[test]
    fn a_field_needs_the_version_that_it_came_with() {
        let env = || json!({ "env": ["A=b"] });
        let mount =
            json!({ "mounts": [{ "hostPath": "/a", "containerPath": "/b", "type": "bind" }] });
        let node = json!({ "deviceNodes": [{ "path": "/dev/a", "hostPath": "/dev/b" }] });
        let cases = [
            ("0.3.0", "0.4.0", "v.com/c", "a", mount),
            ("0.4.0", "0.5.0", "v.com/c", "a", node),
            ("0.4.0", "0.5.0", "v.com/c", "0", env()),
            ("0.5.0", "0.6.0", "v.com/c.d", "a", env()),
            ("0.6.0", "0.7.0", "v.com/c", "a", json!({ "additionalGids": [5] })),
            ("0.6.0", "0.7.0", "v.com/c", "a", json!({ "intelRdt": { "closID": "x" } })),
            ("1.0.0", "1.1.0", "v.com/c", "a", json!({ "intelRdt": { "schemata": ["x"] } })),
            (
                "1.0.0",
                "1.1.0",
                "v.com/c",
                "a",
                json!({ "netDevices": [{ "hostInterfaceName": "eth1", "name": "eth1" }] }),
            ),
        ];
        for (old, new, kind, name, edits) in cases {
            let error = refused(with(old, kind, name, &edits));
            assert!(error.starts_with("cdiVersion: ") && error.ends_with(new), "{error}");
            File::parse(with(new, kind, name, &edits)).unwrap();
        }
        for version in ["", "0.2.0", "0.9.0", "1", "2.0.0"] {
            assert!(refused(with(version, "v.com/c", "a", &env())).starts_with("cdiVersion"));
        }
        File::parse(with("v0.3.0", "v.com/c", "a", &env())).unwrap();
    }

    #[test]
    fn what_a_file_must_not_say_is_refused() {
        let edits = |edits: Value| with("1.1.0", "v.com/c", "a", &edits);
        let node = |field: &str, value: Value| {
            let mut node = json!({ "path": "/dev/a" });
            node[field] = value;
            edits(json!({ "deviceNodes": [node] }))
        };
        let env = json!({ "env": ["A=b"] });
        let mut twice = edits(env.clone());
        let first = twice["devices"][0].clone();
        twice["devices"].as_array_mut().unwrap().push(first);
        for bad in [
            with("1.1.0", "v.com", "a", &env),
            with("1.1.0", "1v.com/c", "a", &env),
            with("1.1.0", "v.com/c", "a/b", &env),
            with("1.1.0", "v.com/c", "", &env),
            twice,
            edits(json!({})),
            edits(json!({ "env": ["=b"] })),
            edits(json!({ "colour": "red" })),
            node("path", json!("dev/a")),
            node("type", json!("x")),
            node("permissions", json!("rx")),
            node("major", json!(-1)),
            edits(json!({ "mounts": [{ "hostPath": "", "containerPath": "/b" }] })),
            edits(json!({ "hooks": [{ "hookName": "never", "path": "/bin/true" }] })),
        ] {
            refused(bad);
        }
    }

    #[test]
    fn a_whole_device_name_has_vendor_class_and_name() {
        for good in ["vendor.com/gpu=0", "v/c=a:1-2_3.b", "v.com/c.d=all"] {
            assert!(is_qualified(good), "{good}");
        }
        for bad in ["", "gpu", "vendor.com/gpu", "/gpu=0", "v/=0", "v/gpu=", "1v/gpu=0", "v/g=0-"] {
            assert!(!is_qualified(bad), "{bad}");
        }
    }
}
