//! Laying the resources that a plugin asks for over those that are known.

use cais_proto::nri::v1alpha1::{Field, HugepageLimit, LinuxCpu, LinuxMemory, LinuxResources};

use crate::error::Result;

/// Says whether a field, or the entry of a field, may be set.
pub(super) type Ask<'a> = &'a mut dyn FnMut(Field, Option<&str>) -> Result<()>;

/// For whoever need not ask.
pub(crate) fn lay(over: &LinuxResources, under: &mut LinuxResources) {
    // Nobody refuses.
    let _ = lay_if(over, under, &mut |_, _| Ok(()));
}

/// Sets in `under` what is set in `over`, each field after asking.
pub(super) fn lay_if(
    over: &LinuxResources,
    under: &mut LinuxResources,
    ask: Ask<'_>,
) -> Result<()> {
    // By name, so that a new field does not compile until it has its line.
    let LinuxResources {
        memory,
        cpu,
        hugepage_limits,
        blockio_class,
        rdt_class,
        unified,
        devices,
        pids,
    } = over;
    if let Some(memory) = memory {
        lay_memory(memory, under.memory.get_or_insert_default(), ask)?;
    }
    if let Some(cpu) = cpu {
        lay_cpu(cpu, under.cpu.get_or_insert_default(), ask)?;
    }
    for limit in hugepage_limits {
        ask(Field::HugepageLimits, Some(&limit.page_size))?;
        lay_hugepages(limit, &mut under.hugepage_limits);
    }
    set(blockio_class.as_ref(), &mut under.blockio_class, Field::BlockioClass, ask)?;
    set(rdt_class.as_ref(), &mut under.rdt_class, Field::RdtClass, ask)?;
    for (file, value) in unified {
        ask(Field::CgroupsUnified, Some(file))?;
        under.unified.insert(file.clone(), value.clone());
    }
    under.devices.extend(devices.iter().cloned());
    set(pids.as_ref(), &mut under.pids, Field::PidsLimit, ask)
}

fn lay_memory(over: &LinuxMemory, under: &mut LinuxMemory, ask: Ask<'_>) -> Result<()> {
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
    set(limit.as_ref(), &mut under.limit, Field::MemLimit, ask)?;
    set(reservation.as_ref(), &mut under.reservation, Field::MemReservation, ask)?;
    set(swap.as_ref(), &mut under.swap, Field::MemSwapLimit, ask)?;
    set(kernel.as_ref(), &mut under.kernel, Field::MemKernelLimit, ask)?;
    set(kernel_tcp.as_ref(), &mut under.kernel_tcp, Field::MemTcpLimit, ask)?;
    set(swappiness.as_ref(), &mut under.swappiness, Field::MemSwappiness, ask)?;
    let oom = disable_oom_killer.as_ref();
    set(oom, &mut under.disable_oom_killer, Field::MemDisableOomKiller, ask)?;
    set(use_hierarchy.as_ref(), &mut under.use_hierarchy, Field::MemUseHierarchy, ask)
}

fn lay_cpu(over: &LinuxCpu, under: &mut LinuxCpu, ask: Ask<'_>) -> Result<()> {
    let LinuxCpu { shares, quota, period, realtime_runtime, realtime_period, cpus, mems } = over;
    set(shares.as_ref(), &mut under.shares, Field::CpuShares, ask)?;
    set(quota.as_ref(), &mut under.quota, Field::CpuQuota, ask)?;
    set(period.as_ref(), &mut under.period, Field::CpuPeriod, ask)?;
    let runtime = realtime_runtime.as_ref();
    set(runtime, &mut under.realtime_runtime, Field::CpuRealtimeRuntime, ask)?;
    let period = realtime_period.as_ref();
    set(period, &mut under.realtime_period, Field::CpuRealtimePeriod, ask)?;
    for (over, under, field) in
        [(cpus, &mut under.cpus, Field::CpuSetCpUs), (mems, &mut under.mems, Field::CpuSetMems)]
    {
        if !over.is_empty() {
            ask(field, None)?;
            over.clone_into(under);
        }
    }
    Ok(())
}

fn lay_hugepages(over: &HugepageLimit, under: &mut Vec<HugepageLimit>) {
    under.retain(|limit| limit.page_size != over.page_size);
    under.push(over.clone());
}

fn set<T: Clone>(
    over: Option<&T>,
    under: &mut Option<T>,
    field: Field,
    ask: Ask<'_>,
) -> Result<()> {
    if let Some(value) = over {
        ask(field, None)?;
        *under = Some(value.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cais_proto::nri::v1alpha1::{OptionalInt64, OptionalUInt64};

    use super::*;

    fn resources(limit: Option<i64>, shares: Option<u64>, cpus: &str) -> LinuxResources {
        LinuxResources {
            memory: Some(LinuxMemory {
                limit: limit.map(|value| OptionalInt64 { value }),
                ..Default::default()
            }),
            cpu: Some(LinuxCpu {
                shares: shares.map(|value| OptionalUInt64 { value }),
                cpus: cpus.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let mut under = resources(Some(1), Some(2), "0");
        lay(&resources(None, Some(3), ""), &mut under);
        assert_eq!(under, resources(Some(1), Some(3), "0"));
        lay(&resources(Some(0), None, "1"), &mut under);
        assert_eq!(under, resources(Some(0), Some(3), "1"));
    }

    #[test]
    fn each_field_is_asked_for_by_its_own_name() {
        let mut asked = Vec::new();
        let over = LinuxResources {
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: 1 }],
            ..resources(Some(1), None, "0-1")
        };
        lay_if(&over, &mut LinuxResources::default(), &mut |field, key| {
            asked.push((field, key.map(str::to_owned)));
            Ok(())
        })
        .unwrap();
        let keyed = |field, key: &str| (field, Some(key.to_owned()));
        assert_eq!(
            asked,
            [
                (Field::MemLimit, None),
                (Field::CpuSetCpUs, None),
                keyed(Field::HugepageLimits, "2MB"),
                keyed(Field::CgroupsUnified, "memory.high"),
            ]
        );
    }
}
