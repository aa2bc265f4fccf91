//! The share of block I/O.

use super::controller::{Controller, Version};
use super::settings::Setting;
use super::{Cgroups, Resources, file};
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
    let Some(weight) = resources.blkio_weight.filter(|weight| *weight != 0) else {
        return Ok(Vec::new());
    };
    if !(10..=1000).contains(&weight) {
        return Err(Error::invalid(format!("blkio_weight: {weight} is not between 10 and 1000")));
    }
    let value = match version {
        Version::V1 => weight.to_string(),
        // 10..1000 onto 1..10000, so that the ends meet.
        Version::V2 => (1 + (u32::from(weight) - 10) * 9999 / 990).to_string(),
    };
    Ok(vec![Setting::new(Controller::Io, weight_file(version), value)])
}
