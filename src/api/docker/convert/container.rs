//! Containers as Docker's clients read them, whoever made them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{health, network_settings, time};
use crate::api::docker::wire::container::{
    MountPoint, Port, Summary, SummaryHostConfig, SummaryNetworks,
};
use crate::api::docker::wire::details::{Details, State as WireState};
use crate::api::docker::wire::image::GraphDriver;
use crate::engine::Engine;
use crate::engine::container::config::{Config, MountPropagation, MountSource};
use crate::engine::container::phase::{End, Phase, Reason};
use crate::engine::container::record::Record as PodContainer;
use crate::engine::standalone::config::Network;
use crate::engine::standalone::record::{Record, State};
use crate::error::Result;

pub(crate) fn summary(engine: &Engine, record: &Record) -> Result<Summary> {
    let config = &record.config.container;
    let settings = network_settings::of(engine, record)?;
    Ok(Summary {
        id: record.id.to_string(),
        names: vec![format!("/{}", record.name)],
        image: record.image_name.clone(),
        image_id: record.image_id.clone(),
        command: command_line(config),
        created: time::seconds(record.created_at),
        ports: ports(&settings.ports),
        size_rw: None,
        size_root_fs: None,
        labels: config.labels.clone(),
        state: state_name(&record.state),
        status: status(&record.state),
        host_config: SummaryHostConfig { network_mode: network_mode(&record.config.network) },
        network_settings: SummaryNetworks { networks: settings.networks },
        mounts: mounts(engine, config),
        aside: record.is_aside.then_some(true),
    })
}

pub(crate) fn pod_summary(engine: &Engine, record: &PodContainer) -> Summary {
    Summary {
        id: record.id.to_string(),
        names: vec![format!("/{}", engine.pod_container_name(record).unwrap_or_default())],
        image: super::image::familiar(&record.image_name),
        image_id: record.image_id.clone(),
        command: command_line(&record.config),
        created: time::seconds(record.created_at),
        ports: Vec::new(),
        size_rw: None,
        size_root_fs: None,
        labels: record.config.labels.clone(),
        state: phase_name(&record.phase),
        status: match &record.phase {
            Phase::Created { .. } => "Created".to_owned(),
            Phase::Running { started_at, .. } => up(*started_at),
            Phase::Exited(end) => exited(end.code, end.finished_at),
        },
        host_config: SummaryHostConfig { network_mode: "pod".to_owned() },
        network_settings: SummaryNetworks { networks: BTreeMap::new() },
        mounts: mounts(engine, &record.config),
        aside: None,
    }
}

pub(crate) fn details(engine: &Engine, record: &Record) -> Result<Details> {
    let config = &record.config.container;
    let network_settings = network_settings::of(engine, record)?;
    let directory = record.run().map(|run| engine.pod_directory(&run.pod));
    let file = |name: &str| {
        directory.as_ref().map(|it| it.join(name).display().to_string()).unwrap_or_default()
    };
    let mut words = config.command.iter().cloned();
    let mut shown = record.config.request.clone();
    let take = |shown: &mut Value, name: &str| {
        shown.get_mut(name).map(Value::take).unwrap_or_else(|| json!({}))
    };
    let mut settings = take(&mut shown, "Config");
    if settings.get("Hostname").and_then(Value::as_str).is_none_or(str::is_empty) {
        let short = record.id.as_str().get(..12).unwrap_or_default();
        if let Some(settings) = settings.as_object_mut() {
            settings.insert("Hostname".to_owned(), json!(short));
        }
    }
    Ok(Details {
        id: record.id.to_string(),
        created: time::text(record.created_at),
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        state: state(engine, record),
        image: record.image_id.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: engine.standalone_log(&record.id).display().to_string(),
        name: format!("/{}", record.name),
        restart_count: record.restarts,
        driver: "overlayfs",
        platform: "linux",
        mount_label: "",
        process_label: "",
        app_armor_profile: "",
        exec_ids: Some(engine.exec_ids(&record.id)).filter(|ids| !ids.is_empty()),
        host_config: host_config(take(&mut shown, "HostConfig"), record),
        graph_driver: GraphDriver::default(),
        mounts: mounts(engine, config),
        config: settings,
        network_settings,
    })
}

/// As the client asked for it, with what programs look for without asking.
fn host_config(asked: Value, record: &Record) -> Value {
    let mut all = json!({
        "Binds": null,
        "NetworkMode": network_mode(&record.config.network),
        "PortBindings": {},
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "AutoRemove": record.config.auto_remove,
        "LogConfig": { "Type": "json-file", "Config": {} },
        "IpcMode": "private",
        "Privileged": false,
        "ReadonlyRootfs": false,
        "ShmSize": 64 << 20,
        "Memory": 0,
        "NanoCpus": 0,
        "Runtime": "cais",
    });
    if let (Some(all), Value::Object(asked)) = (all.as_object_mut(), asked) {
        let is_said = |value: &Value| !value.is_null() && value.as_str() != Some("");
        let log = log_config(asked.get("LogConfig"));
        all.extend(asked.into_iter().filter(|(_, value)| is_said(value)));
        all.insert("LogConfig".into(), log);
        all.insert("NetworkMode".into(), json!(network_mode(&record.config.network)));
        let swap = record.config.container.resources.memory_swap_limit;
        all.insert("MemorySwap".into(), json!(swap.unwrap_or_default()));
    }
    all
}

fn log_config(asked: Option<&Value>) -> Value {
    let of = |key: &str| asked.and_then(|asked| asked.get(key));
    let driver = of("Type").and_then(Value::as_str).filter(|driver| !driver.is_empty());
    let options = of("Config").filter(|options| options.is_object()).cloned();
    json!({ "Type": driver.unwrap_or("json-file"), "Config": options.unwrap_or_else(|| json!({})) })
}

/// What can be said of a container that a kubelet made.
pub(crate) fn pod_details(engine: &Engine, record: &PodContainer) -> Result<Details> {
    let config = &record.config;
    let mut words = config.command.iter().chain(&config.args).cloned();
    let directory = engine.pod_directory(&record.pod);
    let file = |name: &str| directory.join(name).display().to_string();
    let env: Vec<String> = config
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
        .collect();
    Ok(Details {
        id: record.id.to_string(),
        created: time::text(record.created_at),
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        state: phase_state(&record.phase),
        image: record.image_id.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: record.log_path.as_ref().map(|it| it.display().to_string()).unwrap_or_default(),
        name: format!("/{}", engine.pod_container_name(record).unwrap_or_default()),
        restart_count: config.attempt,
        driver: "overlayfs",
        platform: "linux",
        mount_label: "",
        process_label: "",
        app_armor_profile: "",
        exec_ids: None,
        host_config: json!({
            "NetworkMode": "pod",
            "Privileged": config.security.privileged,
            "ReadonlyRootfs": config.security.readonly_rootfs,
            "LogConfig": { "Type": "json-file", "Config": {} },
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        }),
        graph_driver: GraphDriver::default(),
        mounts: mounts(engine, config),
        config: json!({
            "Hostname": "",
            "User": "",
            "Tty": config.tty,
            "OpenStdin": config.stdin,
            "StdinOnce": config.stdin_once,
            "Env": env,
            "Cmd": config.args,
            "Entrypoint": config.command,
            "Image": super::image::familiar(&record.image_name),
            "WorkingDir": config.working_dir,
            "Labels": config.labels,
        }),
        network_settings: Default::default(),
    })
}

fn state(engine: &Engine, record: &Record) -> WireState {
    let ended = match &record.state {
        State::Restarting(end) | State::Exited { end, .. } => Some(end),
        State::Created { .. } | State::Running(_) => None,
    };
    let failure = match &record.state {
        State::Created { failure } | State::Exited { failure, .. } => failure.as_ref(),
        State::Running(_) | State::Restarting(_) => None,
    };
    let run = record.run();
    let is_restarting = matches!(record.state, State::Restarting(_));
    WireState {
        status: state_name(&record.state),
        running: run.is_some() || is_restarting,
        paused: run.is_some_and(|run| run.is_paused),
        restarting: is_restarting,
        oom_killed: ended.is_some_and(|end| end.reason == Reason::OomKilled),
        dead: false,
        pid: run.map_or(0, |run| run.pid),
        exit_code: record.exit_code(),
        error: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
        started_at: run
            .map(|run| run.started_at)
            .or(ended.and_then(|end| end.started_at))
            .map_or_else(|| time::NEVER.to_owned(), time::text),
        finished_at: finished(ended),
        health: health::shown(engine, record),
        aside: record.is_aside.then_some(true),
    }
}

fn finished(end: Option<&End>) -> String {
    end.map_or_else(|| time::NEVER.to_owned(), |end| time::text(end.finished_at))
}

fn phase_state(phase: &Phase) -> WireState {
    let (started_at, end) = match phase {
        Phase::Created { .. } => (None, None),
        Phase::Running { started_at, .. } => (Some(*started_at), None),
        Phase::Exited(end) => (end.started_at, Some(end)),
    };
    let is_running = matches!(phase, Phase::Running { .. });
    WireState {
        status: phase_name(phase),
        running: is_running,
        paused: false,
        restarting: false,
        oom_killed: end.is_some_and(|end| end.reason == Reason::OomKilled),
        dead: false,
        pid: phase.pid().filter(|_| is_running).unwrap_or_default(),
        exit_code: end.map_or(0, |end| end.code),
        error: end.map(|end| end.message.clone()).unwrap_or_default(),
        started_at: started_at.map_or_else(|| time::NEVER.to_owned(), time::text),
        finished_at: finished(end),
        health: None,
        aside: None,
    }
}

fn state_name(state: &State) -> &'static str {
    match state {
        State::Created { .. } => "created",
        State::Running(run) if run.is_paused => "paused",
        State::Running(_) => "running",
        State::Restarting(_) => "restarting",
        State::Exited { .. } => "exited",
    }
}

fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Created { .. } => "created",
        Phase::Running { .. } => "running",
        Phase::Exited(_) => "exited",
    }
}

fn status(state: &State) -> String {
    match state {
        State::Created { .. } => "Created".to_owned(),
        State::Running(run) if run.is_paused => format!("{} (Paused)", up(run.started_at)),
        State::Running(run) => up(run.started_at) + health::suffix(run.health),
        State::Restarting(end) => {
            format!("Restarting ({}) {} ago", end.code, time::since(end.finished_at))
        }
        State::Exited { end, .. } => exited(end.code, end.finished_at),
    }
}

fn up(started_at: i64) -> String {
    format!("Up {}", time::since(started_at))
}

fn exited(code: i32, finished_at: i64) -> String {
    format!("Exited ({code}) {} ago", time::since(finished_at))
}

fn command_line(config: &Config) -> String {
    config.command.iter().chain(&config.args).cloned().collect::<Vec<_>>().join(" ")
}

fn network_mode(network: &Network) -> String {
    match network {
        Network::Bridge => "bridge".to_owned(),
        Network::Custom(name) => name.clone(),
        Network::Host => "host".to_owned(),
        Network::None => "none".to_owned(),
        Network::Container(id) => format!("container:{id}"),
    }
}

fn ports(of: &BTreeMap<String, Option<Vec<super::PortBinding>>>) -> Vec<Port> {
    let mut all = Vec::new();
    for (port, bindings) in of {
        let Ok((private_port, protocol)) = super::network::parse(port) else { continue };
        let kind = protocol.as_str();
        match bindings {
            None => all.push(Port { ip: None, private_port, public_port: None, kind }),
            Some(bindings) => all.extend(bindings.iter().map(|binding| Port {
                ip: Some(binding.host_ip.clone()),
                private_port,
                public_port: binding.host_port.parse().ok(),
                kind,
            })),
        }
    }
    all
}

fn mounts(engine: &Engine, config: &Config) -> Vec<MountPoint> {
    let propagation = |mount: MountPropagation| match mount {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    config
        .mounts
        .iter()
        .map(|mount| {
            let (kind, source) = match &mount.source {
                MountSource::Host(path) => ("bind", path.display().to_string()),
                MountSource::Image { image, .. } => ("image", image.clone()),
                MountSource::Tmpfs => ("tmpfs", String::new()),
                MountSource::Volume(volume) => {
                    ("volume", engine.volume_directory(&volume.name).display().to_string())
                }
            };
            let name = match &mount.source {
                MountSource::Volume(volume) => Some(volume.name.clone()),
                MountSource::Host(_) | MountSource::Image { .. } | MountSource::Tmpfs => None,
            };
            MountPoint {
                kind,
                driver: name.is_some().then_some("local"),
                name,
                source,
                destination: mount.container_path.display().to_string(),
                mode: if mount.readonly { "ro" } else { "" }.to_owned(),
                is_writable: !mount.readonly,
                propagation: match kind {
                    "bind" => propagation(mount.propagation).to_owned(),
                    _ => String::new(),
                },
            }
        })
        .collect()
}
