//! Pods whose network CNI plugins make: Debian's for use, scripts of the test for every fault.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cais_proto::runtime::v1::{Protocol, StatusRequest};

use crate::network::{answer, free_port, read_all, serve};
use crate::node::{Node, monitors_below};
use crate::wait::{LONG, eventually, until};

/// The bridge of Debian's plugin, which leaves it standing.
pub(crate) struct Bridge(String);

impl Bridge {
    fn of(node: &Node) -> Self {
        Self(format!("{}c", node.bridge))
    }

    fn ports(&self) -> usize {
        let ports = fs::read_dir(format!("/sys/class/net/{}/brif", self.0));
        ports.map_or(0, Iterator::count)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.0]).output();
    }
}

/// What the portmap plugin leaves behind in the host's tables, by design, for the next pod.
pub(crate) struct PortmapRules {
    /// The families that had no table before.
    without_table: Vec<&'static str>,
}

impl PortmapRules {
    pub(crate) fn watch() -> Self {
        let families = ["ip", "ip6"].into_iter();
        Self { without_table: families.filter(|family| !has_nat_table(family)).collect() }
    }
}

impl Drop for PortmapRules {
    fn drop(&mut self) {
        let iptables = |words: &str| {
            let words = ["-w", "-t", "nat"].into_iter().chain(words.split(' '));
            let _ = Command::new("iptables").args(words).output();
        };
        let listed = Command::new("iptables").args(["-w", "-t", "nat", "-S"]).output();
        let listed = listed.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
        for rule in listed.unwrap_or_default().lines().filter(|rule| rule.contains("CNI-HOSTPORT"))
        {
            if let Some(rest) = rule.strip_prefix("-A ") {
                // Words in quotes, such as comments.
                let script = format!("iptables -w -t nat -D {rest}");
                let _ = Command::new("sh").args(["-c", &script]).output();
            }
        }
        for chain in ["DNAT", "MASQ", "SETMARK"] {
            iptables(&format!("-F CNI-HOSTPORT-{chain}"));
        }
        for chain in ["DNAT", "MASQ", "SETMARK"] {
            iptables(&format!("-X CNI-HOSTPORT-{chain}"));
        }
        for family in self.without_table.drain(..) {
            let table = ["table", family, "nat"];
            let shown = Command::new("nft").arg("list").args(table).output().unwrap();
            if !String::from_utf8_lossy(&shown.stdout).contains("counter") {
                let _ = Command::new("nft").arg("delete").args(table).output();
            }
        }
    }
}

fn has_nat_table(family: &str) -> bool {
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    String::from_utf8_lossy(&tables.stdout)
        .lines()
        .any(|table| table == format!("table {family} nat"))
}

/// Without the network namespace this plugin's DEL leaves its masquerade rule, and so it does when
/// it finds no address to know it by: only the test that ends in peace has one.
fn bridge(node: &Node, masquerade: bool) -> String {
    format!(
        r#"{{"type": "bridge", "bridge": "{}", "isGateway": true, "ipMasq": {masquerade}, "hairpinMode": true,
             "ipam": {{"type": "host-local", "dataDir": "{}/ipam",
                       "ranges": [[{{"subnet": "10.219.0.0/16"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}}"#,
        Bridge::of(node).0,
        node.home.display()
    )
}

/// Bridge, addresses, published ports and the loopback interface, all by Debian's plugins.
pub(crate) async fn with_debians_plugins(masquerade: bool) -> (Node, Bridge) {
    let node = Node::boot_cni(|node| {
        let portmap = r#"{"type": "portmap", "capabilities": {"portMappings": true}}"#;
        format!(r#"{}, {portmap}, {{"type": "loopback"}}"#, bridge(node, masquerade))
    })
    .await;
    let bridge = Bridge::of(&node);
    (node, bridge)
}

/// Debian's bridge, and after it a script of the test.
pub(crate) async fn with_script(body: &str) -> (Node, Bridge) {
    let node = Node::boot_cni(|node| {
        write_plugin(node, body);
        format!(r#"{}, {{"type": "script"}}"#, bridge(node, false))
    })
    .await;
    let bridge = Bridge::of(&node);
    (node, bridge)
}

/// `HOME` in the body is the node's directory. A script that says nothing passes on what came before it.
pub(crate) fn write_plugin(node: &Node, body: &str) {
    let path = node.home.join("plugins/script");
    let body = body.replace("HOME", node.home.to_str().unwrap());
    let text = format!(
        "#!/bin/sh\ninput=$(cat)\n\
         if [ $CNI_COMMAND = VERSION ]; then\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}}'; exit\nfi\n\
         {body}\n\
         [ $CNI_COMMAND != ADD ] || echo \"$input\" | jq -c .prevResult\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn leases(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(node.home.join("ipam/e2e")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.parse::<Ipv4Addr>().is_ok()).collect()
}

fn records(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(node.state.join("cni")).into_iter().flatten().flatten();
    entries.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default()).collect()
}

pub(crate) fn assert_nothing_of_a_pod(node: &Node, bridge: &Bridge) {
    assert!(leases(node).is_empty(), "{:?}", leases(node));
    assert_eq!(bridge.ports(), 0);
    assert!(records(node).is_empty(), "{:?}", records(node));
    assert!(monitors_below(&node.state).is_empty(), "a network namespace is left");
    let pods: Vec<_> = fs::read_dir(node.state.join("pods")).unwrap().flatten().collect();
    assert!(pods.is_empty(), "{pods:?}");
}

#[tokio::test]
async fn a_pod_of_debians_plugins_has_address_and_ports_over_a_restart_and_gives_all_back() {
    let _rules = PortmapRules::watch();
    let (node, bridge) = with_debians_plugins(true).await;
    let port = free_port().await;
    let pod = node.pod("web").publish(Protocol::Tcp, port, 80).run().await;
    let ip: Ipv4Addr = pod.ip().await.parse().unwrap();
    assert_eq!(ip.octets()[..2], [10, 219]);
    assert_eq!(leases(&node), [ip.to_string()]);
    assert_eq!(bridge.ports(), 1);
    let server = serve(&pod, "by-cni").await;
    assert_eq!(answer(&format!("{ip}:80")).await, "by-cni");
    assert_eq!(answer(&format!("127.0.0.1:{port}")).await, "by-cni");
    assert!(server.shell("ip -o link show lo").await.contains("UP"));
    assert!(server.shell("ip -4 -o addr show eth0").await.contains(&ip.to_string()));
    // The last plugin's result is kept for CHECK and DEL.
    let kept: serde_json::Value = serde_json::from_str(&records(&node)[0]).unwrap();
    let address = kept["result"]["ips"][0]["address"].as_str().unwrap();
    assert!(address.starts_with(&format!("{ip}/")), "{address}");

    node.restart().await;
    assert_eq!(pod.ip().await, ip.to_string());
    assert_eq!(answer(&format!("127.0.0.1:{port}")).await, "by-cni");
    let neighbour = node.pod("neighbour").run().await;
    assert_ne!(neighbour.ip().await, ip.to_string());
    neighbour.remove().await;

    pod.stop().await;
    assert_eq!(read_all(&format!("127.0.0.1:{port}")).await, None);
    pod.remove().await;
    assert_nothing_of_a_pod(&node, &bridge);
}

#[tokio::test]
async fn a_plugin_that_fails_says_so_in_its_own_words_and_nothing_is_left() {
    let body = r#"[ $CNI_COMMAND != ADD ] || { echo '{"code": 42, "msg": "no quota left", "details": "ask Ann"}'; exit 1; }"#;
    let (node, bridge) = with_script(body).await;
    let refused = node.pod("web").try_run().await.err().expect("a plugin failed");
    for part in ["script", "ADD", "no quota left", "ask Ann"] {
        assert!(refused.message().contains(part), "{part}: {refused:?}");
    }
    assert!(node.pod_ids().await.is_empty());
    assert_nothing_of_a_pod(&node, &bridge);
    // The same pod again, once the operator has mended it.
    write_plugin(&node, "");
    let pod = node.pod("web").run().await;
    assert!(pod.ip().await.starts_with("10.219."));
    pod.remove().await;
    assert_nothing_of_a_pod(&node, &bridge);
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_and_named_and_nothing_is_left() {
    let (node, bridge) = with_script("[ $CNI_COMMAND != ADD ] || sleep 27182").await;
    let started = Instant::now();
    let refused = node.pod("web").try_run().await.err().expect("a plugin hangs");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    for part in ["script", "ADD", "3s"] {
        assert!(refused.message().contains(part), "{part}: {refused:?}");
    }
    let of_the_plugin = Command::new("pgrep").args(["-f", "sleep 27182"]).output().unwrap();
    assert!(of_the_plugin.stdout.is_empty(), "the plugin's child lives");
    assert!(node.pod_ids().await.is_empty());
    assert_nothing_of_a_pod(&node, &bridge);
}

#[tokio::test]
async fn a_plugin_that_answers_garbage_is_named_and_nothing_is_left() {
    for answer in ["this is not JSON", "[1, 2]", r#"{"ips": [{"address": "10.0.0.300/24"}]}"#] {
        let body = format!("[ $CNI_COMMAND != ADD ] || {{ echo '{answer}'; exit 0; }}");
        let (node, bridge) = with_script(&body).await;
        let refused = node.pod("web").try_run().await.err().expect("garbage");
        assert!(refused.message().contains("CNI"), "{refused:?}");
        assert!(node.pod_ids().await.is_empty());
        assert_nothing_of_a_pod(&node, &bridge);
    }
}

#[tokio::test]
async fn a_missing_plugin_is_named_by_the_pod_and_by_the_network_condition() {
    let node = Node::boot_cni(|_| r#"{"type": "not-installed"}"#.to_owned()).await;
    let refused = node.pod("web").try_run().await.err().expect("no plugin");
    assert!(refused.message().contains("not-installed"), "{refused:?}");
    let status = node.runtime().status(StatusRequest::default()).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    let network = conditions.iter().find(|it| it.r#type == "NetworkReady").unwrap();
    assert!(!network.status && network.message.contains("not-installed"), "{network:?}");
}

const FAILS_ON_DEL: &str = r#"if [ $CNI_COMMAND = DEL ] && [ -e HOME/broken ]; then
    echo '{"code": 11, "msg": "the controller is away"}'; exit 1
fi"#;

#[tokio::test]
async fn a_teardown_that_fails_is_told_and_done_by_the_next_try_also_after_a_restart() {
    let (node, bridge) = with_script(FAILS_ON_DEL).await;
    let pod = node.pod("web").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    fs::write(node.home.join("broken"), "").unwrap();
    for _ in 0..2 {
        let refused = pod.try_stop().await.unwrap_err();
        assert!(refused.message().contains("the controller is away"), "{refused:?}");
    }
    // What can be done is done: the workload is gone.
    assert_eq!(container.wait_exit().await.code, 137);
    node.restart().await;
    let refused = node.remove_pod(pod.id.clone()).await.unwrap_err();
    assert!(refused.message().contains("the controller is away"), "{refused:?}");
    assert_eq!(records(&node).len(), 1);

    fs::remove_file(node.home.join("broken")).unwrap();
    pod.remove().await;
    assert_nothing_of_a_pod(&node, &bridge);
}

const FAILS_ON_ADD_AND_DEL: &str = r#"if [ -e HOME/broken ]; then
    echo '{"code": 11, "msg": "the controller is away"}'; exit 1
fi"#;

/// The pod never came to be, so no client will ask for its end.
async fn with_a_debt() -> (Node, Bridge) {
    let (node, bridge) = with_script(FAILS_ON_ADD_AND_DEL).await;
    fs::write(node.home.join("broken"), "").unwrap();
    let refused = node.pod("web").try_run().await.err().expect("the plugin fails");
    assert!(refused.message().contains("the controller is away"), "{refused:?}");
    assert!(node.pod_ids().await.is_empty());
    assert_eq!(records(&node).len(), 1, "a DEL that is owed has its record");
    (node, bridge)
}

#[tokio::test]
async fn a_teardown_owed_for_a_pod_that_never_was_is_done_when_the_plugin_can() {
    let (node, bridge) = with_a_debt().await;
    fs::remove_file(node.home.join("broken")).unwrap();
    until("the DEL", async || records(&node).is_empty()).await;
    assert_nothing_of_a_pod(&node, &bridge);
}

#[tokio::test]
async fn a_teardown_owed_is_done_by_the_next_daemon() {
    let (node, bridge) = with_a_debt().await;
    node.kill();
    fs::remove_file(node.home.join("broken")).unwrap();
    node.start().await;
    assert_nothing_of_a_pod(&node, &bridge);
}

#[tokio::test]
async fn a_teardown_owed_to_the_next_daemon_is_tried_on_by_that_one() {
    let (node, bridge) = with_a_debt().await;
    node.restart().await;
    assert_eq!(records(&node).len(), 1);
    fs::remove_file(node.home.join("broken")).unwrap();
    eventually("the DEL", LONG, async || records(&node).is_empty().then_some(())).await;
    assert_nothing_of_a_pod(&node, &bridge);
}

#[tokio::test]
async fn a_daemon_killed_while_a_plugin_adds_leaves_nothing_of_the_pod() {
    let body = "[ $CNI_COMMAND != ADD ] || [ -e HOME/quick ] || { touch HOME/adding; sleep 2; }";
    let (node, bridge) = with_script(body).await;
    let adding = node.home.join("adding");
    let run = node.pod("web").try_run();
    let killed = async {
        until("the plugin to add", async || Path::new(&adding).exists()).await;
        node.kill();
    };
    let (answered, ()) = tokio::join!(run, killed);
    assert!(answered.is_err());
    fs::write(node.home.join("quick"), "").unwrap();
    node.start().await;
    assert_nothing_of_a_pod(&node, &bridge);
    let pod = node.pod("web").run().await;
    pod.remove().await;
    assert_nothing_of_a_pod(&node, &bridge);
}
