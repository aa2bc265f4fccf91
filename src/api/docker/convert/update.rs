//! What a client asks to be changed of a container. Zero leaves a setting alone.

use serde_json::{Map, Value, json};

use super::{create, host};
use crate::api::docker::wire::container::HostConfig;
use crate::engine::standalone::config::RestartPolicy;
use crate::engine::standalone::record::Record;
use crate::engine::standalone::update::Update;
use crate::error::{Context, Error, Kind, Result};

/// What is changed, and shown as it was asked for.
const CHANGED: [&str; 12] = [
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
    "RestartPolicy",
];

/// # Errors
/// In Docker's words, for settings that contradict each other or those that the container has, and
/// for what cannot be changed.
pub(crate) fn request(record: &Record, body: &Value) -> Result<Update> {
    let asked: HostConfig =
        serde_json::from_value(body.clone()).context("invalid JSON").kind(Kind::InvalidArgument)?;
    let shown = shown(body)?;
    check_against(record, &asked)?;
    host::check_limits(&asked)?;
    let mut resources = host::resources(&asked);
    // As much swap as memory is for those who are made.
    resources.memory_swap_limit = asked.memory_swap.filter(|swap| *swap != 0);
    let policy = asked.restart_policy.as_ref().filter(|policy| !policy.name.is_empty());
    let restart = policy.map(|policy| create::restart(Some(policy))).transpose()?;
    if record.config.auto_remove && restart.is_some_and(|policy| policy != RestartPolicy::No) {
        return Err(Error::invalid(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    Ok(Update { resources, restart, shown })
}

/// The settings that say something. Those that cannot be changed are refused by name.
fn shown(body: &Value) -> Result<Map<String, Value>> {
    let mut shown = Map::new();
    for (name, value) in body.as_object().into_iter().flatten().filter(|(_, it)| says_something(it))
    {
        match CHANGED.contains(&name.as_str()) {
            true => drop(shown.insert(name.clone(), value.clone())),
            false => return create::unsupported(format!("updating {name}")),
        }
    }
    Ok(shown)
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        // A restart policy without a name.
        Value::Object(map) => map.values().any(says_something),
    }
}

fn check_against(record: &Record, asked: &HostConfig) -> Result<()> {
    let has = |name: &str| {
        let settings = record.config.request.get("HostConfig");
        settings.and_then(|it| it.get(name)).is_some_and(says_something)
    };
    let asks = |number: Option<i64>| number.is_some_and(|number| number > 0);
    let period = asked.cpu_period.is_some_and(|period| period > 0);
    for (is_asked, what, other, name) in [
        (asks(asked.nano_cpus), "Nano CPUs", "CpuPeriod", "CPU Period"),
        (asks(asked.nano_cpus), "Nano CPUs", "CpuQuota", "CPU Quota"),
        (period, "CPU Period", "NanoCpus", "NanoCPUs"),
        (asks(asked.cpu_quota), "CPU Quota", "NanoCpus", "NanoCPUs"),
    ] {
        if is_asked && has(other) {
            return Err(Error::wrong_state(format!(
                "conflicting options: {what} cannot be updated as {name} has already been set"
            )));
        }
    }
    let limits = &record.config.container.resources;
    let swap = limits.memory_swap_limit.filter(|swap| *swap > 0);
    if let (Some(memory @ 1..), Some(swap), None | Some(0)) =
        (asked.memory, swap, asked.memory_swap)
        && memory > swap
    {
        return Err(Error::wrong_state(
            "Memory limit should be smaller than already set memoryswap limit, update the \
             memoryswap at the same time",
        ));
    }
    if let (None | Some(0), Some(swap @ 1..)) = (asked.memory, asked.memory_swap)
        && limits.memory_limit.is_none_or(|memory| memory > swap)
    {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    Ok(())
}

/// What is said when it is done.
pub(crate) fn reply() -> Value {
    json!({ "Warnings": null })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_nothing_leave_alone_and_what_is_fixed_is_refused() {
        let body = json!({
            "Memory": 5, "CpuShares": 0, "CpusetCpus": "", "Devices": null, "Ulimits": [],
            "OomKillDisable": false, "RestartPolicy": { "Name": "", "MaximumRetryCount": 0 },
        });
        assert_eq!(Value::Object(shown(&body).unwrap()), json!({ "Memory": 5 }));
        for fixed in [json!({ "KernelMemory": 1 }), json!({ "Ulimits": [{ "Name": "nofile" }] })] {
            assert_eq!(shown(&fixed).unwrap_err().kind(), Kind::Unsupported, "{fixed}");
        }
    }
}
