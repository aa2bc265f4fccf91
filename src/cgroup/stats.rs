//! What a group uses, in the same terms on v1 and v2.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::hierarchy::Hierarchy;
use super::{Cgroup, file};
use crate::error::{Context, Result};

/// What no file of this machine tells is 0 or `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stats {
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    /// Processes and threads.
    pub(crate) tasks: u64,
    pub(crate) io_pressure: Option<Pressure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cpu {
    pub(crate) usage_ns: u64,
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
    pub(crate) pressure: Option<Pressure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    /// Usage without the file cache that the kernel would drop first.
    pub(crate) working_set: u64,
    /// Anonymous memory.
    pub(crate) rss: u64,
    pub(crate) cache: u64,
    pub(crate) mapped_file: u64,
    pub(crate) faults: Faults,
    /// Without the groups below; the same where the kernel does not tell them apart (v2).
    pub(crate) own_faults: Faults,
    /// `None`: unlimited.
    pub(crate) limit: Option<u64>,
    /// Limit less working set.
    pub(crate) available: Option<u64>,
    /// `None`: swap is not accounted.
    pub(crate) swap_usage: Option<u64>,
    /// Of swap alone; `None`: unlimited or not accounted.
    pub(crate) swap_limit: Option<u64>,
    pub(crate) pressure: Option<Pressure>,
}

/// Page faults since the group was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Faults {
    pub(crate) all: u64,
    pub(crate) major: u64,
}

/// Pressure stall information.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pressure {
    pub(crate) some: Stall,
    pub(crate) full: Stall,
}

/// Averages are in hundredths of a percent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stall {
    pub(crate) average_10: u64,
    pub(crate) average_60: u64,
    pub(crate) average_300: u64,
    pub(crate) total_us: u64,
}

/// A v1 limit of at least this many bytes is the kernel's way to write none.
const V1_UNLIMITED: u64 = 1 << 62;
/// `USER_HZ`, the unit of `cpuacct.stat`, is 100 for every program.
const NS_PER_TICK: u64 = 10_000_000;

/// Whether a file of the statistics is in this hierarchy.
pub(super) fn are_in(hierarchy: &Hierarchy) -> bool {
    hierarchy.version == Version::V2
        || [Controller::Cpuacct, Controller::Memory, Controller::Pids]
            .into_iter()
            .any(|controller| hierarchy.has(controller))
}

impl Cgroup {
    /// Reads what the kubelet asks for every few seconds. A group that is gone gives zeros.
    pub(super) fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            tasks: match self.controller(Controller::Pids) {
                Some((_, dir)) => self.number(dir, "pids.current")?.unwrap_or(0),
                None => 0,
            },
            io_pressure: self.unified().and_then(|(_, dir)| pressure(dir, "io.pressure")),
        })
    }

    fn cpu_stats(&self) -> Result<Cpu> {
        let mut cpu = Cpu::default();
        if let Some((_, dir)) = self.unified() {
            let stat = self.text(dir, "cpu.stat")?;
            [cpu.usage_ns, cpu.user_ns, cpu.system_ns] =
                file::all_keyed(&stat, ["usage_usec", "user_usec", "system_usec"])
                    .map(|microseconds| microseconds.saturating_mul(1000));
            cpu.pressure = pressure(dir, "cpu.pressure");
        } else if let Some((_, dir)) = self.controller(Controller::Cpuacct) {
            cpu.usage_ns = self.number(dir, "cpuacct.usage")?.unwrap_or(0);
            let stat = self.text(dir, "cpuacct.stat")?;
            [cpu.user_ns, cpu.system_ns] = file::all_keyed(&stat, ["user", "system"])
                .map(|ticks| ticks.saturating_mul(NS_PER_TICK));
        }
        Ok(cpu)
    }

    fn memory_stats(&self) -> Result<Memory> {
        let Some((hierarchy, dir)) = self.controller(Controller::Memory) else {
            return Ok(Memory::default());
        };
        let mut memory = match hierarchy.version {
            Version::V1 => self.memory_v1(dir)?,
            Version::V2 => self.memory_v2(dir)?,
        };
        memory.available = memory.limit.map(|limit| limit.saturating_sub(memory.working_set));
        memory.pressure = self.unified().and_then(|(_, dir)| pressure(dir, "memory.pressure"));
        Ok(memory)
    }

    fn memory_v1(&self, dir: &OwnedFd) -> Result<Memory> {
        let stat = self.text(dir, "memory.stat")?;
        let [inactive_file, rss, cache, mapped_file, swap] = file::all_keyed(
            &stat,
            ["total_inactive_file", "total_rss", "total_cache", "total_mapped_file", "total_swap"],
        );
        let [all, major, own_all, own_major] =
            file::all_keyed(&stat, ["total_pgfault", "total_pgmajfault", "pgfault", "pgmajfault"]);
        let usage = self.number(dir, "memory.usage_in_bytes")?.unwrap_or(0);
        let limit = finite_v1(self.number(dir, "memory.limit_in_bytes")?);
        let both = self.number(dir, "memory.memsw.usage_in_bytes")?;
        let total = finite_v1(self.number(dir, "memory.memsw.limit_in_bytes")?);
        Ok(Memory {
            usage,
            working_set: usage.saturating_sub(inactive_file),
            rss,
            cache,
            mapped_file,
            faults: Faults { all, major },
            own_faults: Faults { all: own_all, major: own_major },
            limit,
            // The two are read one after the other: what came in between must not count as swap.
            swap_usage: both.map(|_| swap),
            swap_limit: limit.and_then(|limit| total.map(|total| total.saturating_sub(limit))),
            ..Memory::default()
        })
    }

    fn memory_v2(&self, dir: &OwnedFd) -> Result<Memory> {
        let stat = self.text(dir, "memory.stat")?;
        let [inactive_file, rss, cache, mapped_file, all, major] = file::all_keyed(
            &stat,
            ["inactive_file", "anon", "file", "file_mapped", "pgfault", "pgmajfault"],
        );
        let usage = self.number(dir, "memory.current")?.unwrap_or(0);
        let faults = Faults { all, major };
        Ok(Memory {
            usage,
            working_set: usage.saturating_sub(inactive_file),
            rss,
            cache,
            mapped_file,
            faults,
            own_faults: faults,
            limit: finite_v2(self.number(dir, "memory.max")?),
            swap_usage: self.number(dir, "memory.swap.current")?,
            swap_limit: finite_v2(self.number(dir, "memory.swap.max")?),
            ..Memory::default()
        })
    }

    /// The content, or nothing when there is no such file (any more).
    pub(super) fn text(&self, dir: &OwnedFd, name: &str) -> Result<String> {
        match file::read_piece(dir, name) {
            Ok(text) => Ok(text),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(String::new()),
            Err(errno) => {
                Err(errno).with_context(|| format!("read {name} of cgroup {}", self.record.path))
            }
        }
    }

    pub(super) fn number(&self, dir: &OwnedFd, name: &str) -> Result<Option<u64>> {
        Ok(file::parse_number(&self.text(dir, name)?))
    }
}

pub(super) fn finite_v1(number: Option<u64>) -> Option<u64> {
    number.filter(|limit| *limit < V1_UNLIMITED)
}

pub(super) fn finite_v2(number: Option<u64>) -> Option<u64> {
    number.filter(|limit| *limit != u64::MAX)
}

/// `None` when the kernel has it compiled out or switched off.
fn pressure(dir: &OwnedFd, name: &str) -> Option<Pressure> {
    parse_pressure(&file::read_piece(dir, name).ok()?)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`.
fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    let mut any = false;
    for line in text.lines() {
        let (kind, values) = line.split_once(' ')?;
        let stall = match kind {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        any = true;
        for (key, value) in values.split_whitespace().filter_map(|word| word.split_once('=')) {
            // Always two digits after the point.
            let Ok(number) = value.replace('.', "").parse() else { continue };
            match key {
                "avg10" => stall.average_10 = number,
                "avg60" => stall.average_60 = number,
                "avg300" => stall.average_300 = number,
                "total" => stall.total_us = number,
                _ => {}
            }
        }
    }
    any.then_some(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_where_the_kernel_has_it() {
        let text = "some avg10=1.50 avg60=0.00 avg300=12.34 total=99\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = parse_pressure(text).unwrap();
        assert_eq!((pressure.some.average_10, pressure.some.average_300), (150, 1234));
        assert_eq!((pressure.some.total_us, pressure.full.total_us), (99, 7));
        assert_eq!(parse_pressure(""), None);
    }
}
