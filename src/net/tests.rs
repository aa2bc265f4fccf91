//! The handle as the engine uses it, on a host of its own.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use super::testing::Netns;
use super::*;
use crate::error::Kind;

struct Node {
    host: Netns,
    state: tempfile::TempDir,
}

/// A pod whose monitor is a thread of this test.
struct Pod {
    netns: Netns,
    identity: PodIdentity,
}

impl Node {
    fn new() -> Self {
        let node = Self { host: Netns::new(), state: tempfile::tempdir().unwrap() };
        for name in ["net.d", "bin"] {
            std::fs::create_dir(node.state.path().join(name)).unwrap();
        }
        node
    }

    fn config(&self, mode: NetworkMode) -> Config {
        let state = self.state.path();
        Config {
            mode,
            bridge: "ct-br0".to_owned(),
            table: "ct-cais".to_owned(),
            subnet: "10.77.0.0/24".parse().unwrap(),
            cni_config_dirs: vec![state.join("net.d")],
            cni_plugin_dirs: vec![state.join("bin")],
            cni_timeout: Duration::from_secs(20),
            state: state.to_owned(),
        }
    }

    fn open(&self, mode: NetworkMode, survivors: Vec<Published>) -> Network {
        let config = self.config(mode);
        self.host.run(move || Network::open(config, survivors).unwrap())
    }

    /// Runs calls as the daemon would, in the host's network namespace.
    fn run<T: Send + 'static>(
        &self,
        network: &Network,
        calls: impl AsyncFnOnce(Network) -> T + Send + 'static,
    ) -> T {
        let network = network.clone();
        self.host.run(move || {
            // The threads it makes inherit this thread's network namespace.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(calls(network))
        })
    }

    fn attach(&self, network: &Network, pod: &Pod, ports: &[PortMapping]) -> Result<Attachment> {
        let request = pod.request(ports);
        self.run(network, async |network| network.attach(request).await)
    }

    fn detach(&self, network: &Network, pod: &Pod) {
        let (id, netns) = (pod.identity.pod.clone(), pod.netns.path());
        self.run(network, async move |network| {
            network.detach(&id, Some(&netns)).await.unwrap();
            network.detach(&id, None).await.unwrap();
        });
    }

    fn settle(&self, network: &Network) {
        self.run(network, async |network| network.settle().await);
    }

    fn ready(&self, network: &Network) -> Result<()> {
        self.run(network, async |network| network.ready().await)
    }

    fn configure_cni(&self) {
        let write = |name: &str, text: &str| {
            let path = self.state.path().join(name);
            std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            path
        };
        let plugin = write(
            "bin/fake",
            "#!/bin/sh\n[ $CNI_COMMAND = ADD ] && echo '{\"ips\":[{\"address\":\"10.9.9.9/24\"}]}'\n\
             exit 0\n",
        );
        std::fs::set_permissions(plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        write("net.d/10.conf", r#"{"cniVersion":"1.0.0","name":"n","type":"fake"}"#);
    }
}

impl Pod {
    fn new() -> Self {
        let identity = PodIdentity {
            pod: PodId::generate().unwrap(),
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            uid: "u".to_owned(),
        };
        Self { netns: Netns::for_pod(), identity }
    }

    fn request(&self, ports: &[PortMapping]) -> PodNetworkRequest {
        PodNetworkRequest {
            identity: self.identity.clone(),
            netns: self.netns.path(),
            socket: self.netns.netlink(),
            ports: ports.to_vec(),
            hardware_address: None,
            dns: None,
            annotations: std::collections::BTreeMap::new(),
            cgroup_parent: String::new(),
        }
    }
}

fn http() -> PortMapping {
    PortMapping { protocol: Protocol::Tcp, host_port: 8080, container_port: 80, host_ip: None }
}

#[test]
fn a_pod_is_attached_answers_and_is_taken_back() {
    let (node, pod) = (Node::new(), Pod::new());
    let network = node.open(NetworkMode::Builtin, Vec::new());
    node.ready(&network).unwrap();
    for (name, value) in network.pod_sysctls(false).unwrap() {
        pod.netns.command(&format!("sysctl -qw {name}={value}"));
    }
    let attachment = node.attach(&network, &pod, &[http()]).unwrap();
    assert_eq!(attachment.addresses, ["10.77.0.2/24".parse().unwrap()]);
    assert_eq!(pod.netns.command("sysctl -n net.ipv6.conf.eth0.accept_ra").trim(), "0");
    let listener = pod.netns.run(|| TcpListener::bind(("0.0.0.0", 80)).unwrap());
    node.host.run(|| TcpStream::connect(("127.0.0.1", 8080)).unwrap());
    listener.accept().unwrap();

    node.detach(&network, &pod);
    node.host.run(|| TcpStream::connect(("127.0.0.1", 8080)).unwrap_err());
    node.settle(&network);
    let cable = attachment.host_interface.unwrap();
    assert!(!node.host.ip("link").contains(&cable));
    assert_eq!(std::fs::read_dir(node.state.path().join("leases")).unwrap().count(), 0);

    node.run(&network, async |network| network.remove().await).unwrap();
    assert!(!node.host.ip("link").contains("ct-br0"));
    assert_eq!(node.host.command("nft list ruleset"), "");
}

#[test]
fn a_port_in_use_fails_the_attach_and_leaves_nothing_of_it() {
    let (node, first, second) = (Node::new(), Pod::new(), Pod::new());
    let network = node.open(NetworkMode::Builtin, Vec::new());
    node.attach(&network, &first, &[http()]).unwrap();
    let before = node.host.interfaces();

    let error = node.attach(&network, &second, &[http()]).unwrap_err();

    assert_eq!(error.kind(), Kind::AlreadyExists);
    assert_eq!(node.host.interfaces(), before);
    assert_eq!(std::fs::read_dir(node.state.path().join("leases")).unwrap().count(), 1);
}

#[test]
fn the_next_daemon_finds_ports_and_addresses_and_takes_back_the_lost() {
    let (node, living, lost) = (Node::new(), Pod::new(), Pod::new());
    let network = node.open(NetworkMode::Builtin, Vec::new());
    let attachment = node.attach(&network, &living, &[http()]).unwrap();
    let of_lost = node.attach(&network, &lost, &[]).unwrap();
    drop(network);

    let survivor = Published {
        pod: living.identity.pod.clone(),
        address: attachment.ipv4().unwrap(),
        ipv6: None,
        mappings: vec![http()],
    };
    let network = node.open(NetworkMode::Builtin, vec![survivor]);
    let alive = BTreeSet::from([living.identity.pod.clone()]);
    node.run(&network, async |network| network.collect(alive).await).unwrap();

    let links = node.host.ip("link");
    assert!(links.contains(&attachment.host_interface.unwrap()));
    assert!(!links.contains(&of_lost.host_interface.unwrap()));
    let listener = living.netns.run(|| TcpListener::bind(("0.0.0.0", 80)).unwrap());
    node.host.run(|| TcpStream::connect(("127.0.0.1", 8080)).unwrap());
    listener.accept().unwrap();
}

#[test]
fn auto_uses_cni_while_it_is_configured_and_each_pod_goes_the_way_it_came() {
    let (node, first, second) = (Node::new(), Pod::new(), Pod::new());
    let network = node.open(NetworkMode::Auto, Vec::new());
    assert_eq!(node.attach(&network, &first, &[]).unwrap().provider, Provider::Builtin);

    node.configure_cni();
    node.ready(&network).unwrap();
    let attachment = node.attach(&network, &second, &[]).unwrap();
    assert_eq!(attachment.provider, Provider::Cni);
    assert_eq!(attachment.ipv4(), Some([10, 9, 9, 9].into()));
    assert!(second.netns.ip("link show lo").contains("UP"), "loopback is ours to raise");

    // Also with a daemon that was started when CNI was there already.
    let network = node.open(NetworkMode::Auto, Vec::new());
    node.detach(&network, &first);
    node.detach(&network, &second);
    node.settle(&network);
    for directory in ["leases", "cni"] {
        let left = std::fs::read_dir(node.state.path().join(directory)).unwrap().count();
        assert_eq!(left, 0, "{directory}");
    }
}

#[test]
fn a_node_with_cni_gets_no_bridge() {
    let node = Node::new();
    node.configure_cni();
    for mode in [NetworkMode::Auto, NetworkMode::Cni] {
        let network = node.open(mode, Vec::new());
        node.ready(&network).unwrap();
        assert_eq!(network.pod_sysctls(false).unwrap(), [], "its plugins see to that");
        let own = network.pod_sysctls(true).unwrap();
        assert_eq!(own, [("net.ipv6.conf.default.accept_ra", "0")]);
    }
    assert!(!node.host.ip("link").contains("ct-br0"));
    assert_eq!(node.host.command("nft list ruleset"), "");
}

#[test]
fn a_network_that_was_not_opened_again_leaves_nothing_when_it_is_removed() {
    let node = Node::new();
    let plan = networks::Plan {
        id: crate::id::NetworkId::generate().unwrap(),
        bridge: "ct-br1".to_owned(),
        pool: leases::Pool::of("10.78.0.0/24".parse().unwrap()),
        ipv6: Some(leases::Pool::of("fd78::/64".parse().unwrap())),
        reach: Reach::Masqueraded,
        mtu: None,
    };
    let network = node.open(NetworkMode::Builtin, Vec::new());
    let opened = plan.clone();
    node.run(&network, async |network| network.open_network(opened, Vec::new()).await).unwrap();
    drop(network);

    let network = node.open(NetworkMode::Builtin, Vec::new());
    assert!(node.host.ip("link").contains("ct-br1"));
    assert!(node.host.command("nft list ruleset").contains("table ip6 ct-cais"));
    let closed = plan.clone();
    node.run(&network, async |network| network.close_network(closed).await).unwrap();
    assert!(!node.host.ip("link").contains("ct-br1"));
    assert!(!node.host.command("nft list ruleset").contains("table ip6"));
    assert!(node.host.command("nft list ruleset").contains("table ip ct-cais"));

    // What has the name may be somebody else's.
    node.host.ip("link add ct-br1 type veth peer name spare");
    node.run(&network, async |network| network.close_network(plan).await).unwrap();
    assert!(node.host.ip("link").contains("ct-br1"));
}

#[test]
fn a_network_that_is_not_ready_says_why_and_recovers() {
    let node = Node::new();
    let network = node.open(NetworkMode::Cni, Vec::new());
    let error = node.ready(&network).unwrap_err();
    assert!(error.chain().contains("no CNI configuration in"), "{}", error.chain());

    node.host.ip("link add ct-br0 type veth peer name spare");
    let network = node.open(NetworkMode::Builtin, Vec::new());
    let error = node.ready(&network).unwrap_err();
    assert!(error.chain().contains("is no bridge"), "{}", error.chain());
    node.host.ip("link del ct-br0");
    node.ready(&network).unwrap();
    // Somebody reloads the host's firewall.
    node.host.command("nft flush ruleset");
    node.ready(&network).unwrap();
    assert!(node.host.command("nft list ruleset").contains("ct-cais"));
}

#[test]
fn flushed_rules_come_back_by_themselves_and_removed_ones_do_not() {
    let (node, pod) = (Node::new(), Pod::new());
    let network = node.open(NetworkMode::Builtin, Vec::new());
    node.attach(&network, &pod, &[http()]).unwrap();
    let before = node.host.command("nft list ruleset");

    for _ in 0..3 {
        node.host.command("nft flush ruleset");
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        while node.host.command("nft list ruleset") != before {
            assert!(std::time::Instant::now() < deadline, "the rules did not come back");
        }
    }

    node.run(&network, async |network| network.remove().await).unwrap();
    node.host.command("nft add table ip other");
    node.host.command("nft delete table ip other");
    assert_eq!(node.host.command("nft list ruleset"), "");
}
