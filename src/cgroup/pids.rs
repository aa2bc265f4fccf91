//! How many processes and threads there may be.

use super::Resources;
use super::controller::Controller;
use super::settings::Setting;

pub(super) fn settings(resources: &Resources) -> Vec<Setting> {
    let limit = resources.pids_limit.filter(|limit| *limit != 0);
    let value = limit.map(|limit| u64::try_from(limit).map_or("max".to_owned(), |n| n.to_string()));
    value.map(|value| Setting::new(Controller::Pids, "pids.max", value)).into_iter().collect()
}
