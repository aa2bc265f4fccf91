//! The share of block I/O.

use super::Resources;
use super::controller::{Controller, Version};
use super::settings::Setting;
use crate::error::{Error, Result};

pub(super) fn settings(resources: &Resources, version: Version) -> Result<Vec<Setting>> {
    let Some(weight) = resources.blkio_weight.filter(|weight| *weight != 0) else {
        return Ok(Vec::new());
    };
    if !(10..=1000).contains(&weight) {
        return Err(Error::invalid(format!("blkio_weight: {weight} is not between 10 and 1000")));
    }
    let setting = match version {
        Version::V1 => Setting::new(Controller::Io, "blkio.bfq.weight", weight.to_string()),
        // 10..1000 onto 1..10000, so that the ends meet.
        Version::V2 => {
            let weight = 1 + (u32::from(weight) - 10) * 9999 / 990;
            Setting::new(Controller::Io, "io.weight", weight.to_string())
        }
    };
    Ok(vec![setting])
}
