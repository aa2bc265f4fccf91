//! Device nodes and the cgroup's rules about them.

use std::path::{Path, PathBuf};

use cais_proto::nri::v1alpha1::{LinuxDevice as Asked, LinuxDeviceCgroup, OptionalInt64};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};

use super::{refuse, removed};
use crate::cgroup::{DeviceAccess, DeviceRule, DeviceType};
use crate::engine::spec::{Bundle, field};
use crate::error::{Context, Error, Result};

pub(super) fn adjust(asked: Vec<Asked>, bundle: &mut Bundle) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let linux = bundle.spec.linux_mut().as_mut().context("the spec has no linux part")?;
    let mut devices = linux.devices().clone().unwrap_or_default();
    for device in asked {
        let name = removed(&device.path).unwrap_or(&device.path);
        let path = field::path("linux.devices.path", Path::new(name))?;
        devices.retain(|known| known.path() != Path::new(&path));
        if removed(&device.path).is_none() {
            let (node, rule) = new_device(&path, &device)?;
            devices.push(node);
            if let (Some(rules), Some(rule)) = (&mut bundle.devices, rule) {
                rules.push(rule);
            }
        }
    }
    linux.set_devices(Some(devices));
    Ok(())
}

fn new_device(path: &str, asked: &Asked) -> Result<(LinuxDevice, Option<DeviceRule>)> {
    let Asked { path: _, r#type, major, minor, file_mode, uid, gid } = asked;
    let (typ, device) = match r#type.as_str() {
        "c" | "u" => (LinuxDeviceType::C, Some(DeviceType::Character)),
        "b" => (LinuxDeviceType::B, Some(DeviceType::Block)),
        "p" => (LinuxDeviceType::P, None),
        other => {
            let shown = field::shown(other);
            let text = format!("linux.devices.type: {shown} of {path} is none of c, b, u and p");
            return Err(Error::invalid(text));
        }
    };
    let number = |value: i64| {
        u32::try_from(value)
            .map_err(|_| Error::invalid(format!("linux.devices: {value} of {path} is no number")))
    };
    let (node_major, node_minor) = (number(*major)?, number(*minor)?);
    let rule = device.map(|device| DeviceRule {
        device,
        major: Some(node_major),
        minor: Some(node_minor),
        access: DeviceAccess::ALL,
    });
    let node = LinuxDeviceBuilder::default()
        .path(PathBuf::from(path))
        .typ(typ)
        .major(*major)
        .minor(*minor)
        .file_mode(file_mode.map_or(0o666, |mode| mode.value & 0o7777))
        .uid(uid.map_or(0, |uid| uid.value))
        .gid(gid.map_or(0, |gid| gid.value))
        .build()
        .with_context(|| format!("device {path}"))?;
    Ok((node, rule))
}

/// Both kinds for type `a`.
pub(super) fn rule(asked: &LinuxDeviceCgroup) -> Result<Vec<DeviceRule>> {
    let LinuxDeviceCgroup { allow, r#type, major, minor, access } = asked;
    // What no rule allows is denied; one rule cannot take from another.
    refuse("linux.resources.devices: a rule that denies", !allow)?;
    let kinds: &[DeviceType] = match r#type.as_str() {
        "c" => &[DeviceType::Character],
        "b" => &[DeviceType::Block],
        "a" | "" => &[DeviceType::Character, DeviceType::Block],
        other => {
            let shown = field::shown(other);
            let text = format!("linux.resources.devices.type: {shown} is none of a, c and b");
            return Err(Error::invalid(text));
        }
    };
    let number = |value: Option<OptionalInt64>| {
        // -1 is another way to say every one.
        value.and_then(|value| u32::try_from(value.value).ok())
    };
    let access = if access.is_empty() { "rwm" } else { access };
    let access = DeviceAccess::parse("linux.resources.devices.access", access)?;
    let rule = |device: &DeviceType| DeviceRule {
        device: *device,
        major: number(*major),
        minor: number(*minor),
        access,
    };
    Ok(kinds.iter().map(rule).collect())
}
