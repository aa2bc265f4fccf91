//! What `verbose` adds to a status: for people, as JSON, under the names that other runtimes use.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::engine::container::record::Record as Container;
use crate::engine::pod::record::Record as Pod;
use crate::error::{Context, Result};

pub(crate) fn pod(snapshot: &Pod) -> Result<HashMap<String, String>> {
    let Pod {
        id,
        config,
        created_at: _,
        phase,
        cgroup,
        limits: _,
        stopped_at: _,
        monitor_pid,
        attachment: _,
        joined: _,
        way_out: _,
        way_out_ipv6: _,
        asks_names: _,
        taken_from: _,
        rendering: _,
    } = snapshot;
    let addresses: Vec<_> = snapshot.addresses().collect();
    let limits = snapshot.limits();
    info(&json!({
        "sandboxID": id,
        "pid": monitor_pid.unwrap_or(0),
        "phase": phase,
        "addresses": addresses,
        "cgroup": cgroup.path,
        "overhead": limits.overhead,
        "resources": limits.resources,
        "runtimeHandler": config.runtime_handler,
        "config": serde_json::to_value(&**config).context("print the configuration")?,
    }))
}

pub(crate) fn container(snapshot: &Container) -> Result<HashMap<String, String>> {
    let Container {
        id: _,
        pod,
        config,
        image_id,
        image_ref: _,
        image_name: _,
        created_at: _,
        phase,
        log_path: _,
        resources: _,
        user,
        stop_signal: _,
        image_volumes,
        cgroup,
        layers: _,
        rendering: _,
    } = snapshot;
    let mut written = serde_json::to_value(&**config).context("print the configuration")?;
    // As bytes they would be lists of numbers.
    let variable = |(key, value): &(String, Vec<u8>)| -> Value {
        json!({ "key": key, "value": String::from_utf8_lossy(value) })
    };
    if let Some(env) = written.get_mut("env") {
        *env = config.env.iter().map(variable).collect();
    }
    info(&json!({
        "sandboxID": pod,
        "pid": phase.pid().unwrap_or(0),
        "image": image_id,
        "imageVolumes": image_volumes,
        "user": user,
        "cgroup": cgroup.path,
        "config": written,
    }))
}

fn info(value: &Value) -> Result<HashMap<String, String>> {
    let text = serde_json::to_string(value).context("print the details")?;
    Ok(HashMap::from([("info".to_owned(), text)]))
}
