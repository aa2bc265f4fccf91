//! Limits, from the engine's words to those of the interface and back.

use cais_proto::nri::v1alpha1::{
    HugepageLimit, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, OptionalInt64, OptionalUInt64,
};

use crate::cgroup::Resources;
use crate::error::{Error, Kind, Result};

pub(super) fn to_message(resources: &Resources) -> LinuxResources {
    let Resources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        cpuset_cpus,
        cpuset_mems,
        memory_limit,
        memory_swap_limit,
        memory_reservation,
        pids_limit,
        hugepage_limits,
        unified,
        // The interface has classes instead.
        blkio_weight: _,
        blkio_devices: _,
    } = resources;
    let signed = |value: Option<i64>| value.map(|value| OptionalInt64 { value });
    let unsigned = |value: Option<u64>| value.map(|value| OptionalUInt64 { value });
    LinuxResources {
        memory: Some(LinuxMemory {
            limit: signed(*memory_limit),
            reservation: signed(*memory_reservation),
            swap: signed(*memory_swap_limit),
            ..LinuxMemory::default()
        }),
        cpu: Some(LinuxCpu {
            shares: unsigned(*cpu_shares),
            quota: signed(*cpu_quota),
            period: unsigned(*cpu_period),
            cpus: cpuset_cpus.clone().unwrap_or_default(),
            mems: cpuset_mems.clone().unwrap_or_default(),
            ..LinuxCpu::default()
        }),
        hugepage_limits: hugepage_limits
            .iter()
            .map(|(page_size, limit)| HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: unified.clone(),
        pids: pids_limit.map(|limit| LinuxPids { limit }),
        ..LinuxResources::default()
    }
}

/// Sets what is set in `over`.
///
/// # Errors
/// `Unsupported`, naming the field, for what our cgroups do not limit.
pub(super) fn lay(over: &LinuxResources, under: &mut Resources) -> Result<()> {
    let LinuxResources {
        memory,
        cpu,
        hugepage_limits,
        blockio_class,
        rdt_class,
        unified,
        // Rules of the cgroup, not limits: the caller's business.
        devices: _,
        pids,
    } = over;
    if let Some(memory) = memory {
        lay_memory(memory, under)?;
    }
    if let Some(cpu) = cpu {
        lay_cpu(cpu, under)?;
    }
    for HugepageLimit { page_size, limit } in hugepage_limits {
        under.hugepage_limits.retain(|(known, _)| known != page_size);
        under.hugepage_limits.push((page_size.clone(), *limit));
    }
    refuse("blockio_class", blockio_class.is_some())?;
    refuse("rdt_class", rdt_class.is_some())?;
    under.unified.extend(unified.clone());
    if let Some(LinuxPids { limit }) = pids {
        under.pids_limit = Some(*limit);
    }
    Ok(())
}

fn lay_memory(over: &LinuxMemory, under: &mut Resources) -> Result<()> {
    let LinuxMemory {
        limit,
        reservation,
        swap,
        kernel,
        kernel_tcp,
        swappiness,
        disable_oom_killer,
        use_hierarchy,
    } = over;
    refuse("memory.kernel", kernel.is_some())?;
    refuse("memory.kernel_tcp", kernel_tcp.is_some())?;
    refuse("memory.swappiness", swappiness.is_some())?;
    refuse("memory.disable_oom_killer", disable_oom_killer.is_some_and(|it| it.value))?;
    // Every group is part of a hierarchy; that cannot be had otherwise.
    refuse("memory.use_hierarchy", use_hierarchy.is_some_and(|it| !it.value))?;
    if let (Some(new), None) = (limit, swap) {
        keep_distance(new.value, under);
    }
    set_signed(*limit, &mut under.memory_limit);
    set_signed(*reservation, &mut under.memory_reservation);
    set_signed(*swap, &mut under.memory_swap_limit);
    Ok(())
}

/// The swap limit counts memory too: a new memory limit alone leaves the same room for swap.
fn keep_distance(new: i64, under: &mut Resources) {
    if let (Some(old @ 1..), Some(total @ 1..), 1..) =
        (under.memory_limit, under.memory_swap_limit, new)
    {
        under.memory_swap_limit = Some(new.saturating_add((total - old).max(0)));
    }
}

fn lay_cpu(over: &LinuxCpu, under: &mut Resources) -> Result<()> {
    let LinuxCpu { shares, quota, period, realtime_runtime, realtime_period, cpus, mems } = over;
    refuse("cpu.realtime_runtime", realtime_runtime.is_some())?;
    refuse("cpu.realtime_period", realtime_period.is_some())?;
    set_unsigned(*shares, &mut under.cpu_shares);
    set_signed(*quota, &mut under.cpu_quota);
    set_unsigned(*period, &mut under.cpu_period);
    for (list, under) in [(cpus, &mut under.cpuset_cpus), (mems, &mut under.cpuset_mems)] {
        if !list.is_empty() {
            *under = Some(list.clone());
        }
    }
    Ok(())
}

fn set_signed(over: Option<OptionalInt64>, under: &mut Option<i64>) {
    *under = over.map(|it| it.value).or(*under);
}

fn set_unsigned(over: Option<OptionalUInt64>, under: &mut Option<u64>) {
    *under = over.map(|it| it.value).or(*under);
}

fn refuse(field: &str, is_asked: bool) -> Result<()> {
    if is_asked {
        let text = format!("linux.resources.{field}: not supported");
        return Err(Error::new(Kind::Unsupported, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cais_proto::nri::v1alpha1::OptionalString;

    use super::*;

    fn limits() -> Resources {
        Resources {
            cpu_period: Some(100_000),
            cpu_quota: Some(50_000),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0".into()),
            cpuset_mems: Some("0".into()),
            memory_limit: Some(64 << 20),
            memory_swap_limit: Some(96 << 20),
            memory_reservation: Some(32 << 20),
            pids_limit: Some(100),
            hugepage_limits: vec![("2MB".into(), 4 << 20)],
            unified: [("memory.high".to_owned(), "1000".to_owned())].into(),
            blkio_weight: None,
            blkio_devices: Vec::new(),
        }
    }

    #[test]
    fn limits_survive_the_way_there_and_back() {
        let mut back = Resources::default();
        lay(&to_message(&limits()), &mut back).unwrap();
        assert_eq!(back, limits());
    }

    #[test]
    fn what_is_not_asked_for_stays_and_swap_keeps_its_room() {
        let mut under = limits();
        let memory = LinuxMemory {
            limit: Some(OptionalInt64 { value: 128 << 20 }),
            ..LinuxMemory::default()
        };
        lay(&LinuxResources { memory: Some(memory), ..Default::default() }, &mut under).unwrap();
        let expected = Resources {
            memory_limit: Some(128 << 20),
            memory_swap_limit: Some(160 << 20),
            ..limits()
        };
        assert_eq!(under, expected);
    }

    #[test]
    fn what_cannot_be_limited_is_refused_by_name() {
        let over = LinuxResources {
            blockio_class: Some(OptionalString { value: "fast".into() }),
            ..Default::default()
        };
        let error = lay(&over, &mut Resources::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.chain().contains("linux.resources.blockio_class"), "{}", error.chain());
    }
}
