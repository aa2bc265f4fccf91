//! The share of block I/O, and limits by device.

use super::controller::{Controller, Version};
use super::settings::Setting;
use super::{BlkioDevice, BlkioLimit, Cgroups, Resources, file};
use crate::error::{Error, Result};

/// The file of the weight.
fn weight_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "blkio.bfq.weight",
        Version::V2 => "io.weight",
    }
}

impl Cgroups {
    /// Whether this machine's groups have a weight for block I/O: not every scheduler has. The root has
    /// none in any case, so its children tell; where there is none yet, it is taken to be so.
    pub(crate) fn can_weigh_io(&self) -> bool {
        let mut hierarchies = self.hierarchies.iter();
        let Some(hierarchy) = hierarchies.find(|it| it.has(Controller::Io)) else { return false };
        let Ok(entries) = rustix::fs::Dir::read_from(&hierarchy.root) else { return false };
        let version = hierarchy.version;
        let tells = |entry: rustix::fs::DirEntry| {
            let name = entry.file_name().to_str().ok().filter(|name| !name.starts_with('.'))?;
            let child = file::open_dir(&hierarchy.root, name).ok()?;
            let has = |name: &str| file::open_read(&child, name).is_ok();
            // A v2 group may not have the controller.
            (version == Version::V1 || has("io.stat")).then(|| has(weight_file(version)))
        };
        entries.filter_map(std::result::Result::ok).find_map(tells).unwrap_or(true)
    }
}

pub(super) fn settings(resources: &Resources, version: Version) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    if let Some(weight) = resources.blkio_weight.filter(|weight| *weight != 0) {
        let value = shown_weight("blkio_weight", weight.into(), version)?.to_string();
        all.push(Setting::new(Controller::Io, weight_file(version), value));
    }
    for (index, device) in resources.blkio_devices.iter().enumerate() {
        let BlkioDevice { major, minor, what, mut value } = *device;
        if what == BlkioLimit::Weight {
            value = shown_weight(&format!("blkio_devices[{index}]"), value, version)?;
        }
        // Each line sets what it names of its device, and leaves the rest.
        let (file, value) = match (version, what) {
            (Version::V1, _) => (v1_file(what).to_owned(), value.to_string()),
            (Version::V2, BlkioLimit::Weight) => {
                (weight_file(version).to_owned(), value.to_string())
            }
            (Version::V2, _) => ("io.max".to_owned(), format!("{}={value}", v2_key(what))),
        };
        all.push(Setting::new(Controller::Io, file, format!("{major}:{minor} {value}")));
    }
    Ok(all)
}

fn shown_weight(field: &str, weight: u64, version: Version) -> Result<u64> {
    if !(10..=1000).contains(&weight) {
        return Err(Error::invalid(format!("{field}: {weight} is not between 10 and 1000")));
    }
    Ok(match version {
        Version::V1 => weight,
        // 10..1000 onto 1..10000, so that the ends meet.
        Version::V2 => 1 + (weight - 10) * 9999 / 990,
    })
}

fn v1_file(what: BlkioLimit) -> &'static str {
    match what {
        BlkioLimit::Weight => "blkio.bfq.weight_device",
        BlkioLimit::ReadBytes => "blkio.throttle.read_bps_device",
        BlkioLimit::WriteBytes => "blkio.throttle.write_bps_device",
        BlkioLimit::ReadOperations => "blkio.throttle.read_iops_device",
        BlkioLimit::WriteOperations => "blkio.throttle.write_iops_device",
    }
}

/// In `io.max`, where there is no weight.
fn v2_key(what: BlkioLimit) -> &'static str {
    match what {
        BlkioLimit::Weight | BlkioLimit::ReadBytes => "rbps",
        BlkioLimit::WriteBytes => "wbps",
        BlkioLimit::ReadOperations => "riops",
        BlkioLimit::WriteOperations => "wiops",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_file_or_a_line_of_its_own() {
        let device = |what, value| BlkioDevice { major: 8, minor: 16, what, value };
        let resources = Resources {
            blkio_weight: Some(1000),
            blkio_devices: vec![
                device(BlkioLimit::Weight, 10),
                device(BlkioLimit::ReadBytes, 1 << 20),
                device(BlkioLimit::WriteOperations, 7),
            ],
            ..Resources::default()
        };
        let written = |version| -> Vec<String> {
            let all = settings(&resources, version).unwrap();
            all.iter().map(|it| format!("{} {}", it.file, it.value)).collect()
        };
        assert_eq!(
            written(Version::V1),
            [
                "blkio.bfq.weight 1000",
                "blkio.bfq.weight_device 8:16 10",
                "blkio.throttle.read_bps_device 8:16 1048576",
                "blkio.throttle.write_iops_device 8:16 7",
            ]
        );
        assert_eq!(
            written(Version::V2),
            [
                "io.weight 10000",
                "io.weight 8:16 1",
                "io.max 8:16 rbps=1048576",
                "io.max 8:16 wiops=7",
            ]
        );
        let light = Resources {
            blkio_devices: vec![device(BlkioLimit::Weight, 9)],
            ..Resources::default()
        };
        let refused = settings(&light, Version::V2).unwrap_err();
        assert!(refused.to_string().contains("blkio_devices[0]: 9 is not"), "{refused}");
    }
}
