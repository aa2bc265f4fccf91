//! What a group uses and may use beyond its [`Stats`](super::Stats): for those who scrape metrics.

use std::os::fd::OwnedFd;

use super::controller::{Controller, Version};
use super::stats::{finite_v1, finite_v2};
use super::{Cgroup, cpu, file};
use crate::error::Result;

/// What no file of this machine tells is `None`, empty, or 0 for a counter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Details {
    pub(crate) throttling: Throttling,
    pub(crate) limits: Limits,
    pub(crate) memory: MemoryDetails,
    pub(crate) io: Vec<Io>,
    pub(crate) hugetlb: Vec<Hugetlb>,
}

/// By the quota of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Throttling {
    pub(crate) periods: u64,
    pub(crate) throttled_periods: u64,
    pub(crate) throttled_ns: u64,
}

/// As the kernel has them now. `None`: unlimited, or no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    pub(crate) cpu_period_us: Option<u64>,
    pub(crate) cpu_quota_us: Option<u64>,
    /// v1 shares, also where the kernel has a weight.
    pub(crate) cpu_shares: Option<u64>,
    /// v1: of memory and swap together; v2: of swap alone.
    pub(crate) swap: Option<u64>,
    /// What is not taken from the group under pressure: v1's soft limit, v2's `memory.min`.
    pub(crate) reservation: Option<u64>,
    /// Processes and threads.
    pub(crate) tasks: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MemoryDetails {
    pub(crate) kernel: u64,
    pub(crate) max_usage: u64,
    /// How often the limit was hit.
    pub(crate) failures: u64,
    pub(crate) oom_kills: u64,
}

/// One block device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Io {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hugetlb {
    /// `2MB`, …
    pub(crate) size: String,
    pub(crate) usage: u64,
    /// `None`: the kernel keeps no peak (v2).
    pub(crate) max_usage: Option<u64>,
}

impl Cgroup {
    /// Reads it all. A group that is gone gives zeros.
    pub(crate) fn details(&self) -> Result<Details> {
        let mut details = Details {
            throttling: self.throttling()?,
            io: self.io_stats()?,
            hugetlb: self.hugetlb_stats()?,
            ..Details::default()
        };
        self.cpu_limits(&mut details.limits)?;
        if let Some((hierarchy, dir)) = self.controller(Controller::Memory) {
            match hierarchy.version {
                Version::V1 => self.memory_details_v1(dir, &mut details)?,
                Version::V2 => self.memory_details_v2(dir, &mut details)?,
            }
        }
        if let Some((_, dir)) = self.controller(Controller::Pids) {
            details.limits.tasks = finite_v2(self.number(dir, "pids.max")?);
        }
        Ok(details)
    }

    fn throttling(&self) -> Result<Throttling> {
        let Some((hierarchy, dir)) = self.controller(Controller::Cpu) else {
            return Ok(Throttling::default());
        };
        let stat = self.text(dir, "cpu.stat")?;
        let value = |key| file::keyed(&stat, key).unwrap_or(0);
        Ok(Throttling {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_ns: match hierarchy.version {
                Version::V1 => value("throttled_time"),
                Version::V2 => value("throttled_usec").saturating_mul(1000),
            },
        })
    }

    fn cpu_limits(&self, limits: &mut Limits) -> Result<()> {
        let Some((hierarchy, dir)) = self.controller(Controller::Cpu) else { return Ok(()) };
        match hierarchy.version {
            Version::V1 => {
                limits.cpu_period_us = self.number(dir, "cpu.cfs_period_us")?;
                // -1, which is no number here, when there is none.
                limits.cpu_quota_us = self.number(dir, "cpu.cfs_quota_us")?;
                limits.cpu_shares = self.number(dir, "cpu.shares")?;
            }
            Version::V2 => {
                let max = self.text(dir, "cpu.max")?;
                let mut words = max.split_whitespace().map(file::parse_number);
                limits.cpu_quota_us = finite_v2(words.next().flatten());
                limits.cpu_period_us = words.next().flatten();
                limits.cpu_shares = self.number(dir, "cpu.weight")?.map(cpu::shares);
            }
        }
        Ok(())
    }

    fn memory_details_v1(&self, dir: &OwnedFd, details: &mut Details) -> Result<()> {
        let number = |name| self.number(dir, name);
        details.memory = MemoryDetails {
            kernel: number("memory.kmem.usage_in_bytes")?.unwrap_or(0),
            max_usage: number("memory.max_usage_in_bytes")?.unwrap_or(0),
            failures: number("memory.failcnt")?.unwrap_or(0),
            oom_kills: file::keyed(&self.text(dir, "memory.oom_control")?, "oom_kill").unwrap_or(0),
        };
        details.limits.swap = finite_v1(number("memory.memsw.limit_in_bytes")?);
        details.limits.reservation = finite_v1(number("memory.soft_limit_in_bytes")?);
        Ok(())
    }

    fn memory_details_v2(&self, dir: &OwnedFd, details: &mut Details) -> Result<()> {
        let events = self.text(dir, "memory.events")?;
        details.memory = MemoryDetails {
            kernel: file::keyed(&self.text(dir, "memory.stat")?, "kernel").unwrap_or(0),
            max_usage: self.number(dir, "memory.peak")?.unwrap_or(0),
            failures: file::keyed(&events, "max").unwrap_or(0),
            oom_kills: file::keyed(&events, "oom_kill").unwrap_or(0),
        };
        details.limits.swap = finite_v2(self.number(dir, "memory.swap.max")?);
        details.limits.reservation = finite_v2(self.number(dir, "memory.min")?);
        Ok(())
    }

    fn hugetlb_stats(&self) -> Result<Vec<Hugetlb>> {
        let Some((hierarchy, dir)) = self.controller(Controller::Hugetlb) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for size in hugepage_sizes() {
            let file = |suffix: &str| format!("hugetlb.{size}.{suffix}");
            let (usage, max_usage) = match hierarchy.version {
                Version::V1 => (
                    self.number(dir, &file("usage_in_bytes"))?,
                    self.number(dir, &file("max_usage_in_bytes"))?,
                ),
                Version::V2 => (self.number(dir, &file("current"))?, None),
            };
            let Some(usage) = usage else { continue };
            all.push(Hugetlb { size, usage, max_usage });
        }
        Ok(all)
    }

    fn io_stats(&self) -> Result<Vec<Io>> {
        let Some((hierarchy, dir)) = self.controller(Controller::Io) else {
            return Ok(Vec::new());
        };
        if hierarchy.version == Version::V2 {
            return Ok(parse_io_stat(&self.text(dir, "io.stat")?));
        }
        let bytes = self.text(dir, "blkio.throttle.io_service_bytes_recursive")?;
        let count = self.text(dir, "blkio.throttle.io_serviced_recursive")?;
        Ok(parse_blkio(&bytes, &count))
    }
}

/// `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N …`
fn parse_io_stat(text: &str) -> Vec<Io> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device_number) else { continue };
        let mut io = Io { major, minor, ..Io::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => io.read_bytes = value,
                "wbytes" => io.write_bytes = value,
                "rios" => io.reads = value,
                "wios" => io.writes = value,
                _ => {}
            }
        }
        all.push(io);
    }
    all
}

/// Two files of `MAJOR:MINOR Operation N`.
fn parse_blkio(bytes: &str, count: &str) -> Vec<Io> {
    let mut all: Vec<Io> = Vec::new();
    for (text, is_bytes) in [(bytes, true), (count, false)] {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [device, operation, value] = words.as_slice() else { continue };
            let (Some((major, minor)), Ok(value)) = (device_number(device), value.parse()) else {
                continue;
            };
            let at = all.iter().position(|io| io.major == major && io.minor == minor);
            let mut io = at.map_or(Io { major, minor, ..Io::default() }, |at| all.swap_remove(at));
            match (*operation, is_bytes) {
                ("Read", true) => io.read_bytes = value,
                ("Read", false) => io.reads = value,
                ("Write", true) => io.write_bytes = value,
                ("Write", false) => io.writes = value,
                _ => {}
            }
            all.push(io);
        }
    }
    all
}

fn device_number(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The sizes this machine has, named as the files of the controller are.
fn hugepage_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut sizes: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(hugepage_name).collect()
}

fn hugepage_name(kib: u64) -> String {
    match kib {
        kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_io_reads_the_same_from_both_versions() {
        let expected = Io {
            major: 254,
            minor: 70_000,
            read_bytes: 4096,
            write_bytes: 10,
            reads: 1,
            writes: 2,
        };
        let v2 = "254:70000 rbytes=4096 wbytes=10 rios=1 wios=2 dbytes=0 dios=0\n8:0 \n";
        assert_eq!(parse_io_stat(v2).first(), Some(&expected));
        let bytes = "254:70000 Read 4096\n254:70000 Write 10\n254:70000 Total 4106\nTotal 4106\n";
        let count = "254:70000 Read 1\n254:70000 Write 2\nTotal 3\n";
        assert_eq!(parse_blkio(bytes, count), [expected]);
    }

    #[test]
    fn page_sizes_have_the_names_of_the_controllers_files() {
        assert_eq!([64, 2048, 1 << 20].map(hugepage_name), ["64KB", "2MB", "1GB"]);
    }
}
