//! The small languages of single flags.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::Refused;
use crate::error::reason;
use crate::units;

/// `0.5` CPUs, in billionths.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    let number: f64 =
        text.parse().map_err(|_| format!("failed to parse {text} as a rational number"))?;
    let nanos = number * 1e9;
    if nanos.fract().abs() > 1e-6 {
        return Err("value is too precise".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, reason = "no machine has so many")]
    Ok(nanos.round() as i64)
}

/// A size, or `-1` for no limit.
pub(crate) fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { units::parse_bytes(text) }
}

/// `KEY=VALUE` of files and flags. A name alone has this process's value; of a file it is
/// left out without one.
pub(crate) fn environment(flags: &[String], files: &[String]) -> Result<Vec<String>, Refused> {
    let mut all = Vec::new();
    for path in files {
        for line in file_lines(path)? {
            let name = line.split('=').next().unwrap_or_default();
            if name.contains(char::is_whitespace) {
                return Err(format!(
                    "poorly formatted environment: variable '{name}' contains whitespaces"
                ));
            }
            if name.is_empty() {
                return Err(format!(
                    "poorly formatted environment: no variable name on line '{line}'"
                ));
            }
            all.extend(with_own_value(&line));
        }
    }
    for text in flags {
        if text.is_empty() || text.starts_with('=') {
            return Err(format!(
                "invalid argument {text:?} for \"-e, --env\" flag: invalid environment variable: {text}"
            ));
        }
        // A name that has no value here takes the image's value away.
        all.push(with_own_value(text).unwrap_or_else(|| text.clone()));
    }
    Ok(all)
}

fn with_own_value(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    std::env::var(text).ok().map(|value| format!("{text}={value}"))
}

/// Lines that are neither empty nor comments.
fn file_lines(path: &str) -> Result<Vec<String>, Refused> {
    let text = fs::read(path).map_err(|error| format!("open {path}: {}", reason(&error)))?;
    let text = String::from_utf8(text)
        .map_err(|_| format!("env file {path} contains invalid utf8 bytes"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines =
        text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// `KEY=VALUE`, and keys alone with an empty value, in flags. The last of several wins.
pub(crate) fn labels(flags: &[String], files: &[String]) -> Result<Value, Refused> {
    let mut all = Vec::new();
    for path in files {
        all.extend(file_lines(path)?.into_iter().filter(|line| line.contains('=')));
    }
    all.extend_from_slice(flags);
    Ok(pairs(&all))
}

pub(crate) fn pairs(texts: &[String]) -> Value {
    let pairs = texts.iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), Value::from(value))
    });
    Value::Object(pairs.collect())
}

/// Capabilities to add and to drop, as the kernel's names in their order. `ALL` stands for every one, and what is added is not
/// dropped.
pub(super) fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let named = |texts: &[String]| {
        let upper = texts.iter().map(|it| it.trim().to_uppercase());
        let full = upper
            .map(|it| if it == "ALL" || it.starts_with("CAP_") { it } else { format!("CAP_{it}") });
        let names: BTreeSet<String> = full.collect();
        if names.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { names }
    };
    let (add, mut drop) = (named(add), named(drop));
    drop.retain(|it| !add.contains(it));
    (add.into_iter().collect(), drop.into_iter().collect())
}

/// `PATH[:OPTIONS]` to options by path.
pub(super) fn tmpfs(texts: &[String]) -> Value {
    let pairs = texts.iter().map(|text| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), Value::from(options))
    });
    Value::Object(pairs.collect())
}

/// `host:ip` and `host=ip`, as `host:ip`.
pub(crate) fn extra_hosts(texts: &[String]) -> Result<Vec<String>, Refused> {
    texts.iter().map(|text| extra_host(text)).collect()
}

fn extra_host(text: &str) -> Result<String, Refused> {
    let refused =
        |what: String| format!("invalid argument {text:?} for \"--add-host\" flag: {what}");
    let pair = text.split_once('=').or_else(|| text.split_once(':'));
    let (host, address) = pair
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| refused(format!("bad format for add-host: {text:?}")))?;
    let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(refused(format!("invalid IP address in add-host: {address:?}")));
    }
    Ok(format!("{host}:{bare}"))
}

/// `NAME=SOFT[:HARD]`
pub(crate) fn ulimit(text: &str) -> Result<Value, Refused> {
    let refused = |what: &str| format!("invalid argument {text:?} for \"--ulimit\" flag: {what}");
    let (name, limits) =
        text.split_once('=').ok_or_else(|| refused(&format!("invalid ulimit argument: {text}")))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |it: &str| {
        it.parse::<i64>()
            .map_err(|_| refused(&format!("strconv.ParseInt: parsing {it:?}: invalid syntax")))
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(refused(&format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(json!({ "Name": name, "Soft": soft, "Hard": hard }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    Weight,
    Bytes,
    Count,
}

/// `PATH:NUMBER`
pub(super) fn device_rate(text: &str, rate: Rate) -> Result<Value, Refused> {
    let bad = || format!("bad format: {text}");
    let (path, number) = text.split_once(':').ok_or_else(bad)?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    let invalid = |what: &str| format!("invalid {what} for device: {text}");
    match rate {
        Rate::Weight => {
            let weight: u16 = number.parse().map_err(|_| invalid("weight"))?;
            if weight != 0 && !(10..=1000).contains(&weight) {
                return Err(invalid("weight"));
            }
            Ok(json!({ "Path": path, "Weight": weight }))
        }
        Rate::Bytes => {
            let rate = units::parse_bytes(number).map_err(|_| {
                format!("{}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb", invalid("rate"))
            })?;
            Ok(json!({ "Path": path, "Rate": rate }))
        }
        Rate::Count => {
            let rate: u64 = number.parse().map_err(|_| {
                format!("{}. The correct format is <device-path>:<number>. Number must be a positive integer", invalid("rate"))
            })?;
            Ok(json!({ "Path": path, "Rate": rate }))
        }
    }
}

pub(super) enum Device {
    Node(Value),
    /// `vendor/class=name`
    Cdi(String),
}

/// `vendor.com/class=name`; the daemon looks closer.
pub(crate) fn is_of_cdi(device: &str) -> bool {
    device.split_once('=').is_some_and(|(kind, _)| !kind.starts_with('/') && kind.contains('/'))
}

/// `PATH[:INSIDE[:rwm]]`, or a device of CDI.
pub(super) fn device(text: &str) -> Result<Device, Refused> {
    if is_of_cdi(text) {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let is_permissions =
        |it: &str| !it.is_empty() && it.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
    let parts: Vec<_> = text.split(':').collect();
    let (host, inside, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (*host, *host, *permissions),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, permissions] => (*host, *inside, *permissions),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if host.is_empty() {
        return Err(format!("invalid device specification: {text}"));
    }
    Ok(Device::Node(
        json!({ "PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions }),
    ))
}

/// `all`, a number, or fields: `"device=0,1",driver=nvidia,capabilities=compute`.
pub(super) fn gpus(text: &str) -> Result<Value, Refused> {
    let refused = |what: String| format!("invalid argument {text:?} for \"--gpus\" flag: {what}");
    let (mut count, mut driver) = (None, String::new());
    let (mut devices, mut capabilities) = (Vec::new(), vec!["gpu".to_owned()]);
    let mut options = Map::new();
    for field in fields(text) {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        match key {
            "count" => {
                let number = if value == "all" { Some(-1) } else { value.parse::<i64>().ok() };
                count = Some(number.ok_or_else(|| {
                    refused(format!(
                        "invalid count ({value}): value must be either \"all\" or an integer"
                    ))
                })?);
            }
            "device" => devices = value.split(',').map(str::to_owned).collect(),
            "driver" => value.clone_into(&mut driver),
            "capabilities" => {
                let named = value.split(',').map(str::to_owned);
                capabilities = named.chain(["gpu".to_owned()]).collect();
            }
            "options" => {
                for option in fields(value) {
                    let (key, value) = option.split_once('=').unwrap_or((&option, ""));
                    options.insert(key.to_owned(), value.into());
                }
            }
            _ => return Err(refused(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    let count = count.unwrap_or(if devices.is_empty() { 1 } else { 0 });
    Ok(json!({
        "Driver": driver, "Count": count, "DeviceIDs": devices, "Capabilities": [capabilities], "Options": options,
    }))
}

/// The fields of a line of CSV. A quoted one may have commas in it.
pub(crate) fn fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut is_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    fields.push(field);
    fields
}
