//! From a request to what the engine is asked for. What we cannot do yet is refused by name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{devices, host, log, mounts, namespaces, network, security};
use crate::api::docker::wire::container::{CreateRequest, HostConfig, RestartPolicy, Words};
use crate::cgroup::Resources;
use crate::engine::container::config::{Config as ContainerConfig, Mount, Security};
use crate::engine::parse_signal;
use crate::engine::standalone::config::{Config, RestartPolicy as EngineRestart};
use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;
use crate::image::config::ImageConfig;

/// Of every container that asks for nothing else, as Docker has it.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// "For ever" in a form that can be added to a clock.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(crate) fn request(body: &Value) -> Result<CreateRequest> {
    serde_json::from_value(body.clone()).context("invalid JSON").kind(Kind::InvalidArgument)
}

pub(crate) fn unsupported<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Unsupported, format!("{} is not supported yet", what.into())))
}

/// `body` is the request as it came, `from` what the container shares with others, `gateway` the
/// host's address in the node's network.
pub(crate) fn config(
    request: &CreateRequest,
    image: &Image,
    body: &Value,
    from: Vec<Mount>,
    gateway: Option<Ipv4Addr>,
) -> Result<Config> {
    let of_host = request.host_config.clone().unwrap_or_default();
    let merged = Merged::of(request, &image.config)?;
    let network = network::mode(&of_host, request.network_disabled == Some(true))?;
    let restart = restart(of_host.restart_policy.as_ref())?;
    let auto_remove = of_host.auto_remove == Some(true);
    if auto_remove && restart != EngineRestart::No {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    let log_limit = log::limit(&of_host)?;
    host::check_supported(&of_host)?;
    host::check_limits(&of_host)?;
    let asked = namespaces::of(request, &of_host, &network)?;
    let security = security::of(request, &of_host, asked.namespaces)?;
    let mut container = container(request, &of_host, &merged, security, image)?;
    let anonymous: Vec<&String> =
        request.volumes.iter().flat_map(|all| all.keys()).chain(&image.config.volumes).collect();
    container.mounts = mounts::all(&of_host, from, &anonymous)?;
    Ok(Config {
        container,
        hostname: request.hostname.clone().unwrap_or_default(),
        domainname: request.domainname.clone().unwrap_or_default(),
        ports: network::ports(&of_host, &merged.exposed_ports, &network)?,
        dns: network::dns(&of_host),
        hosts: network::hosts(&of_host, gateway)?,
        links: Vec::new(),
        sysctls: host::sysctls(&of_host, &network),
        shm_size: of_host.shm_size.filter(|size| *size > 0),
        sharing: asked.sharing,
        init: of_host.init == Some(true),
        cgroup_parent: of_host.cgroup_parent.clone().unwrap_or_default(),
        restart,
        auto_remove,
        health: None,
        log_limit,
        stop_timeout: match request.stop_timeout {
            None => STOP_TIMEOUT,
            Some(seconds) => seconds_or_for_ever(seconds),
        },
        network,
        request: shown(body, request, &merged),
    })
}

/// Negative is for ever.
pub(crate) fn seconds_or_for_ever(seconds: i64) -> Duration {
    u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs).min(FOR_EVER)
}

fn container(
    request: &CreateRequest,
    of_host: &HostConfig,
    merged: &Merged,
    security: Security,
    image: &Image,
) -> Result<ContainerConfig> {
    let tty = request.tty == Some(true);
    Ok(ContainerConfig {
        name: String::new(),
        attempt: 0,
        image: image.id.to_string(),
        user_specified_image: request.image.clone().unwrap_or_default(),
        command: [merged.entrypoint.clone(), merged.cmd.clone()].concat(),
        args: Vec::new(),
        working_dir: request.working_dir.clone().unwrap_or_default(),
        env: variables(request.env.as_deref().unwrap_or_default())?,
        mounts: Vec::new(),
        devices: devices::nodes(of_host)?,
        device_rules: devices::rules(of_host)?,
        cdi_devices: devices::of_cdi(of_host)?,
        labels: merged.labels.clone(),
        annotations: of_host.annotations.clone().unwrap_or_default(),
        log_path: (log::driver(of_host) != log::NO_LOG).then(|| PathBuf::from("container.log")),
        stdin: request.open_stdin == Some(true),
        // The end of a terminal's client is no end of its input.
        stdin_once: request.stdin_once == Some(true) && !tty,
        tty,
        stop_signal: stop_signal(request.stop_signal.as_deref())?,
        resources: Resources {
            blkio_devices: devices::limits(of_host)?,
            ..host::resources(of_host)
        },
        oom_score_adj: of_host.oom_score_adj.unwrap_or_default(),
        rlimits: host::rlimits(of_host)?,
        security,
        standalone: None,
    })
}

fn stop_signal(text: Option<&str>) -> Result<Option<i32>> {
    text.filter(|text| !text.is_empty()).map(parse_signal).transpose()
}

/// `NAME=value`; a name alone is one that the client does not have.
pub(crate) fn variables(lines: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::with_capacity(lines.len());
    for line in lines {
        let (name, value) = match line.split_once('=') {
            Some(pair) => pair,
            None => continue,
        };
        if name.is_empty() {
            return Err(Error::invalid(format!("invalid environment variable: {line}")));
        }
        all.push((name.to_owned(), value.as_bytes().to_vec()));
    }
    Ok(all)
}

pub(super) fn restart(policy: Option<&RestartPolicy>) -> Result<EngineRestart> {
    let Some(RestartPolicy { name, maximum_retry_count: most }) = policy else {
        return Ok(EngineRestart::No);
    };
    if *most > 0 && !matches!(name.as_str(), "on-failure" | "on-unhealthy") {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    match name.as_str() {
        "" | "no" => Ok(EngineRestart::No),
        "always" => Ok(EngineRestart::Always),
        "unless-stopped" => Ok(EngineRestart::UnlessStopped),
        "on-failure" => Ok(EngineRestart::OnFailure { most: *most }),
        // Beyond Docker: the engine's own.
        "on-unhealthy" => Ok(EngineRestart::OnUnhealthy { most: *most }),
        other => Err(Error::invalid(format!("invalid restart policy: unknown policy '{other}'"))),
    }
}

/// The request over what the image says.
struct Merged {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    labels: BTreeMap<String, String>,
    exposed_ports: Vec<String>,
    env: Vec<String>,
}

impl Merged {
    fn of(request: &CreateRequest, image: &ImageConfig) -> Result<Self> {
        let words = |words: &Option<Words>| words.clone().map(Words::into_vec);
        let cmd = words(&request.cmd).filter(|cmd| !cmd.is_empty());
        let (entrypoint, cmd) = match words(&request.entrypoint) {
            // One empty word takes the image's entrypoint away.
            Some(own) if own == [""] => (Vec::new(), cmd.unwrap_or_default()),
            Some(own) if !own.is_empty() => (own, cmd.unwrap_or_default()),
            Some(_) | None => (image.entrypoint.clone(), cmd.unwrap_or_else(|| image.cmd.clone())),
        };
        if entrypoint.is_empty() && cmd.is_empty() {
            return Err(Error::invalid("no command specified"));
        }
        let mut labels = image.labels.clone();
        labels.extend(request.labels.clone().unwrap_or_default());
        let mut exposed_ports = image.exposed_ports.clone();
        exposed_ports.extend(request.exposed_ports.iter().flatten().map(|(port, _)| port.clone()));
        exposed_ports.sort();
        exposed_ports.dedup();
        let mut env = request.env.clone().unwrap_or_default();
        let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        let own: Vec<String> = env.iter().map(|line| name(line)).collect();
        env.extend(image.env.iter().filter(|line| !own.contains(&name(line))).cloned());
        Ok(Self { entrypoint, cmd, labels, exposed_ports, env })
    }
}

/// The request as an inspection shows it: `Config` and `HostConfig`.
fn shown(body: &Value, request: &CreateRequest, merged: &Merged) -> Value {
    let mut config = body.as_object().cloned().unwrap_or_default();
    let host_config = config.remove("HostConfig").unwrap_or_else(|| json!({}));
    config.remove("NetworkingConfig");
    let ports: Map<String, Value> =
        merged.exposed_ports.iter().map(|port| (port.clone(), json!({}))).collect();
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    config.insert("Entrypoint".into(), list(&merged.entrypoint));
    config.insert("Cmd".into(), list(&merged.cmd));
    config.insert("Env".into(), json!(merged.env));
    config.insert("Labels".into(), json!(merged.labels));
    config.insert("Image".into(), json!(request.image));
    if !ports.is_empty() {
        config.insert("ExposedPorts".into(), Value::Object(ports));
    }
    json!({ "Config": config, "HostConfig": host_config })
}
