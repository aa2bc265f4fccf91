//! Limits and settings of the kernel that a request asks for.

use std::collections::{BTreeMap, BTreeSet};

use super::create::unsupported;
use crate::api::docker::wire::container::HostConfig;
use crate::cgroup::Resources;
use crate::engine::container::config::RlimitRequest;
use crate::engine::pod::config::NETWORK_SYSCTLS;
use crate::engine::standalone::config::Network;
use crate::error::{Error, Kind, Result};

/// Microseconds, as every engine has it for `--cpus`.
const PERIOD: u64 = 100_000;

const NANO: u128 = 1_000_000_000;

const SMALLEST_MEMORY: i64 = 6 << 20;

/// More than any machine has.
const MOST_CPUS: u32 = 1 << 16;

/// What would otherwise be passed over in silence.
pub(crate) fn check_supported(host: &HostConfig) -> Result<()> {
    for (is_asked, what) in [
        (host.cpu_realtime_period.is_some_and(|it| it > 0), "--cpu-rt-period"),
        (host.cpu_realtime_runtime.is_some_and(|it| it > 0), "--cpu-rt-runtime"),
    ] {
        if is_asked {
            return unsupported(what);
        }
    }
    let volume_driver = host.volume_driver.as_deref().unwrap_or_default();
    if !matches!(volume_driver, "" | "local") {
        return unsupported(format!("--volume-driver {volume_driver}"));
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        // Upper directories are on whichever filesystem the state is, and none is asked to count.
        return Err(Error::new(
            Kind::Unsupported,
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ));
    }
    match host.runtime.as_deref().unwrap_or_default() {
        "" | "cais" | "runc" | "io.containerd.runc.v2" => Ok(()),
        other => Err(Error::invalid(format!("unknown or invalid runtime name: {other}"))),
    }
}

/// What a container is made without, and its client hears of.
pub(crate) fn discarded(host: &HostConfig) -> Vec<String> {
    let swappiness = host.memory_swappiness.is_some_and(|it| it >= 0);
    [(host.oom_kill_disable == Some(true), "OomKillDisable"), (swappiness, "Memory swappiness")]
        .into_iter()
        .filter(|(is_asked, _)| *is_asked)
        .map(|(_, what)| format!("{what} is not supported. {what} discarded."))
        .collect()
}

/// What no machine, or not this one, can give.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_limits(host: &HostConfig) -> Result<()> {
    if host.memory.is_some_and(|bytes| (1..SMALLEST_MEMORY).contains(&bytes)) {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if let (Some(memory @ 1..), Some(swap @ 1..)) = (host.memory, host.memory_swap)
        && swap < memory
    {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if host.blkio_weight.is_some_and(|weight| weight != 0 && !(10..=1000).contains(&weight)) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    // What cannot be read here, the kernel will know.
    let Some(available) = cpus(online.trim()) else { return Ok(()) };
    let count = available.len();
    if host.nano_cpus.is_some_and(|it| u128::try_from(it).unwrap_or(0) > count as u128 * NANO) {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )));
    }
    let Some(wanted) = host.cpuset_cpus.as_deref().filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    match cpus(wanted) {
        None => Err(Error::invalid(format!("Invalid value {wanted} for cpuset cpus"))),
        Some(asked) if !asked.is_subset(&available) => Err(Error::invalid(format!(
            "Requested CPUs are not available - requested {wanted}, available: {}",
            online.trim()
        ))),
        Some(_) => Ok(()),
    }
}

/// `0-2,7`
fn cpus(list: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MOST_CPUS {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Zero is "no limit" for all of these.
pub(crate) fn resources(host: &HostConfig) -> Resources {
    let memory = host.memory.filter(|bytes| *bytes > 0);
    let swap = host.memory_swap.filter(|bytes| *bytes != 0);
    let nano_cpus = host.nano_cpus.filter(|cpus| *cpus > 0);
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Resources {
        cpu_period: host.cpu_period.filter(|it| *it > 0).or(nano_cpus.map(|_| PERIOD)),
        cpu_quota: host.cpu_quota.filter(|it| *it != 0).or(nano_cpus.map(|cpus| cpus / 10_000)),
        cpu_shares: host.cpu_shares.filter(|it| *it > 0),
        cpuset_cpus: text(&host.cpuset_cpus),
        cpuset_mems: text(&host.cpuset_mems),
        memory_limit: memory,
        // As much swap as memory, unless the client says otherwise.
        memory_swap_limit: swap.or(memory.map(|bytes| bytes.saturating_mul(2))),
        memory_reservation: host.memory_reservation.filter(|it| *it > 0),
        pids_limit: host.pids_limit.filter(|it| *it != 0),
        blkio_weight: host.blkio_weight.filter(|it| *it > 0),
        blkio_devices: Vec::new(),
        hugepage_limits: Vec::new(),
        unified: BTreeMap::new(),
    }
}

pub(crate) fn rlimits(host: &HostConfig) -> Result<Vec<RlimitRequest>> {
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let all = host.ulimits.iter().flatten().map(|ulimit| {
        let (soft, hard) = (limit(ulimit.soft), limit(ulimit.hard));
        if soft > hard {
            return Err(Error::invalid(format!(
                "ulimit {}: soft limit must be less than or equal to hard limit",
                ulimit.name
            )));
        }
        Ok(RlimitRequest { name: ulimit.name.clone(), soft, hard })
    });
    all.collect()
}

/// With a network of its own a container may listen on any port and ping as any user.
pub(crate) fn sysctls(host: &HostConfig, network: &Network) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if matches!(network, Network::Bridge | Network::Custom(_) | Network::None) {
        all.extend(NETWORK_SYSCTLS.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    all.extend(host.sysctls.clone().unwrap_or_default());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_nonsense_is_none() {
        assert_eq!(cpus("0-2,7").unwrap(), BTreeSet::from([0, 1, 2, 7]));
        for text in ["", "a", "3-1", "0-", "-1", "0-4294967295"] {
            assert_eq!(cpus(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        let with = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            check_limits(&host)
        };
        assert!(with(|host| host.memory = Some(1024)).is_err());
        assert!(with(|host| host.memory = Some(0)).is_ok());
        assert!(with(|host| host.blkio_weight = Some(9)).is_err());
        assert!(with(|host| host.nano_cpus = Some(1_000_000_000_000_000)).is_err());
        assert!(with(|host| host.cpuset_cpus = Some("0".into())).is_ok());
        assert!(with(|host| host.cpuset_cpus = Some("60000".into())).is_err());
    }
}
