//! What a group uses, in the same terms on v1 and v2.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::{Cgroup, file};
use crate::error::{Context, Result};

/// What no file of this machine tells is 0 or `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stats {
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) pids: Pids,
    pub(crate) io: Vec<Io>,
    pub(crate) io_pressure: Option<Pressure>,
    pub(crate) hugetlb: Vec<Hugetlb>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cpu {
    pub(crate) usage_ns: u64,
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
    pub(crate) periods: u64,
    pub(crate) throttled_periods: u64,
    pub(crate) throttled_ns: u64,
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
    pub(crate) kernel: u64,
    pub(crate) max_usage: u64,
    pub(crate) failures: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    /// `None`: unlimited.
    pub(crate) limit: Option<u64>,
    /// Limit less working set.
    pub(crate) available: Option<u64>,
    /// `None`: swap is not accounted.
    pub(crate) swap_usage: Option<u64>,
    /// Of swap alone; `None`: unlimited or not accounted.
    pub(crate) swap_limit: Option<u64>,
    pub(crate) oom_kills: u64,
    pub(crate) pressure: Option<Pressure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pids {
    pub(crate) current: u64,
    /// `None`: unlimited.
    pub(crate) limit: Option<u64>,
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
    pub(crate) max_usage: u64,
    pub(crate) failures: u64,
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

impl Cgroup {
    /// Reads everything at once. A group that is gone gives zeros.
    pub(crate) fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            pids: self.pids_stats()?,
            io: self.io_stats()?,
            io_pressure: self.unified().and_then(|(_, dir)| pressure(dir, "io.pressure")),
            hugetlb: self.hugetlb_stats()?,
        })
    }

    fn cpu_stats(&self) -> Result<Cpu> {
        let mut cpu = Cpu::default();
        if let Some((_, dir)) = self.unified() {
            let stat = self.text(dir, "cpu.stat")?;
            let ns = |key| file::keyed(&stat, key).unwrap_or(0).saturating_mul(1000);
            cpu.usage_ns = ns("usage_usec");
            cpu.user_ns = ns("user_usec");
            cpu.system_ns = ns("system_usec");
            cpu.throttled_ns = ns("throttled_usec");
            cpu.pressure = pressure(dir, "cpu.pressure");
        } else if let Some((_, dir)) = self.controller(Controller::Cpuacct) {
            cpu.usage_ns = self.number(dir, "cpuacct.usage")?.unwrap_or(0);
            let stat = self.text(dir, "cpuacct.stat")?;
            let ns = |key| file::keyed(&stat, key).unwrap_or(0).saturating_mul(NS_PER_TICK);
            cpu.user_ns = ns("user");
            cpu.system_ns = ns("system");
        }
        if let Some((hierarchy, dir)) = self.controller(Controller::Cpu) {
            let stat = self.text(dir, "cpu.stat")?;
            let value = |key| file::keyed(&stat, key).unwrap_or(0);
            cpu.periods = value("nr_periods");
            cpu.throttled_periods = value("nr_throttled");
            if hierarchy.version == Version::V1 {
                cpu.throttled_ns = value("throttled_time");
            }
        }
        Ok(cpu)
    }

    fn memory_stats(&self) -> Result<Memory> {
        let Some((hierarchy, dir)) = self.controller(Controller::Memory) else {
            return Ok(Memory::default());
        };
        let stat = self.text(dir, "memory.stat")?;
        let value = |key| file::keyed(&stat, key).unwrap_or(0);
        let number = |name| self.number(dir, name);
        let mut memory = match hierarchy.version {
            Version::V1 => {
                let finite = |number: Option<u64>| number.filter(|limit| *limit < V1_UNLIMITED);
                let usage = number("memory.usage_in_bytes")?.unwrap_or(0);
                let limit = finite(number("memory.limit_in_bytes")?);
                let both = number("memory.memsw.usage_in_bytes")?;
                let total = finite(number("memory.memsw.limit_in_bytes")?);
                Memory {
                    usage,
                    working_set: usage.saturating_sub(value("total_inactive_file")),
                    rss: value("total_rss"),
                    cache: value("total_cache"),
                    mapped_file: value("total_mapped_file"),
                    kernel: number("memory.kmem.usage_in_bytes")?.unwrap_or(0),
                    max_usage: number("memory.max_usage_in_bytes")?.unwrap_or(0),
                    failures: number("memory.failcnt")?.unwrap_or(0),
                    page_faults: value("total_pgfault"),
                    major_page_faults: value("total_pgmajfault"),
                    limit,
                    swap_usage: both.map(|both| both.saturating_sub(usage)),
                    swap_limit: limit
                        .and_then(|limit| total.map(|total| total.saturating_sub(limit))),
                    oom_kills: self.counted(dir, "memory.oom_control")?,
                    ..Memory::default()
                }
            }
            Version::V2 => {
                let finite = |number: Option<u64>| number.filter(|limit| *limit != u64::MAX);
                let usage = number("memory.current")?.unwrap_or(0);
                let events = self.text(dir, "memory.events")?;
                Memory {
                    usage,
                    working_set: usage.saturating_sub(value("inactive_file")),
                    rss: value("anon"),
                    cache: value("file"),
                    mapped_file: value("file_mapped"),
                    kernel: value("kernel"),
                    max_usage: number("memory.peak")?.unwrap_or(0),
                    failures: file::keyed(&events, "max").unwrap_or(0),
                    page_faults: value("pgfault"),
                    major_page_faults: value("pgmajfault"),
                    limit: finite(number("memory.max")?),
                    swap_usage: number("memory.swap.current")?,
                    swap_limit: finite(number("memory.swap.max")?),
                    oom_kills: file::keyed(&events, "oom_kill").unwrap_or(0),
                    ..Memory::default()
                }
            }
        };
        memory.available = memory.limit.map(|limit| limit.saturating_sub(memory.working_set));
        memory.pressure = self.unified().and_then(|(_, dir)| pressure(dir, "memory.pressure"));
        Ok(memory)
    }

    fn pids_stats(&self) -> Result<Pids> {
        let Some((_, dir)) = self.controller(Controller::Pids) else { return Ok(Pids::default()) };
        Ok(Pids {
            current: self.number(dir, "pids.current")?.unwrap_or(0),
            limit: self.number(dir, "pids.max")?.filter(|limit| *limit != u64::MAX),
        })
    }

    fn hugetlb_stats(&self) -> Result<Vec<Hugetlb>> {
        let Some((hierarchy, dir)) = self.controller(Controller::Hugetlb) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for size in hugepage_sizes() {
            let file = |suffix: &str| format!("hugetlb.{size}.{suffix}");
            let (usage, max_usage, failures) = match hierarchy.version {
                Version::V1 => (
                    self.number(dir, &file("usage_in_bytes"))?,
                    self.number(dir, &file("max_usage_in_bytes"))?,
                    self.number(dir, &file("failcnt"))?,
                ),
                Version::V2 => (
                    self.number(dir, &file("current"))?,
                    None,
                    Some(self.text(dir, &file("events"))?)
                        .and_then(|events| file::keyed(&events, "max")),
                ),
            };
            let Some(usage) = usage else { continue };
            let [max_usage, failures] = [max_usage, failures].map(|it| it.unwrap_or(0));
            all.push(Hugetlb { size, usage, max_usage, failures });
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

    fn counted(&self, dir: &OwnedFd, name: &str) -> Result<u64> {
        Ok(file::keyed(&self.text(dir, name)?, "oom_kill").unwrap_or(0))
    }

    /// The content, or nothing when there is no such file (any more).
    fn text(&self, dir: &OwnedFd, name: &str) -> Result<String> {
        match file::read(dir, name) {
            Ok(text) => Ok(text),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(String::new()),
            Err(errno) => {
                Err(errno).with_context(|| format!("read {name} of cgroup {}", self.record.path))
            }
        }
    }

    fn number(&self, dir: &OwnedFd, name: &str) -> Result<Option<u64>> {
        Ok(file::parse_number(&self.text(dir, name)?))
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

/// `None` when the kernel has it compiled out or switched off.
fn pressure(dir: &OwnedFd, name: &str) -> Option<Pressure> {
    parse_pressure(&file::read(dir, name).ok()?)
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
    fn pressure_is_read_where_the_kernel_has_it() {
        let text = "some avg10=1.50 avg60=0.00 avg300=12.34 total=99\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = parse_pressure(text).unwrap();
        assert_eq!((pressure.some.average_10, pressure.some.average_300), (150, 1234));
        assert_eq!((pressure.some.total_us, pressure.full.total_us), (99, 7));
        assert_eq!(parse_pressure(""), None);
    }

    #[test]
    fn page_sizes_have_the_names_of_the_controllers_files() {
        assert_eq!([64, 2048, 1 << 20].map(hugepage_name), ["64KB", "2MB", "1GB"]);
    }
}
