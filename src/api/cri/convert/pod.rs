//! Pods: what a client asks for, and what it is told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cais_proto::runtime::v1::{
    DnsConfig, LinuxPodSandboxConfig, LinuxPodSandboxStatus, LinuxSandboxSecurityContext,
    Namespace, PodIp, PodSandbox, PodSandboxConfig, PodSandboxMetadata, PodSandboxNetworkStatus,
    PodSandboxState, PodSandboxStatus, PortMapping as CriPortMapping, Protocol as CriProtocol,
    SupplementalGroupsPolicy,
};

use super::check::{self, refuse, shown};
use super::resources::resources;
use super::security::{self, Owner};
use super::sysctl::namespaced_sysctls;
use crate::engine::pod::config::{Config, Dns, NamespaceMode, Namespaces, PortMapping, Protocol};
use crate::engine::pod::phase::Phase;
use crate::engine::pod::record::Record;
use crate::error::{Error, Result};

/// The kernel's `HOST_NAME_MAX`.
const LONGEST_HOSTNAME: usize = 64;

pub(crate) fn pod_config(
    message: Option<PodSandboxConfig>,
    runtime_handler: String,
) -> Result<Config> {
    let PodSandboxConfig {
        metadata,
        hostname,
        log_directory,
        dns_config,
        port_mappings,
        labels,
        annotations,
        linux,
        // Nothing of it has a meaning here.
        windows: _,
    } = check::required("config", message)?;
    let PodSandboxMetadata { name, uid, namespace, attempt } =
        check::required("config.metadata", metadata)?;
    let log_directory = match log_directory {
        empty if empty.is_empty() => None,
        path => Some(check::absolute_path("config.log_directory", path)?),
    };

    let mut config = Config {
        name: check::name("config.metadata.name", name)?,
        // Clients take a status without these two for an error, so a pod must have them.
        uid: check::name("config.metadata.uid", uid)?,
        namespace: check::name("config.metadata.namespace", namespace)?,
        attempt,
        hostname: check_hostname(hostname)?,
        log_directory,
        dns: dns_config.map(dns).transpose()?,
        ports: ports(port_mappings)?,
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
        runtime_handler,
        ..unconfigured()
    };
    if let Some(linux) = linux {
        set_linux(&mut config, linux)?;
    }
    Ok(config)
}

/// A pod about which the `linux` message says nothing.
fn unconfigured() -> Config {
    Config {
        name: String::new(),
        uid: String::new(),
        namespace: String::new(),
        attempt: 0,
        hostname: String::new(),
        log_directory: None,
        dns: None,
        ports: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: String::new(),
        sysctls: BTreeMap::new(),
        overhead: None,
        resources: None,
        namespaces: Namespaces {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Pod,
            ipc: NamespaceMode::Pod,
        },
        user_namespace: None,
        privileged: false,
        readonly_rootfs: false,
        run_as_user: None,
        run_as_group: None,
        supplemental_groups: Vec::new(),
        seccomp: crate::engine::pod::config::SeccompProfile::Unconfined,
        apparmor: None,
        selinux: None,
        runtime_handler: String::new(),
        standalone: None,
    }
}

fn set_linux(config: &mut Config, message: LinuxPodSandboxConfig) -> Result<()> {
    let LinuxPodSandboxConfig {
        cgroup_parent,
        security_context,
        sysctls,
        overhead,
        resources: limits,
    } = message;
    if !cgroup_parent.is_empty() {
        let path = check::path("config.linux.cgroup_parent", cgroup_parent)?;
        config.cgroup_parent = check::one_line("config.linux.cgroup_parent", check::text(&path))?;
    }
    if let Some(context) = security_context {
        set_security(config, context)?;
    }
    config.sysctls = namespaced_sysctls(sysctls, &config.namespaces)?;
    // The adjustments of the OOM score are the containers' own.
    let limits_of = |field, message| resources(field, message).map(|(limits, _)| limits);
    config.overhead =
        overhead.map(|overhead| limits_of("config.linux.overhead", overhead)).transpose()?;
    config.resources =
        limits.map(|limits| limits_of("config.linux.resources", limits)).transpose()?;
    Ok(())
}

fn set_security(config: &mut Config, message: LinuxSandboxSecurityContext) -> Result<()> {
    const FIELD: &str = "config.linux.security_context";
    let LinuxSandboxSecurityContext {
        namespace_options,
        selinux_options,
        run_as_user,
        readonly_rootfs,
        supplemental_groups,
        privileged,
        // The interface gave it up: what it says is in `seccomp` too.
        seccomp_profile_path: _,
        run_as_group,
        seccomp,
        apparmor,
        supplemental_groups_policy,
    } = message;
    // A pod has no process of its own whose groups an image could add to: checked, not kept.
    let _: SupplementalGroupsPolicy = check::known(
        format_args!("{FIELD}.supplemental_groups_policy"),
        supplemental_groups_policy,
        "SupplementalGroupsPolicy",
    )?;
    (config.namespaces, config.user_namespace) =
        security::namespaces(&format!("{FIELD}.namespace_options"), namespace_options, Owner::Pod)?;
    config.privileged = privileged;
    config.readonly_rootfs = readonly_rootfs;
    config.run_as_user = security::id(format_args!("{FIELD}.run_as_user"), run_as_user)?;
    config.run_as_group = security::id(format_args!("{FIELD}.run_as_group"), run_as_group)?;
    if config.run_as_group.is_some() && config.run_as_user.is_none() {
        return Err(Error::invalid(format!("{FIELD}.run_as_group is set without run_as_user")));
    }
    config.supplemental_groups =
        security::groups(&format!("{FIELD}.supplemental_groups"), supplemental_groups)?;
    config.seccomp = security::seccomp(&format!("{FIELD}.seccomp"), seccomp)?;
    config.apparmor = security::apparmor(&format!("{FIELD}.apparmor"), apparmor, "")?;
    config.selinux = security::selinux(&format!("{FIELD}.selinux_options"), selinux_options)?;
    Ok(())
}

fn check_hostname(hostname: String) -> Result<String> {
    let is_name = hostname
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if hostname.len() <= LONGEST_HOSTNAME && is_name {
        Ok(hostname)
    } else {
        let why = format_args!("{} is not a host name of at most 64 bytes", shown(&hostname));
        Err(refuse("config.hostname", why))
    }
}

/// Each value becomes a word in a line of resolv.conf.
fn dns(message: DnsConfig) -> Result<Dns> {
    let DnsConfig { servers, searches, options } = message;
    for server in &servers {
        // A link-local address may name its interface.
        let address = server.split_once('%').map_or(server.as_str(), |(address, _)| address);
        if address.parse::<IpAddr>().is_err() {
            let why = format_args!("{} is not an IP address", shown(server));
            return Err(refuse("config.dns_config.servers", why));
        }
    }
    let words = |field: &str, values: Vec<String>| -> Result<Vec<String>> {
        values.into_iter().map(|value| check::word(field, value)).collect()
    };
    Ok(Dns {
        servers: words("config.dns_config.servers", servers)?,
        searches: words("config.dns_config.searches", searches)?,
        options: words("config.dns_config.options", options)?,
    })
}

fn ports(mappings: Vec<CriPortMapping>) -> Result<Vec<PortMapping>> {
    let mut ports: Vec<PortMapping> = Vec::new();
    for (index, mapping) in mappings.into_iter().enumerate() {
        let field = format!("config.port_mappings[{index}]");
        let Some(port) = port(&field, mapping)? else { continue };
        let is_same = |other: &PortMapping| {
            (other.protocol, other.host_port, other.host_ip)
                == (port.protocol, port.host_port, port.host_ip)
        };
        if ports.iter().any(is_same) {
            let why = format_args!("{} is published twice", port.host_port);
            return Err(refuse(format_args!("{field}.host_port"), why));
        }
        ports.push(port);
    }
    Ok(ports)
}

/// `None` for a port that is only declared: nothing on the host leads to it.
fn port(field: &str, message: CriPortMapping) -> Result<Option<PortMapping>> {
    let CriPortMapping { protocol, container_port, host_port, host_ip } = message;
    let number = |name: &str, value: i32| {
        u16::try_from(value).map_err(|_| {
            refuse(format_args!("{field}.{name}"), format_args!("{value} is not a port"))
        })
    };
    let protocol = match check::known(format_args!("{field}.protocol"), protocol, "Protocol")? {
        CriProtocol::Tcp => Protocol::Tcp,
        CriProtocol::Udp => Protocol::Udp,
        CriProtocol::Sctp => Protocol::Sctp,
    };
    let host_port = number("host_port", host_port)?;
    let container_port = number("container_port", container_port)?;
    let host_ip = match host_ip.as_str() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| {
            let why = format_args!("{} is not an IP address", shown(text));
            refuse(format_args!("{field}.host_ip"), why)
        })?),
    };
    if host_port == 0 {
        return Ok(None);
    }
    if container_port == 0 {
        return Err(refuse(format_args!("{field}.container_port"), "0 is not a port"));
    }
    Ok(Some(PortMapping { protocol, container_port, host_port, host_ip }))
}

fn metadata(config: &Config) -> PodSandboxMetadata {
    PodSandboxMetadata {
        name: config.name.clone(),
        uid: config.uid.clone(),
        namespace: config.namespace.clone(),
        attempt: config.attempt,
    }
}

pub(crate) fn state(phase: Phase) -> PodSandboxState {
    match phase {
        Phase::Ready => PodSandboxState::SandboxReady,
        Phase::Making | Phase::Stopped => PodSandboxState::SandboxNotready,
    }
}

/// A pod in a list.
pub(crate) fn pod(snapshot: &Record) -> PodSandbox {
    let config = &snapshot.config;
    PodSandbox {
        id: snapshot.id.to_string(),
        metadata: Some(metadata(config)),
        state: state(snapshot.phase) as i32,
        created_at: snapshot.created_at,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler: config.runtime_handler.clone(),
    }
}

pub(crate) fn pod_status(snapshot: &Record) -> PodSandboxStatus {
    let config = &snapshot.config;
    let mut addresses = snapshot.addresses().map(|address| address.to_string());
    let options = security::namespaces_to_cri(&config.namespaces, config.user_namespace.as_ref());
    PodSandboxStatus {
        id: snapshot.id.to_string(),
        metadata: Some(metadata(config)),
        state: state(snapshot.phase) as i32,
        created_at: snapshot.created_at,
        network: Some(PodSandboxNetworkStatus {
            ip: addresses.next().unwrap_or_default(),
            additional_ips: addresses.map(|ip| PodIp { ip }).collect(),
        }),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace { options: Some(options) }),
        }),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler: config.runtime_handler.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use cais_proto::runtime::v1::{
        Int64Value, LinuxContainerResources, NamespaceOption, SecurityProfile,
    };

    use super::*;
    use crate::cgroup;
    use crate::engine::Rendering;
    use crate::engine::pod::config::SeccompProfile;
    use crate::error::Kind;
    use crate::id::PodId;
    use crate::net::{Attachment, Provider};

    fn full() -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "web".into(),
                uid: "1234".into(),
                namespace: "default".into(),
                attempt: 2,
            }),
            hostname: "web-0".into(),
            log_directory: "/var/log/pods/default_web_1234".into(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.0.0.10".into(), "fe80::1%eth0".into()],
                searches: vec!["svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            port_mappings: vec![
                CriPortMapping { container_port: 80, ..Default::default() },
                CriPortMapping {
                    protocol: 1,
                    container_port: 53,
                    host_port: 5353,
                    host_ip: "127.0.0.1".into(),
                },
            ],
            labels: HashMap::from([("app".into(), "web".into())]),
            annotations: HashMap::from([("note".into(), "any\ntext".into())]),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/kubepods.slice/kubepods-pod1.slice".into(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption { pid: 1, ..Default::default() }),
                    run_as_user: Some(Int64Value { value: 1000 }),
                    run_as_group: Some(Int64Value { value: 1001 }),
                    supplemental_groups: vec![5, 6],
                    privileged: true,
                    readonly_rootfs: true,
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
                sysctls: HashMap::from([("net.core.somaxconn".into(), "1024".into())]),
                overhead: Some(LinuxContainerResources { cpu_shares: 2, ..Default::default() }),
                resources: None,
            }),
            windows: None,
        }
    }

    #[test]
    fn every_field_reaches_the_engine() {
        let config = pod_config(Some(full()), "fast".into()).unwrap();

        let expected = Config {
            name: "web".into(),
            uid: "1234".into(),
            namespace: "default".into(),
            attempt: 2,
            hostname: "web-0".into(),
            log_directory: Some("/var/log/pods/default_web_1234".into()),
            dns: Some(Dns {
                servers: vec!["10.0.0.10".into(), "fe80::1%eth0".into()],
                searches: vec!["svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            ports: vec![PortMapping {
                protocol: Protocol::Udp,
                container_port: 53,
                host_port: 5353,
                host_ip: Some([127, 0, 0, 1].into()),
            }],
            labels: BTreeMap::from([("app".into(), "web".into())]),
            annotations: BTreeMap::from([("note".into(), "any\ntext".into())]),
            cgroup_parent: "/kubepods.slice/kubepods-pod1.slice".into(),
            sysctls: BTreeMap::from([("net.core.somaxconn".into(), "1024".into())]),
            overhead: Some(cgroup::Resources { cpu_shares: Some(2), ..Default::default() }),
            resources: None,
            namespaces: Namespaces {
                network: NamespaceMode::Pod,
                pid: NamespaceMode::Container,
                ipc: NamespaceMode::Pod,
            },
            user_namespace: None,
            privileged: true,
            readonly_rootfs: true,
            run_as_user: Some(1000),
            run_as_group: Some(1001),
            supplemental_groups: vec![5, 6],
            seccomp: SeccompProfile::RuntimeDefault,
            apparmor: None,
            selinux: None,
            runtime_handler: "fast".into(),
            standalone: None,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn absent_dns_is_the_hosts_and_empty_dns_is_empty() {
        let with = |dns_config| {
            pod_config(Some(PodSandboxConfig { dns_config, ..full() }), String::new()).unwrap().dns
        };
        assert_eq!(with(None), None);
        assert_eq!(with(Some(DnsConfig::default())), Some(Dns::default()));
    }

    #[test]
    fn a_pod_that_cannot_be_is_refused_by_field() {
        type Break = fn(&mut PodSandboxConfig);
        fn metadata(config: &mut PodSandboxConfig) -> &mut PodSandboxMetadata {
            config.metadata.as_mut().unwrap()
        }
        fn linux(config: &mut PodSandboxConfig) -> &mut LinuxPodSandboxConfig {
            config.linux.as_mut().unwrap()
        }
        fn security(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
            linux(config).security_context.as_mut().unwrap()
        }
        fn port(config: &mut PodSandboxConfig) -> &mut CriPortMapping {
            &mut config.port_mappings[1]
        }
        let cases: &[(&str, Break)] = &[
            (".metadata is missing", |c| c.metadata = None),
            (".metadata.name is empty", |c| metadata(c).name.clear()),
            (".metadata.name: 254 bytes", |c| metadata(c).name = "a".repeat(254)),
            (".metadata.uid is empty", |c| metadata(c).uid.clear()),
            (".metadata.namespace is empty", |c| metadata(c).namespace.clear()),
            (".hostname: \"a/b\"", |c| c.hostname = "a/b".into()),
            (".hostname: ", |c| c.hostname = "a".repeat(65)),
            (".log_directory: \"a\" is not an absolute", |c| c.log_directory = "a".into()),
            (".log_directory: \"/a/../b\" must", |c| c.log_directory = "/a/../b".into()),
            (".dns_config.servers: \"x\" is not an IP", |c| {
                c.dns_config = Some(DnsConfig { servers: vec!["x".into()], ..Default::default() });
            }),
            (".dns_config.searches: \"a\\nb\" holds white", |c| {
                let searches = vec!["a\nb".into()];
                c.dns_config = Some(DnsConfig { searches, ..Default::default() });
            }),
            (".port_mappings[1].protocol: 3 is not a Protocol", |c| port(c).protocol = 3),
            (".port_mappings[1].host_port: 65536 is not", |c| port(c).host_port = 65536),
            (".port_mappings[1].host_port: -1 is not", |c| port(c).host_port = -1),
            (".port_mappings[1].container_port: 0 is not", |c| port(c).container_port = 0),
            (".port_mappings[1].host_ip: \"::g\" is not", |c| port(c).host_ip = "::g".into()),
            (".port_mappings[2].host_port: 5353 is published twice", |c| {
                c.port_mappings.push(c.port_mappings[1].clone());
            }),
            (".linux.cgroup_parent: \"/a/../../b\" must", |c| {
                linux(c).cgroup_parent = "/a/../../b".into();
            }),
            (".linux.sysctls: \"vm.swappiness\"", |c| {
                linux(c).sysctls.insert("vm.swappiness".into(), "1".into());
            }),
            (".linux.overhead.cpu_shares: -1", |c| {
                linux(c).overhead.as_mut().unwrap().cpu_shares = -1;
            }),
            (".linux.security_context.run_as_user: -1", |c| {
                security(c).run_as_user = Some(Int64Value { value: -1 });
            }),
            (".linux.security_context.run_as_group is set without run_as_user", |c| {
                security(c).run_as_user = None;
            }),
            (".linux.security_context.supplemental_groups: -5", |c| {
                security(c).supplemental_groups = vec![-5];
            }),
            (".linux.security_context.supplemental_groups_policy: 2 is not a Supp", |c| {
                security(c).supplemental_groups_policy = 2;
            }),
            (".linux.security_context.namespace_options.pid: 7 is not a NamespaceMode", |c| {
                security(c).namespace_options =
                    Some(NamespaceOption { pid: 7, ..Default::default() });
            }),
            (".linux.security_context.seccomp.profile_type: 4", |c| {
                security(c).seccomp.as_mut().unwrap().profile_type = 4;
            }),
        ];
        for (expected, spoil) in cases {
            let mut message = full();
            spoil(&mut message);
            let error = pod_config(Some(message), String::new()).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            let chain = error.chain();
            assert!(chain.starts_with(&format!("config{expected}")), "{chain}");
        }
        assert_eq!(pod_config(None, String::new()).unwrap_err().chain(), "config is missing");
    }

    #[test]
    fn a_status_says_all_that_clients_insist_on() {
        let snapshot = Record {
            id: PodId::generate().unwrap(),
            config: Arc::new(pod_config(Some(full()), "fast".into()).unwrap()),
            created_at: 7,
            phase: Phase::Ready,
            limits: None,
            stopped_at: 0,
            cgroup: cgroup::Record::of_parent("cgroup_parent", "/x").unwrap(),
            monitor_pid: Some(1),
            rendering: Rendering::default(),
            joined: BTreeMap::new(),
            asks_names: false,
            way_out: None,
            way_out_ipv6: None,
            taken_from: None,
            attachment: Some(Attachment {
                addresses: vec!["10.88.0.2/16".parse().unwrap(), "fd00::2/64".parse().unwrap()],
                provider: Provider::Builtin,
                interface: "eth0".into(),
                host_interface: None,
                gateways: vec![],
                hardware_address: None,
                mtu: None,
                name_servers: vec![],
                name_searches: vec![],
                name_options: vec![],
            }),
        };
        let status = pod_status(&snapshot);

        assert_eq!(status.id, snapshot.id.as_str());
        assert_eq!(status.metadata, full().metadata);
        assert_eq!(status.created_at, 7);
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert_eq!(status.labels, full().labels);
        assert_eq!(status.annotations, full().annotations);
        assert_eq!(status.runtime_handler, "fast");
        let network = status.network.unwrap();
        assert_eq!(network.ip, "10.88.0.2");
        assert_eq!(network.additional_ips, [PodIp { ip: "fd00::2".into() }]);
        let options = status.linux.unwrap().namespaces.unwrap().options;
        let asked = full().linux.unwrap().security_context.unwrap().namespace_options;
        assert_eq!(options, asked);

        let listed = pod(&Record { phase: Phase::Stopped, ..snapshot });
        assert_eq!(listed.state(), PodSandboxState::SandboxNotready);
        assert_eq!(listed.metadata, full().metadata);
    }
}
