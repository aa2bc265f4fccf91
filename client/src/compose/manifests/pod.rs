//! The pod of a service: its one container, and what both may do and use.

use std::collections::{BTreeMap, BTreeSet};

use cais_compose::{Node, Value};
use serde_json::{Value as Json, json};

use super::super::body::plain;
use super::super::resources::{strings, text};
use super::mounts::Mounts;
use super::probes::seconds;
use super::{Service, names, put};
use crate::error::Result;

/// Keys that a pod has no word for.
const LOST: &[&str] = &[
    "blkio_config",
    "cgroup",
    "cgroup_parent",
    "container_name",
    "cpu_quota",
    "cpu_shares",
    "cpuset",
    "device_cgroup_rules",
    "devices",
    "domainname",
    "external_links",
    "gpus",
    "init",
    "ipc",
    "links",
    "logging",
    "mac_address",
    "memswap_limit",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "post_start",
    "pre_stop",
    "runtime",
    "shm_size",
    "stop_signal",
    "storage_opt",
    "ulimits",
    "use_api_socket",
    "userns_mode",
    "uts",
];

/// Sysctls that a node grants to any pod (Kubernetes, "Using sysctls").
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// As many as an API server takes.
const MOST_NAMESERVERS: usize = 3;

impl Service<'_> {
    pub(super) fn pod(&self, mounts: Mounts) -> Result<Json> {
        let mut pod = json!({
            "automountServiceAccountToken": false,
            // A container of compose knows nothing of other services' addresses.
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": self.grace(),
        });
        self.namespaces(&mut pod)?;
        match text(self.node, "hostname") {
            "" => {}
            name if names::label(name) == name => pod["hostname"] = name.into(),
            name => self.tell("hostname", &format!("{name:?} cannot be a pod's")),
        }
        put(&mut pod, "hostAliases", self.hosts());
        put(&mut pod, "dnsConfig", self.dns());
        put(&mut pod, "securityContext", self.pod_security());
        put(&mut pod, "volumes", mounts.volumes.into());
        pod["containers"] = json!([self.container(mounts.mounts)]);
        Ok(pod)
    }

    /// Compose's default is ten seconds, where that of Kubernetes is thirty.
    fn grace(&self) -> i64 {
        let period = self.node.get("stop_grace_period").and_then(Node::as_int);
        period.map_or(10, seconds)
    }

    fn namespaces(&self, pod: &mut Json) -> Result<()> {
        match text(self.node, "network_mode") {
            "" | "bridge" => {}
            "host" => {
                pod["hostNetwork"] = true.into();
                pod["dnsPolicy"] = "ClusterFirstWithHostNet".into();
            }
            other => {
                return Err(self.cannot("network_mode", &format!("a pod has no network {other:?}")));
            }
        }
        for (key, member) in [("pid", "hostPID"), ("ipc", "hostIPC")] {
            match text(self.node, key) {
                "host" => pod[member] = true.into(),
                shared if shared.starts_with("service:") || shared.starts_with("container:") => {
                    return Err(self.cannot(key, &format!("pods do not share {shared}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn container(&self, mounts: Vec<Json>) -> Json {
        let project = self.conversion.project;
        let mut container = json!({
            "name": self.id(),
            "image": project.image(self.name, "-"),
            "imagePullPolicy": match text(self.node, "pull_policy") {
                "always" => "Always",
                "never" => "Never",
                _ => "IfNotPresent",
            },
        });
        if self.node.get("build").is_some() {
            let image = project.image(self.name, "-");
            self.tell("build", &format!("{image} must be where the cluster finds it"));
        }
        for (key, member) in [("entrypoint", "command"), ("command", "args")] {
            let words = self.list(key).iter().filter_map(Node::as_text).map(literal);
            put(&mut container, member, words.collect());
        }
        for (key, member) in [("tty", "tty"), ("stdin_open", "stdin")] {
            if self.flag(key) {
                container[member] = true.into();
            }
        }
        put(&mut container, "workingDir", plain_or_null(self.node.get("working_dir")));
        let environment = self.node.get("environment").and_then(Node::as_map);
        let variables = environment.into_iter().flatten().filter_map(|(name, value)| {
            Some(json!({ "name": name, "value": literal(value.as_text()?) }))
        });
        put(&mut container, "env", variables.collect());
        put(&mut container, "ports", self.container_ports());
        put(&mut container, "resources", self.resources());
        put(&mut container, "securityContext", self.security());
        put(&mut container, "volumeMounts", mounts.into());
        self.probes(&mut container);
        for key in LOST.iter().filter(|key| self.node.get(key).is_some()) {
            // What becomes something is no loss.
            if text(self.node, key) != "host" {
                self.tell(key, "a pod has no word for it");
            }
        }
        container
    }

    fn container_ports(&self) -> Json {
        let port = |(port, protocol): (i64, String)| json!({ "containerPort": port, "protocol": protocol });
        self.targets().into_iter().map(port).collect()
    }

    /// Ports that are published or exposed, with their protocols.
    pub(super) fn targets(&self) -> BTreeSet<(i64, String)> {
        let published = self
            .list("ports")
            .iter()
            .filter_map(|it| Some((it.get("target")?.as_int()?, protocol(text(it, "protocol")))));
        let exposed = self.list("expose").iter().filter_map(|it| {
            let text = it.as_text()?;
            let (port, own) = text.split_once('/').unwrap_or((text, "tcp"));
            let (first, last) = port.split_once('-').unwrap_or((port, port));
            Some((first.parse().ok()?, last.parse().ok()?, protocol(own)))
        });
        let exposed = exposed.flat_map(|(first, last, protocol): (i64, i64, String)| {
            (first..=last).map(move |port| (port, protocol.clone()))
        });
        published.chain(exposed).collect()
    }

    fn resources(&self) -> Json {
        let group =
            |kind: &str| self.node.get("deploy").and_then(|it| it.get("resources")?.get(kind));
        let (limits, reserved) = (group("limits"), group("reservations"));
        let of = |group: Option<&Node>, own: &str, key: &str| {
            self.node.get(own).or_else(|| group?.get(key)).map(|it| it.value.clone())
        };
        let mut all = json!({});
        for (member, cpus, memory) in [
            ("limits", of(limits, "cpus", "cpus"), of(limits, "mem_limit", "memory")),
            ("requests", of(reserved, "", "cpus"), of(reserved, "mem_reservation", "memory")),
        ] {
            let mut amounts = json!({});
            if let Some(Value::Float(cpus)) = cpus {
                amounts["cpu"] = format!("{}m", (cpus * 1000.0).round()).into();
            }
            if let Some(Value::Int(bytes)) = memory {
                amounts["memory"] = bytes.to_string().into();
            }
            put(&mut all, member, amounts);
        }
        all
    }

    fn security(&self) -> Json {
        let mut context = json!({});
        if self.flag("privileged") {
            context["privileged"] = true.into();
        }
        if self.flag("read_only") {
            context["readOnlyRootFilesystem"] = true.into();
        }
        let mut capabilities = json!({});
        for (key, member) in [("cap_add", "add"), ("cap_drop", "drop")] {
            let names = self.list(key).iter().filter_map(Node::as_text);
            let bare = names.map(|it| it.to_uppercase().trim_start_matches("CAP_").to_owned());
            put(&mut capabilities, member, bare.collect());
        }
        put(&mut context, "capabilities", capabilities);
        let is_privileged = self.flag("privileged");
        for option in self.list("security_opt").iter().filter_map(Node::as_text) {
            match option {
                "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true"
                    if !is_privileged =>
                {
                    context["allowPrivilegeEscalation"] = false.into();
                }
                other if is_privileged && other.starts_with("no-new-privileges") => {
                    self.tell("security_opt", &format!("{other} is nothing for a privileged pod"));
                }
                other => self.tell("security_opt", &format!("{other} is left out")),
            }
        }
        let user = text(self.node, "user");
        if !matches!(user, "" | "0" | "root") && self.writes_to_claim() {
            self.tell("user", "what it may write to in its volumes is what their storage says");
        }
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        for (id, member) in [(user, "runAsUser"), (group, "runAsGroup")] {
            match (id, id.parse::<i64>()) {
                ("", _) => {}
                ("root", _) => context[member] = 0.into(),
                (_, Ok(id)) => context[member] = id.into(),
                (name, Err(_)) => {
                    self.tell("user", &format!("{name:?} is no number: the image's own is used"));
                }
            }
        }
        context
    }

    fn pod_security(&self) -> Json {
        let mut context = json!({});
        let groups = self.list("group_add").iter().filter_map(|it| {
            it.as_int().or_else(|| it.as_text()?.parse().ok()).or_else(|| {
                self.tell("group_add", "a group that is no number is left out");
                None
            })
        });
        put(&mut context, "supplementalGroups", groups.map(Json::from).collect());
        let mut sysctls = strings(self.node.get("sysctls"));
        let is_on_node = text(self.node, "network_mode") == "host";
        sysctls.retain(|name, _| {
            let is_nodes = is_on_node && name.starts_with("net.");
            if is_nodes {
                self.tell("sysctls", &format!("{name} is left out: it is the node's"));
            } else if !SAFE_SYSCTLS.contains(&name.as_str()) {
                let what =
                    format!("{name} must be allowed by each node (--allowed-unsafe-sysctls)");
                self.tell("sysctls", &what);
            }
            !is_nodes
        });
        let sysctls =
            sysctls.into_iter().map(|(name, value)| json!({ "name": name, "value": value }));
        put(&mut context, "sysctls", sysctls.collect());
        context
    }

    fn hosts(&self) -> Json {
        let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in self.list("extra_hosts").iter().filter_map(Node::as_text) {
            let Some((name, address)) = entry.split_once('=').or_else(|| entry.split_once(':'))
            else {
                continue;
            };
            let address = address.trim_start_matches('[').trim_end_matches(']');
            if address == "host-gateway" {
                self.tell("extra_hosts", &format!("{name} is left out: a pod has no host-gateway"));
            } else {
                hosts.entry(address).or_default().push(name);
            }
        }
        let alias = |(ip, names)| json!({ "ip": ip, "hostnames": names });
        hosts.into_iter().map(alias).collect()
    }

    fn dns(&self) -> Json {
        let mut config = json!({});
        for (key, member) in [("dns", "nameservers"), ("dns_search", "searches")] {
            let mut given = self.list(key);
            if key == "dns" && given.len() > MOST_NAMESERVERS {
                self.tell(key, "the first three are asked, no pod has more");
                given = given.get(..MOST_NAMESERVERS).unwrap_or_default();
            }
            put(&mut config, member, given.iter().map(plain).collect());
        }
        let option = |it: &str| match it.split_once(':') {
            Some((name, value)) => json!({ "name": name, "value": value }),
            None => json!({ "name": it }),
        };
        let options = self.list("dns_opt").iter().filter_map(Node::as_text).map(option);
        put(&mut config, "options", options.collect());
        config
    }
}

fn plain_or_null(node: Option<&Node>) -> Json {
    node.map_or(Json::Null, plain)
}

fn protocol(text: &str) -> String {
    if text.is_empty() { "TCP".to_owned() } else { text.to_uppercase() }
}

/// A text in which Kubernetes replaces nothing: it would take `$(NAME)` for a variable, and `$$` for one dollar sign.
fn literal(text: &str) -> String {
    let mut literal = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '$' && matches!(letters.peek(), Some('(' | '$')) {
            literal.push('$');
        }
        literal.push(letter);
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::super::tests::converted;
    use super::*;

    #[test]
    fn nothing_in_a_text_is_replaced() {
        for (text, expected) in [
            ("$HOME", "$HOME"),
            ("$(date)", "$$(date)"),
            ("a$$b", "a$$$b"),
            ("$", "$"),
            ("$$(x)", "$$$$(x)"),
        ] {
            assert_eq!(literal(text), expected);
        }
    }

    #[test]
    fn a_container_is_what_the_service_says() {
        let (all, told) = converted(
            "
services:
  web:
    image: a
    entrypoint: [sh, -c]
    command: ['echo $$(date)']
    working_dir: /w
    user: '7:8'
    read_only: true
    cap_drop: [ALL]
    cap_add: [CAP_CHOWN]
    security_opt: ['no-new-privileges:true']
    group_add: ['9']
    sysctls: {net.core.somaxconn: 5}
    extra_hosts: ['a=10.0.0.1', 'b=10.0.0.1']
    dns: [1.1.1.1]
    dns_opt: ['ndots:2', use-vc]
    pull_policy: always
    stop_grace_period: 1m
    stop_signal: SIGINT
    expose: ['9000-9001', '53/udp']
    ports: ['80']
    deploy: {resources: {limits: {cpus: '0.5', memory: 64M}, reservations: {cpus: '0.25'}}}
",
        )
        .unwrap();
        let pod = &all["Deployment/web"]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["command"], json!(["sh", "-c"]));
        assert_eq!(container["args"], json!(["echo $$(date)"]));
        assert_eq!(container["workingDir"], "/w");
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(
            container["resources"],
            json!({ "limits": { "cpu": "500m", "memory": "67108864" }, "requests": { "cpu": "250m" } })
        );
        assert_eq!(
            container["securityContext"],
            json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsUser": 7, "runAsGroup": 8,
                "capabilities": { "add": ["CHOWN"], "drop": ["ALL"] },
            })
        );
        assert_eq!(
            container["ports"],
            json!([
                { "containerPort": 53, "protocol": "UDP" }, { "containerPort": 80, "protocol": "TCP" },
                { "containerPort": 9000, "protocol": "TCP" }, { "containerPort": 9001, "protocol": "TCP" },
            ])
        );
        assert_eq!(pod["terminationGracePeriodSeconds"], 60);
        assert_eq!(pod["hostAliases"], json!([{ "ip": "10.0.0.1", "hostnames": ["a", "b"] }]));
        assert_eq!(
            pod["dnsConfig"],
            json!({ "nameservers": ["1.1.1.1"], "options": [{ "name": "ndots", "value": "2" }, { "name": "use-vc" }] })
        );
        assert_eq!(
            pod["securityContext"],
            json!({ "supplementalGroups": [9], "sysctls": [{ "name": "net.core.somaxconn", "value": "5" }] })
        );
        assert_eq!(
            told,
            [
                "services.web.sysctls: net.core.somaxconn must be allowed by each node (--allowed-unsafe-sysctls)",
                "services.web.stop_signal: a pod has no word for it",
            ]
        );
    }

    #[test]
    fn what_the_api_would_refuse_is_left_out_and_told() {
        let (all, told) = converted(
            "
services:
  a:
    image: a
    privileged: true
    security_opt: ['no-new-privileges:true']
    network_mode: host
    sysctls: {net.ipv4.tcp_syncookies: 1, kernel.shm_rmid_forced: 1}
    dns: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]
    stop_grace_period: 500ms
    user: '7'
    volumes: ['data:/data']
volumes: {data: }
",
        )
        .unwrap();
        let pod = &all["StatefulSet/a"]["spec"]["template"]["spec"];
        let context = &pod["containers"][0]["securityContext"];
        assert_eq!(*context, json!({ "privileged": true, "runAsUser": 7 }));
        assert_eq!(
            pod["securityContext"],
            json!({ "sysctls": [{ "name": "kernel.shm_rmid_forced", "value": "1" }] })
        );
        assert_eq!(pod["dnsConfig"]["nameservers"], json!(["1.1.1.1", "1.1.1.2", "1.1.1.3"]));
        assert_eq!(pod["terminationGracePeriodSeconds"], 1);
        for key in ["security_opt", "sysctls", "dns", "user"] {
            let key = format!("services.a.{key}: ");
            assert!(told.iter().any(|it| it.starts_with(&key)), "{key} in {told:?}");
        }
    }

    #[test]
    fn what_a_pod_cannot_share_is_refused() {
        for (key, value) in [("network_mode", "none"), ("pid", "service:b"), ("ipc", "container:c")]
        {
            let file = format!("services: {{a: {{image: a, {key}: '{value}'}}, b: {{image: b}}}}");
            let refused = converted(&file).unwrap_err();
            assert!(refused.message.starts_with(&format!("services.a.{key}: ")), "{refused}");
        }
        let (all, told) =
            converted("services: {a: {image: a, network_mode: host, pid: host, ipc: host}}")
                .unwrap();
        let pod = &all["Deployment/a"]["spec"]["template"]["spec"];
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[key], true, "{key}");
        }
        assert_eq!(told, [""; 0]);
    }
}
