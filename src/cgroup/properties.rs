//! What systemd is told of a scope's limits.
//!
//! systemd writes all limits of its units again when it reloads, and what nobody told it is
//! unlimited. It is told first and the files are written after that, for it knows some values less
//! exactly (a CPU quota in whole percents) and some not at all (huge pages, swap on v1): those it
//! leaves alone. Names and types are those of `org.freedesktop.systemd1(5)`.

use cgroups_rs::systemd::props::Property;

use super::controller::{Controller, Version};
use super::devices::{DeviceRule, DeviceType};
use super::settings::{Current, Setting};
use super::{Cgroup, file};
use crate::error::{Context, Result};

/// The kernel's own, where a group has no period yet.
const DEFAULT_PERIOD_US: u64 = 100_000;
/// systemd keeps a quota as whole percents of a second.
const PERCENT_US: u64 = 10_000;

impl Cgroup {
    /// Tells systemd of limits that are about to be written, if a unit of its stands for the group.
    /// `devices` is `None` when they stay as they are.
    pub(super) fn tell_systemd(
        &self,
        settings: &[Setting],
        devices: Option<&[DeviceRule]>,
    ) -> Result<()> {
        let Some(scope) = &self.record.scope else { return Ok(()) };
        let current = Current { cgroup: self };
        let mut all: Vec<Property<'static>> = settings.iter().filter_map(number).collect();
        all.extend(settings.iter().filter_map(set_of_numbers));
        all.extend(quota(settings, &current));
        // On v2 a program of ours decides about devices, and systemd attaches none of its own.
        let hierarchy = self.controller(Controller::Devices).map(|(hierarchy, _)| hierarchy);
        if let Some(rules) = devices
            && hierarchy.is_some_and(|hierarchy| hierarchy.version == Version::V1)
        {
            let drivers = file::read_path("/proc/devices").context("read /proc/devices")?;
            all.push(("DevicePolicy", "strict".into()));
            all.push(("DeviceAllow", allowed(rules, &drivers).into()));
        }
        scope.set(&all)
    }
}

/// Limits that systemd has as a number, of which the largest is unlimited.
fn number(setting: &Setting) -> Option<Property<'static>> {
    let name = match setting.file.as_str() {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "memory.limit_in_bytes" => "MemoryLimit",
        "cpu.weight" => "CPUWeight",
        "cpu.shares" => "CPUShares",
        "io.weight" => "IOWeight",
        "pids.max" => "TasksMax",
        _ => return None,
    };
    let value = match setting.value.as_str() {
        "-1" => u64::MAX,
        text => file::parse_number(text)?,
    };
    Some((name, value.into()))
}

/// CPUs and memory nodes: systemd knows them on v2 only, as bits from the lowest byte on.
fn set_of_numbers(setting: &Setting) -> Option<Property<'static>> {
    let name = match setting.file.as_str() {
        "cpuset.cpus" => "AllowedCPUs",
        "cpuset.mems" => "AllowedMemoryNodes",
        _ => return None,
    };
    let mut bits: Vec<u8> = Vec::new();
    for range in setting.value.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        for number in first.parse::<u16>().ok()?..=last.parse().ok()? {
            let byte = usize::from(number / 8);
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            *bits.get_mut(byte)? |= 1 << (number % 8);
        }
    }
    Some((name, bits.into()))
}

/// Quota and period, which depend on each other: the one that is not set stays as it is.
fn quota(settings: &[Setting], current: &Current<'_>) -> Vec<Property<'static>> {
    let of = |name: &str| settings.iter().find(|it| it.file == name).map(|it| it.value.clone());
    let now = |name: &str| current.text(Controller::Cpu, name).unwrap_or_default();
    let (quota, period) = if let Some(maximum) = of("cpu.max") {
        let mut words = maximum.split_whitespace();
        let quota = words.next().map(str::to_owned);
        let old = now("cpu.max").split_whitespace().nth(1).map(str::to_owned);
        (quota, words.next().map(str::to_owned).or(old))
    } else {
        let files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"];
        let [quota, period] = files.map(of);
        if quota.is_none() && period.is_none() {
            return Vec::new();
        }
        let [old_quota, old_period] = files.map(now);
        (quota.or(Some(old_quota)), period.or(Some(old_period)))
    };
    let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
    let period = number(period).filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD_US);
    // `max` and -1 are no numbers.
    let per_second = number(quota).map_or(u64::MAX, |quota| {
        let exact = quota.saturating_mul(1_000_000).div_ceil(period);
        // Up, so that a container never gets less than it was given.
        exact.div_ceil(PERCENT_US).saturating_mul(PERCENT_US)
    });
    vec![("CPUQuotaPeriodUSec", period.into()), ("CPUQuotaPerSecUSec", per_second.into())]
}

/// `DeviceAllow` of `systemd.resource-control(5)`: a node, or all of a driver, and the letters.
fn allowed(rules: &[DeviceRule], drivers: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for rule in rules {
        let kind = match rule.device {
            DeviceType::Character => "char",
            DeviceType::Block => "block",
        };
        let letters = rule.access.letters();
        match (rule.major, rule.minor) {
            (Some(major), Some(minor)) => {
                all.push((format!("/dev/{kind}/{major}:{minor}"), letters));
            }
            // systemd has words for all of a driver, by its name.
            (Some(major), None) => {
                let names = names_of(drivers, rule.device, major);
                all.extend(names.map(|name| (format!("{kind}-{name}"), letters.clone())));
            }
            (None, _) => all.push((format!("{kind}-*"), letters)),
        }
    }
    all
}

/// The drivers that `/proc/devices` has for a number.
fn names_of(drivers: &str, device: DeviceType, major: u32) -> impl Iterator<Item = &str> {
    let title = match device {
        DeviceType::Character => "Character devices:",
        DeviceType::Block => "Block devices:",
    };
    let lines = drivers.lines().skip_while(move |line| *line != title).skip(1);
    lines.take_while(|line| !line.is_empty()).filter_map(move |line| {
        let (number, name) = line.trim_start().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(controller: Controller, file: &str, value: &str) -> Setting {
        Setting::new(controller, file, value)
    }

    fn shown(property: Option<Property<'static>>) -> Option<(&'static str, String)> {
        property.map(|(name, value)| (name, value.to_string()))
    }

    #[test]
    fn limits_have_the_words_of_systemd() {
        let said =
            |controller, file: &str, value: &str| shown(number(&setting(controller, file, value)));
        let max = u64::MAX.to_string();
        let expected = |name: &'static str, value: &str| Some((name, format!("uint64 {value}")));
        let memory = Controller::Memory;
        assert_eq!(said(memory, "memory.max", "4096"), expected("MemoryMax", "4096"));
        assert_eq!(said(memory, "memory.max", "max"), expected("MemoryMax", &max));
        assert_eq!(said(memory, "memory.limit_in_bytes", "-1"), expected("MemoryLimit", &max));
        assert_eq!(said(Controller::Cpu, "cpu.shares", "512"), expected("CPUShares", "512"));
        assert_eq!(said(Controller::Pids, "pids.max", "5"), expected("TasksMax", "5"));
        assert_eq!(said(Controller::Hugetlb, "hugetlb.2MB.max", "0"), None);
    }

    #[test]
    fn a_list_of_cpus_becomes_bits() {
        let said = |list: &str| {
            shown(set_of_numbers(&setting(Controller::Cpuset, "cpuset.cpus", list))).unwrap().1
        };
        assert_eq!(said("0-2,4"), "[byte 0x17]");
        assert_eq!(said("9"), "[byte 0x00, 0x02]");
    }

    #[test]
    fn devices_are_named_by_number_or_by_driver() {
        const DRIVERS: &str = "\
Character devices:
  1 mem
136 pts
136 ttyx

Block devices:
  1 ramdisk
";
        let rule = |device, major, minor| DeviceRule {
            device,
            major,
            minor,
            access: crate::cgroup::DeviceAccess::ALL,
        };
        let rules = [
            rule(DeviceType::Character, Some(1), Some(3)),
            rule(DeviceType::Character, Some(136), None),
            rule(DeviceType::Block, Some(1), None),
            rule(DeviceType::Block, None, None),
        ];
        let names: Vec<String> = allowed(&rules, DRIVERS).into_iter().map(|it| it.0).collect();
        assert_eq!(names, ["/dev/char/1:3", "char-pts", "char-ttyx", "block-ramdisk", "block-*"]);
    }
}
