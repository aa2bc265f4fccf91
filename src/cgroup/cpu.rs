//! CPU time: shares or weight, quota and period.

use super::Resources;
use super::controller::{Controller, Version};
use super::settings::{Current, Setting};
use crate::error::{Error, Result};

const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
/// The kernel's own bounds, in microseconds.
const PERIOD_MIN: u64 = 1_000;
const PERIOD_MAX: u64 = 1_000_000;
const QUOTA_MIN: i64 = 1_000;

pub(super) fn settings(
    resources: &Resources,
    version: Version,
    current: &Current<'_>,
) -> Result<Vec<Setting>> {
    let period = resources.cpu_period.filter(|period| *period != 0);
    let quota = resources.cpu_quota.filter(|quota| *quota != 0);
    if period.is_some_and(|period| !(PERIOD_MIN..=PERIOD_MAX).contains(&period)) {
        return Err(Error::invalid(format!(
            "cpu_period: {} is not between {PERIOD_MIN} and {PERIOD_MAX}",
            period.unwrap_or_default()
        )));
    }
    if quota.is_some_and(|quota| (1..QUOTA_MIN).contains(&quota)) {
        return Err(Error::invalid(format!(
            "cpu_quota: {} is less than {QUOTA_MIN}",
            quota.unwrap_or_default()
        )));
    }
    let cpu = |file: &str, value: String| Setting::new(Controller::Cpu, file, value);
    let mut all = Vec::new();
    if let Some(shares) = resources.cpu_shares.filter(|shares| *shares != 0) {
        all.push(match version {
            Version::V1 => cpu("cpu.shares", shares.clamp(SHARES_MIN, SHARES_MAX).to_string()),
            Version::V2 => cpu("cpu.weight", weight(shares).to_string()),
        });
    }
    match version {
        Version::V1 => {
            all.extend(period.map(|period| cpu("cpu.cfs_period_us", period.to_string())));
            all.extend(quota.map(|quota| cpu("cpu.cfs_quota_us", quota.max(-1).to_string())));
        }
        Version::V2 => all.extend(maximum(quota, period, current).map(|max| cpu("cpu.max", max))),
    }
    Ok(all)
}

/// The content of `cpu.max`, which holds quota and period in one line.
fn maximum(quota: Option<i64>, period: Option<u64>, current: &Current<'_>) -> Option<String> {
    let quota = match (quota, period) {
        (None, None) => return None,
        (Some(quota), _) => u64::try_from(quota).map_or("max".to_owned(), |us| us.to_string()),
        (None, Some(_)) => {
            let now = current.text(Controller::Cpu, "cpu.max").unwrap_or_default();
            now.split_whitespace().next().unwrap_or("max").to_owned()
        }
    };
    // Without a period the kernel keeps the one it has.
    Some(period.map_or(quota.clone(), |period| format!("{quota} {period}")))
}

/// Shares (default 1024) as a weight (default 100).
///
/// The curve through (2, 1), (1024, 100) and (262144, 10000) on which the OCI runtimes agreed: a
/// straight line would give the default 39 and let host services starve containers.
fn weight(shares: u64) -> u64 {
    if shares <= SHARES_MIN {
        return 1;
    }
    if shares >= SHARES_MAX {
        return 10_000;
    }
    let log = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // 10^2 must not become 101 by the last bit of a float.
    let weight = (10_f64.powf(exponent) - 1e-9).ceil();
    (1_u32..=10_000).find(|candidate| f64::from(*candidate) >= weight).map_or(10_000, u64::from)
}

/// The smallest shares that become this weight, or the next one that shares can become.
pub(super) fn shares(of_weight: u64) -> u64 {
    let (mut low, mut high) = (SHARES_MIN, SHARES_MAX);
    while low < high {
        let middle = low.midpoint(high);
        if weight(middle) < of_weight { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_ends_of_the_scales_meet() {
        for (shares, expected) in
            [(2, 1), (1024, 100), (262_144, 10_000), (0, 1), (u64::MAX, 10_000)]
        {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert!(weight(512) < weight(1024) && weight(1024) < weight(2048));
    }

    #[test]
    fn a_weight_reads_as_shares_that_become_it() {
        for known in [1, 2, 59, 100, 5000, 10_000] {
            assert_eq!(weight(shares(known)), known, "{known}");
        }
    }
}
