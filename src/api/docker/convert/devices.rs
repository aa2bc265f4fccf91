//! Devices that a request asks for: nodes of the host's, those that files of CDI describe, and limits of block devices.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use crate::api::docker::wire::container::{DeviceRequest, HostConfig};
use crate::cgroup::{BlkioDevice, BlkioLimit, DeviceAccess, DeviceRule, DeviceType};
use crate::engine::container::config::Device;
use crate::error::{Error, Result};

/// The one driver there is.
const CDI: &str = "cdi";

/// Names of devices of CDI.
///
/// # Errors
/// In Docker's words, for what only another driver would bring.
pub(crate) fn of_cdi(host: &HostConfig) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for request in host.device_requests.iter().flatten() {
        let DeviceRequest { driver, count, device_ids, capabilities, options } = request;
        if driver != CDI {
            let lists = capabilities.iter().map(|it| format!("[{}]", it.join(" ")));
            let lists: Vec<String> = lists.collect();
            return Err(Error::invalid(format!(
                "could not select device driver {driver:?} with capabilities: [{}]",
                lists.join(" ")
            )));
        }
        if *count != 0 {
            return Err(Error::invalid("unexpected count in CDI device request"));
        }
        if !options.is_empty() {
            return Err(Error::invalid("unexpected options in CDI device request"));
        }
        names.extend(device_ids.iter().cloned());
    }
    Ok(names)
}

/// What the container may have of block devices. They are looked up by their paths now, and known by their numbers from then on.
///
/// # Errors
/// `InvalidArgument` for a path that is no block device.
pub(crate) fn limits(host: &HostConfig) -> Result<Vec<BlkioDevice>> {
    let mut limits = Vec::new();
    for device in host.blkio_weight_device.iter().flatten() {
        if !(10..=1000).contains(&device.weight) {
            return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
        }
        limits.push(limit(&device.path, BlkioLimit::Weight, device.weight.into())?);
    }
    for (devices, what) in [
        (&host.blkio_device_read_bps, BlkioLimit::ReadBytes),
        (&host.blkio_device_write_bps, BlkioLimit::WriteBytes),
        (&host.blkio_device_read_iops, BlkioLimit::ReadOperations),
        (&host.blkio_device_write_iops, BlkioLimit::WriteOperations),
    ] {
        for device in devices.iter().flatten() {
            limits.push(limit(&device.path, what, device.rate)?);
        }
    }
    Ok(limits)
}

fn limit(path: &str, what: BlkioLimit, value: u64) -> Result<BlkioDevice> {
    let found = std::fs::metadata(path).map_err(|error| {
        // As Go says it.
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let why =
            if is_missing { "no such file or directory".to_owned() } else { error.to_string() };
        Error::invalid(format!("stat {path}: {why}"))
    })?;
    if !found.file_type().is_block_device() {
        return Err(Error::invalid(format!("{path}: limits of I/O are those of block devices")));
    }
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    Ok(BlkioDevice { major, minor, what, value })
}

pub(crate) fn nodes(host: &HostConfig) -> Result<Vec<Device>> {
    let all = host.devices.iter().flatten().map(|device| {
        let inside = match device.path_in_container.as_str() {
            "" => &device.path_on_host,
            inside => inside,
        };
        if !device.path_on_host.starts_with('/') || !inside.starts_with('/') {
            let path = &device.path_on_host;
            return Err(Error::invalid(format!("invalid device: {path} is not an absolute path")));
        }
        let permissions = match device.cgroup_permissions.as_str() {
            "" => "rwm",
            own => own,
        };
        Ok(Device {
            container_path: PathBuf::from(inside),
            host_path: PathBuf::from(&device.path_on_host),
            permissions: permissions.to_owned(),
        })
    });
    all.collect()
}

/// `c 13:* rwm`: what may be done with which devices; `a` is those of both kinds.
pub(crate) fn rules(host: &HostConfig) -> Result<Vec<DeviceRule>> {
    let mut rules = Vec::new();
    for text in host.device_cgroup_rules.iter().flatten() {
        let rule = rule(text);
        rules.extend(rule.ok_or_else(|| {
            Error::invalid(format!("invalid device cgroup rule format: '{text}'"))
        })?);
    }
    Ok(rules)
}

fn rule(text: &str) -> Option<Vec<DeviceRule>> {
    let mut words = text.split(' ');
    let (kind, numbers, letters) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        digits if digits.bytes().all(|it| it.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let (major, minor) = (number(major)?, number(minor)?);
    let access = DeviceAccess::parse("", letters).ok()?;
    let kinds = match kind {
        "c" => vec![DeviceType::Character],
        "b" => vec![DeviceType::Block],
        "a" => vec![DeviceType::Character, DeviceType::Block],
        _ => return None,
    };
    let rules = kinds.into_iter().map(|device| DeviceRule { device, major, minor, access });
    words.next().is_none().then(|| rules.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn device_rules_are_read_and_nonsense_is_none() {
        let access = DeviceAccess { read: true, write: false, mknod: true };
        let expected = |device, major, minor| DeviceRule { device, major, minor, access };
        let character = expected(DeviceType::Character, Some(13), None);
        assert_eq!(rule("c 13:* rm").unwrap(), [character]);
        let both =
            [DeviceType::Character, DeviceType::Block].map(|kind| expected(kind, None, Some(7)));
        assert_eq!(rule("a *:7 mr").unwrap(), both);
        for text in
            ["", "c", "c 1:3", "c 1 r", "d 1:3 r", "c 1:3 x", "c 1:3 r ", "c +1:3 r", "c :3 r"]
        {
            assert_eq!(rule(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_files_of_cdi_bring_devices() {
        let of = |request: DeviceRequest| {
            of_cdi(&HostConfig { device_requests: Some(vec![request]), ..HostConfig::default() })
        };
        let list = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let named = DeviceRequest {
            driver: CDI.to_owned(),
            device_ids: list(&["vendor.example/gpu=0", "vendor.example/gpu=1"]),
            // Said by files of compose, which have to.
            capabilities: vec![list(&["gpu"])],
            ..DeviceRequest::default()
        };
        assert_eq!(of(named.clone()).unwrap(), named.device_ids);
        let refused = |request| of(request).unwrap_err().to_string();
        let any = DeviceRequest {
            count: -1,
            capabilities: vec![list(&["compute", "gpu"]), list(&["tpu"])],
            ..DeviceRequest::default()
        };
        assert_eq!(
            refused(any.clone()),
            "could not select device driver \"\" with capabilities: [[compute gpu] [tpu]]"
        );
        let nvidia = DeviceRequest { driver: "nvidia".to_owned(), capabilities: Vec::new(), ..any };
        assert_eq!(
            refused(nvidia),
            "could not select device driver \"nvidia\" with capabilities: []"
        );
        let counted = DeviceRequest { count: 1, ..named.clone() };
        assert_eq!(refused(counted), "unexpected count in CDI device request");
        let options = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let tuned = DeviceRequest { options, ..named };
        assert_eq!(refused(tuned), "unexpected options in CDI device request");
    }

    #[test]
    fn what_is_no_block_device_has_no_limit() {
        let refused = |path| limit(path, BlkioLimit::ReadBytes, 1).unwrap_err().to_string();
        assert_eq!(refused("/dev/no-such"), "stat /dev/no-such: no such file or directory");
        assert!(refused("/dev/null").contains("those of block devices"));
    }
}
