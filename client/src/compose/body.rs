//! A service of a file as the body that makes a container of it.

use cais_compose::{Node, Project, Value};
use serde_json::{Map, Value as Json, json};

use super::resources::{strings, text};
use super::{devices, labels};
use crate::error::{Failure, Result};

/// Keys that a container of a service would need, and that are not made yet. What they ask for is refused, not left out.
const NOT_YET: &[&str] = &[
    "cpu_count",
    "cpu_percent",
    "credential_spec",
    "isolation",
    "label_file",
    "models",
    "provider",
];

/// The option of an endpoint that is its interface's name in the container.
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// Which container it is, and of what.
pub(super) struct Which<'a> {
    pub(super) service: &'a str,
    pub(super) number: i64,
    pub(super) image: &'a str,
    pub(super) image_id: &'a str,
    pub(super) hash: &'a str,
    /// Volumes without a name that it takes over, by their place: `(TARGET, NAME)`.
    pub(super) inherited: &'a [(String, String)],
    /// The container whose place it takes.
    pub(super) replaces: Option<&'a str>,
    /// CRI's clients see it.
    pub(super) is_pod: bool,
}

pub(super) fn body(project: &Project, node: &Node, which: &Which<'_>) -> Result<Json> {
    let service = Service { project, node, name: which.service };
    let mut body = service.config(which);
    body.insert("HostConfig".to_owned(), service.host(which)?.into());
    body.insert(
        "NetworkingConfig".to_owned(),
        json!({ "EndpointsConfig": service.endpoints(which) }),
    );
    Ok(body.into())
}

/// What a container of the service is called.
pub(super) fn own_name(project: &Project, node: &Node, service: &str, number: i64) -> String {
    match text(node, "container_name") {
        "" => format!("{}-{service}-{number}", project.name),
        fixed => fixed.to_owned(),
    }
}

/// Whether a container of the service can be made at all.
pub(super) fn check(project: &Project, name: &str, node: &Node) -> Result<()> {
    let service = Service { project, node, name };
    service.check()?;
    let which = Which {
        service: name,
        number: 1,
        image: "",
        image_id: "",
        hash: "",
        inherited: &[],
        replaces: None,
        is_pod: false,
    };
    service.mounts(&which).map(drop)
}

pub(super) struct Service<'a> {
    pub(super) project: &'a Project,
    pub(super) node: &'a Node,
    pub(super) name: &'a str,
}

impl Service<'_> {
    fn check(&self) -> Result<()> {
        let name = self.name;
        let uts = text(self.node, "uts");
        if !matches!(uts, "" | "host") {
            return Err(Failure::new(format!(
                "services.{name}.uts: {uts:?} is not host, and Docker shares this namespace with nobody else"
            )));
        }
        if let Some(key) = NOT_YET.iter().find(|key| self.node.get(key).is_some()) {
            return Err(Failure::new(format!(
                "services.{name}.{key}: cais compose cannot do this yet; docker compose can, at the same daemon"
            )));
        }
        Ok(())
    }

    fn json(&self, key: &str) -> Option<Json> {
        self.node.get(key).map(plain)
    }

    pub(super) fn list(&self, key: &str) -> &[Node] {
        self.node.get(key).and_then(Node::as_list).unwrap_or_default()
    }

    fn integer(&self, key: &str) -> Option<i64> {
        self.node.get(key).and_then(Node::as_int)
    }

    /// What the program is and runs in.
    fn config(&self, which: &Which<'_>) -> Map<String, Json> {
        let mut body = Map::new();
        body.insert("Image".to_owned(), which.image.into());
        for (key, member) in [
            ("hostname", "Hostname"),
            ("domainname", "Domainname"),
            ("user", "User"),
            ("working_dir", "WorkingDir"),
            ("tty", "Tty"),
            ("stdin_open", "OpenStdin"),
            ("command", "Cmd"),
            ("entrypoint", "Entrypoint"),
            ("stop_signal", "StopSignal"),
            ("mac_address", "MacAddress"),
        ] {
            if let Some(value) = self.json(key) {
                body.insert(member.to_owned(), value);
            }
        }
        body.insert("AttachStdout".to_owned(), true.into());
        body.insert("AttachStderr".to_owned(), true.into());
        let environment = self.node.get("environment").and_then(Node::as_map);
        let variable = |(key, value): (&String, &Node)| match value.as_text() {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        };
        let environment: Vec<String> = environment.into_iter().flatten().map(variable).collect();
        body.insert("Env".to_owned(), environment.into());
        body.insert("Labels".to_owned(), self.labels(which).into());
        if let Some(period) = self.integer("stop_grace_period") {
            body.insert("StopTimeout".to_owned(), (period / 1_000_000_000).into());
        }
        if let Some(check) = self.node.get("healthcheck") {
            body.insert("Healthcheck".to_owned(), health(check));
        }
        let mut exposed = Map::new();
        for port in self.list("ports") {
            exposed.insert(container_port(port), json!({}));
        }
        for port in self.list("expose").iter().filter_map(Node::as_text) {
            let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
            exposed.insert(port, json!({}));
        }
        body.insert("ExposedPorts".to_owned(), exposed.into());
        body
    }

    fn labels(&self, which: &Which<'_>) -> Map<String, Json> {
        let mut all = strings(self.node.get("labels"));
        let mut set = |key: &str, value: String| all.insert(key.to_owned(), value.into());
        set(labels::PROJECT, self.project.name.clone());
        set(labels::SERVICE, self.name.to_owned());
        set(labels::NUMBER, which.number.to_string());
        set(labels::HASH, which.hash.to_owned());
        set(labels::ONE_OFF, "False".to_owned());
        set(labels::VERSION, labels::LIKE.to_owned());
        set(labels::IMAGE, which.image_id.to_owned());
        set(labels::WORKING_DIR, self.project.working_dir.clone());
        set(labels::FILES, self.project.files.join(","));
        let depends_on = self.node.get("depends_on").and_then(Node::as_map);
        let dependency = |(name, it): (&String, &Node)| {
            let restart = it.get("restart").and_then(Node::as_bool).unwrap_or(false);
            format!("{name}:{}:{restart}", text(it, "condition"))
        };
        let depends_on: Vec<String> = depends_on.into_iter().flatten().map(dependency).collect();
        set(labels::DEPENDS_ON, depends_on.join(","));
        if let Some(old) = which.replaces {
            set(labels::REPLACES, old.to_owned());
        }
        if which.is_pod {
            // Where the file says which, it is that one.
            let own = all.entry(labels::CRI_NAMESPACE);
            own.or_insert_with(|| self.project.name.clone().into());
        }
        all
    }

    fn host(&self, which: &Which<'_>) -> Result<Map<String, Json>> {
        let mut host = Map::new();
        for (key, member) in [
            ("annotations", "Annotations"),
            ("cap_add", "CapAdd"),
            ("cap_drop", "CapDrop"),
            ("cgroup", "CgroupnsMode"),
            ("cgroup_parent", "CgroupParent"),
            ("cpuset", "CpusetCpus"),
            ("cpu_shares", "CpuShares"),
            ("cpu_period", "CpuPeriod"),
            ("cpu_quota", "CpuQuota"),
            ("cpu_rt_period", "CpuRealtimePeriod"),
            ("cpu_rt_runtime", "CpuRealtimeRuntime"),
            ("dns", "Dns"),
            ("dns_opt", "DnsOptions"),
            ("dns_search", "DnsSearch"),
            ("group_add", "GroupAdd"),
            ("init", "Init"),
            ("ipc", "IpcMode"),
            ("mem_limit", "Memory"),
            ("mem_reservation", "MemoryReservation"),
            ("memswap_limit", "MemorySwap"),
            ("mem_swappiness", "MemorySwappiness"),
            ("oom_kill_disable", "OomKillDisable"),
            ("oom_score_adj", "OomScoreAdj"),
            ("pid", "PidMode"),
            ("pids_limit", "PidsLimit"),
            ("privileged", "Privileged"),
            ("read_only", "ReadonlyRootfs"),
            ("runtime", "Runtime"),
            ("security_opt", "SecurityOpt"),
            ("shm_size", "ShmSize"),
            ("storage_opt", "StorageOpt"),
            ("sysctls", "Sysctls"),
            ("userns_mode", "UsernsMode"),
            ("uts", "UTSMode"),
            ("volumes_from", "VolumesFrom"),
        ] {
            if let Some(value) = self.json(key) {
                host.insert(member.to_owned(), value);
            }
        }
        self.limits(&mut host);
        let hosts = self.list("extra_hosts").iter().filter_map(Node::as_text);
        let hosts: Vec<String> = hosts.map(|it| it.replacen('=', ":", 1)).collect();
        host.insert("ExtraHosts".to_owned(), hosts.into());
        host.insert("RestartPolicy".to_owned(), self.restart());
        host.insert("NetworkMode".to_owned(), self.network_mode().into());
        let mut bindings: Map<String, Json> = Map::new();
        for port in self.list("ports") {
            let binding =
                json!({ "HostIp": text(port, "host_ip"), "HostPort": text(port, "published") });
            let list = bindings.entry(container_port(port)).or_insert_with(|| json!([]));
            list.as_array_mut().into_iter().for_each(|it| it.push(binding.clone()));
        }
        host.insert("PortBindings".to_owned(), bindings.into());
        let tmpfs = self.list("tmpfs").iter().filter_map(Node::as_text);
        let tmpfs = tmpfs.map(|it| it.split_once(':').unwrap_or((it, "")));
        let tmpfs: Map<String, Json> = tmpfs.map(|(at, it)| (at.to_owned(), it.into())).collect();
        host.insert("Tmpfs".to_owned(), tmpfs.into());
        host.insert("Mounts".to_owned(), self.mounts(which)?.into());
        if let Some(logging) = self.node.get("logging") {
            let options = strings(logging.get("options"));
            host.insert(
                "LogConfig".to_owned(),
                json!({ "Type": text(logging, "driver"), "Config": options }),
            );
        }
        host.extend(devices::members(self.node));
        let rules = self.list("device_cgroup_rules").iter().filter_map(Node::as_text);
        host.insert("DeviceCgroupRules".to_owned(), rules.collect::<Vec<_>>().into());
        Ok(host)
    }

    fn limits(&self, host: &mut Map<String, Json>) {
        let limits = self.node.get("deploy").and_then(|it| it.get("resources")?.get("limits"));
        let reserved =
            self.node.get("deploy").and_then(|it| it.get("resources")?.get("reservations"));
        for (group, key, member) in [
            (limits, "memory", "Memory"),
            (limits, "pids", "PidsLimit"),
            (reserved, "memory", "MemoryReservation"),
        ] {
            if let Some(value) = group.and_then(|it| it.get(key)) {
                host.insert(member.to_owned(), plain(value));
            }
        }
        let cpus = self.node.get("cpus").or_else(|| limits?.get("cpus"));
        if let Some(Node { value: Value::Float(cpus), .. }) = cpus {
            #[expect(clippy::cast_possible_truncation, reason = "a number of CPUs is small")]
            host.insert("NanoCpus".to_owned(), ((cpus * 1e9).round() as i64).into());
        }
        let ulimits = self.node.get("ulimits").and_then(Node::as_map);
        let ulimit = |(name, it): (&String, &Node)| {
            let both = |key: &str| it.as_int().or_else(|| it.get(key)?.as_int()).unwrap_or(0);
            json!({ "Name": name, "Soft": both("soft"), "Hard": both("hard") })
        };
        let ulimits: Vec<Json> = ulimits.into_iter().flatten().map(ulimit).collect();
        host.insert("Ulimits".to_owned(), ulimits.into());
    }

    fn restart(&self) -> Json {
        if let Some(policy) = self.node.get("restart").and_then(Node::as_text) {
            let (name, count) = policy.split_once(':').unwrap_or((policy, "0"));
            return json!({ "Name": name, "MaximumRetryCount": count.parse().unwrap_or(0i64) });
        }
        let Some(policy) = self.node.get("deploy").and_then(|it| it.get("restart_policy")) else {
            return json!({});
        };
        let name = match text(policy, "condition") {
            "none" | "no" => "no",
            "on-failure" => "on-failure",
            "unless-stopped" => "unless-stopped",
            _ => "always",
        };
        let count = policy.get("max_attempts").and_then(Node::as_int).unwrap_or(0);
        json!({ "Name": name, "MaximumRetryCount": count })
    }

    /// The networks by their priority, then by their names.
    fn networks(&self) -> Vec<(&str, &Node)> {
        let networks = self.node.get("networks").and_then(Node::as_map);
        let mut list: Vec<(&str, &Node)> =
            networks.into_iter().flatten().map(|(key, it)| (key.as_str(), it)).collect();
        list.sort_by_key(|(key, it)| {
            (-it.get("priority").and_then(Node::as_int).unwrap_or(0), (*key).to_owned())
        });
        list
    }

    fn network_name<'n>(&'n self, key: &'n str) -> &'n str {
        self.project.resource("networks", key).map_or(key, |it| text(it, "name"))
    }

    fn network_mode(&self) -> String {
        match (text(self.node, "network_mode"), self.networks().first()) {
            ("", Some((key, _))) => self.network_name(key).to_owned(),
            ("", None) => "none".to_owned(),
            (mode, _) => mode.to_owned(),
        }
    }

    fn endpoints(&self, which: &Which<'_>) -> Map<String, Json> {
        let own_name = own_name(self.project, self.node, self.name, which.number);
        let endpoint = |(key, it): (&str, &Node)| {
            let mut aliases = vec![own_name.clone(), self.name.to_owned()];
            let own = it.get("aliases").and_then(Node::as_list).unwrap_or_default();
            aliases.extend(own.iter().filter_map(|it| it.as_text().map(str::to_owned)));
            let local = it.get("link_local_ips").map_or(json!([]), plain);
            let addresses = json!({
                "IPv4Address": text(it, "ipv4_address"),
                "IPv6Address": text(it, "ipv6_address"),
                "LinkLocalIPs": local,
            });
            let mut options = strings(it.get("driver_opts"));
            if let Some(name) = it.get("interface_name") {
                options.insert(INTERFACE.to_owned(), plain(name));
            }
            let value = json!({
                "Aliases": aliases,
                "IPAMConfig": addresses,
                "MacAddress": text(it, "mac_address"),
                "DriverOpts": options,
                "GwPriority": it.get("gw_priority").and_then(Node::as_int).unwrap_or(0),
            });
            (self.network_name(key).to_owned(), value)
        };
        self.networks().into_iter().map(endpoint).collect()
    }

    pub(super) fn cannot(&self, key: &str, what: &str) -> Failure {
        let name = self.name;
        Failure::new(format!(
            "services.{name}.{key}: cais compose has no {what} yet; docker compose has, at the same daemon"
        ))
    }
}

fn container_port(port: &Node) -> String {
    let target = port.get("target").and_then(Node::as_int).unwrap_or(0);
    format!("{target}/{}", text(port, "protocol"))
}

fn health(check: &Node) -> Json {
    if check.get("disable").is_some() {
        return json!({ "Test": ["NONE"] });
    }
    let number = |key: &str| check.get(key).and_then(Node::as_int).unwrap_or(0);
    json!({
        "Test": check.get("test").map_or(json!([]), plain),
        "Interval": number("interval"),
        "Timeout": number("timeout"),
        "StartPeriod": number("start_period"),
        "StartInterval": number("start_interval"),
        "Retries": number("retries"),
    })
}

/// As JSON has it.
pub(super) fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => list.iter().map(plain).collect(),
        Value::Map(map) => {
            map.iter().map(|(key, it)| (key.clone(), plain(it))).collect::<Map<_, _>>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    fn of(service: &str) -> Result<Json> {
        let project = project(&format!("services: {{web: {service}}}"));
        let node = project.service("web").unwrap();
        check(&project, "web", node)?;
        let which = Which {
            service: "web",
            number: 1,
            image: "a",
            image_id: "sha256:1",
            hash: "h",
            inherited: &[],
            replaces: None,
            is_pod: false,
        };
        body(&project, node, &which)
    }

    #[test]
    fn a_container_has_what_its_service_asks_for() {
        let made = of("{image: a, networks: {default: {interface_name: front0}}}").unwrap();
        let endpoint = &made["NetworkingConfig"]["EndpointsConfig"]["shop_default"];
        assert_eq!(endpoint["DriverOpts"][INTERFACE], "front0");
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_its_key() {
        let refused = |service: &str| of(service).unwrap_err().message;
        assert!(refused("{image: a, credential_spec: {file: a}}").contains(".credential_spec: "));
    }
}
