//! Limits, in the units of the interface and of the cgroup files alike.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use cais_proto::runtime::v1::{HugepageLimit, LinuxContainerResources};

use super::check::{refuse, shown};
use crate::cgroup::Resources;
use crate::error::Result;

/// The kernel's bounds of a CFS period, and the least quota, in microseconds.
const CPU_PERIOD: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
const LEAST_QUOTA: i64 = 1_000;

/// Limits and the OOM score adjustment that travels with them. Zero is "not set", but for the
/// adjustment, where it is a value.
pub(crate) fn resources(field: &str, message: LinuxContainerResources) -> Result<(Resources, i32)> {
    let LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit_in_bytes,
        oom_score_adj,
        cpuset_cpus,
        cpuset_mems,
        hugepage_limits,
        unified,
        memory_swap_limit_in_bytes,
    } = message;

    if cpu_period != 0 && !CPU_PERIOD.contains(&cpu_period) {
        let why = format_args!("{cpu_period} is not in 1000 to 1000000 microseconds");
        return Err(refuse(format_args!("{field}.cpu_period"), why));
    }
    if cpu_quota < -1 || (1..LEAST_QUOTA).contains(&cpu_quota) {
        let why = format_args!("{cpu_quota} is neither -1 nor at least 1000 microseconds");
        return Err(refuse(format_args!("{field}.cpu_quota"), why));
    }
    let memory_limit = bytes(format_args!("{field}.memory_limit_in_bytes"), memory_limit_in_bytes)?;
    let memory_swap_limit =
        bytes(format_args!("{field}.memory_swap_limit_in_bytes"), memory_swap_limit_in_bytes)?;
    if let (Some(memory), Some(both)) = (memory_limit, memory_swap_limit)
        && memory > 0
        && (0..memory).contains(&both)
    {
        let why = format_args!("{both} is less than the memory limit {memory}, which it includes");
        return Err(refuse(format_args!("{field}.memory_swap_limit_in_bytes"), why));
    }
    let adjustment = i32::try_from(oom_score_adj)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| {
            refuse(
                format_args!("{field}.oom_score_adj"),
                format_args!("{oom_score_adj} is not in -1000 to 1000"),
            )
        })?;

    let resources = Resources {
        cpu_period: positive(format_args!("{field}.cpu_period"), cpu_period)?,
        cpu_quota: (cpu_quota != 0).then_some(cpu_quota),
        cpu_shares: positive(format_args!("{field}.cpu_shares"), cpu_shares)?,
        cpuset_cpus: list(format_args!("{field}.cpuset_cpus"), cpuset_cpus)?,
        cpuset_mems: list(format_args!("{field}.cpuset_mems"), cpuset_mems)?,
        memory_limit,
        memory_swap_limit,
        // Not in the interface.
        memory_reservation: None,
        // The kubelet limits processes per pod, in the pod's cgroup.
        pids_limit: None,
        hugepage_limits: hugepages(field, hugepage_limits)?,
        unified: files(field, unified)?,
        // Not in the interface.
        blkio_weight: None,
        blkio_devices: Vec::new(),
    };
    Ok((resources, adjustment))
}

/// The limits as they were last applied.
pub(crate) fn to_cri(resources: &Resources, oom_score_adj: i32) -> LinuxContainerResources {
    let Resources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        cpuset_cpus,
        cpuset_mems,
        memory_limit,
        memory_swap_limit,
        // Not in the interface, like the next and what is about block I/O.
        memory_reservation: _,
        pids_limit: _,
        hugepage_limits,
        unified,
        blkio_weight: _,
        blkio_devices: _,
    } = resources;
    let signed = |value: Option<u64>| i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX);
    LinuxContainerResources {
        cpu_period: signed(*cpu_period),
        cpu_quota: cpu_quota.unwrap_or(0),
        cpu_shares: signed(*cpu_shares),
        memory_limit_in_bytes: memory_limit.unwrap_or(0),
        oom_score_adj: i64::from(oom_score_adj),
        cpuset_cpus: cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: cpuset_mems.clone().unwrap_or_default(),
        hugepage_limits: hugepage_limits
            .iter()
            .map(|(page_size, limit)| HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: unified.clone().into_iter().collect(),
        memory_swap_limit_in_bytes: memory_swap_limit.unwrap_or(0),
    }
}

fn positive(field: impl Display, value: i64) -> Result<Option<u64>> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(refuse(field, format_args!("{value} is negative"))),
    }
}

/// A size, where -1 lifts the limit.
fn bytes(field: impl Display, value: i64) -> Result<Option<i64>> {
    match value {
        0 => Ok(None),
        -1.. => Ok(Some(value)),
        _ => Err(refuse(field, format_args!("{value} is negative"))),
    }
}

/// The kernel's list format. Only its alphabet is checked here; the kernel knows what exists.
fn list(field: impl Display, value: String) -> Result<Option<String>> {
    if value.is_empty() {
        return Ok(None);
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_range = |text: &str| match text.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(text),
    };
    if value.split(',').all(is_range) {
        Ok(Some(value))
    } else {
        Err(refuse(field, format_args!("{} is not a list such as 0-2,7", shown(&value))))
    }
}

fn hugepages(field: &str, limits: Vec<HugepageLimit>) -> Result<Vec<(String, u64)>> {
    let size = |HugepageLimit { page_size, limit }: HugepageLimit| {
        let digits = page_size.trim_end_matches(|char: char| !char.is_ascii_digit());
        let unit = page_size.get(digits.len()..).unwrap_or_default();
        let is_size = !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && ["KB", "MB", "GB"].contains(&unit);
        if is_size {
            Ok((page_size, limit))
        } else {
            let why = format_args!("{} is not a size such as 2MB", shown(&page_size));
            Err(refuse(format_args!("{field}.hugepage_limits.page_size"), why))
        }
    };
    limits.into_iter().map(size).collect()
}

/// Raw cgroup files: the key is a file name, never a path.
fn files(field: &str, unified: HashMap<String, String>) -> Result<BTreeMap<String, String>> {
    for (key, value) in &unified {
        let is_file = key.contains('.')
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
            && !key.starts_with('.');
        if !is_file || value.contains('\0') {
            let why = format_args!("{} is not a cgroup file with its content", shown(key));
            return Err(refuse(format_args!("{field}.unified"), why));
        }
    }
    Ok(unified.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn full() -> LinuxContainerResources {
        LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            oom_score_adj: -998,
            cpuset_cpus: "0-2,7".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: 0 }],
            unified: HashMap::from([("memory.oom.group".into(), "1".into())]),
            memory_swap_limit_in_bytes: 64 << 20,
        }
    }

    #[test]
    fn limits_come_back_as_they_were_given() {
        let (limits, adjustment) = resources("f", full()).unwrap();
        assert_eq!(to_cri(&limits, adjustment), full());
    }

    #[test]
    fn zero_is_not_a_limit() {
        let (limits, adjustment) = resources("f", LinuxContainerResources::default()).unwrap();
        assert_eq!((limits, adjustment), (Resources::default(), 0));
    }

    #[test]
    fn limits_that_cannot_work_are_refused_by_name() {
        type Break = fn(&mut LinuxContainerResources);
        let cases: &[(&str, Break)] = &[
            ("cpu_period: -1", |r| r.cpu_period = -1),
            ("cpu_period: 999", |r| r.cpu_period = 999),
            ("cpu_quota: -2", |r| r.cpu_quota = -2),
            ("cpu_quota: 5", |r| r.cpu_quota = 5),
            ("cpu_shares: -1 is negative", |r| r.cpu_shares = -1),
            ("memory_limit_in_bytes: -2", |r| r.memory_limit_in_bytes = -2),
            ("memory_swap_limit_in_bytes: 1 is less", |r| r.memory_swap_limit_in_bytes = 1),
            ("oom_score_adj: 1001", |r| r.oom_score_adj = 1001),
            ("oom_score_adj: -9223372036854775808", |r| r.oom_score_adj = i64::MIN),
            ("cpuset_cpus: \"0-\"", |r| r.cpuset_cpus = "0-".into()),
            ("cpuset_mems: \"0\\n1\"", |r| r.cpuset_mems = "0\n1".into()),
            ("hugepage_limits.page_size: \"../2MB\"", |r| {
                r.hugepage_limits = vec![HugepageLimit { page_size: "../2MB".into(), limit: 1 }];
            }),
            ("unified: \"../cgroup.procs\"", |r| {
                r.unified = HashMap::from([("../cgroup.procs".into(), "1".into())]);
            }),
        ];
        for (expected, spoil) in cases {
            let mut message = full();
            spoil(&mut message);
            let error = resources("config.linux.resources", message).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            let chain = error.chain();
            assert!(chain.starts_with(&format!("config.linux.resources.{expected}")), "{chain}");
        }
    }
}
