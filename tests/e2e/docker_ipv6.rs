//! Networks with IPv6 by the docker client, and hardware addresses that clients choose.

use std::net::Ipv6Addr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::wait::until;

/// Where no name server is: what this machine's own would say is not for a test to depend on.
const NOBODY: &str = "127.77.0.54";

/// Serves its files on port 80, by both families.
const SERVE: [&str; 7] = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];

async fn run(docker: &Docker, name: &str, options: &[&str]) {
    let words = ["run", "-d", "--dns", NOBODY, "--name", name, "--hostname", name];
    docker.run(&[&words, options, &SERVE].concat()).await;
}

async fn endpoint(docker: &Docker, container: &str, network: &str) -> Value {
    docker.inspect(container).await["NetworkSettings"]["Networks"][network].clone()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key}: {value:#}"))
}

/// What a container's server says of its name to a client in another container.
async fn asked(docker: &Docker, from: &str, (address, port): (&str, u16)) -> String {
    // A server that is there answers at once; dropped packets never.
    let ask = format!(r"printf 'GET /hostname HTTP/1.0\r\n\r\n' | nc -w 2 {address} {port}");
    let done = docker.try_run(&["exec", from, "sh", "-c", &ask]).await;
    done.stdout.lines().last().unwrap_or_default().to_owned()
}

async fn answers(docker: &Docker, from: &str, place: (&str, u16), name: &str) {
    until(&format!("{from} to reach {place:?}"), async || asked(docker, from, place).await == name)
        .await;
}

/// The same from the host itself.
async fn host_reaches(address: &str, port: u16, name: &str) {
    let ask = async || {
        let mut stream = TcpStream::connect((address, port)).await?;
        stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    until(&format!("{address} {port}"), async || {
        let answer = timeout(Duration::from_secs(5), ask()).await;
        matches!(answer, Ok(Ok(answer)) if answer.ends_with(&format!("\r\n\r\n{name}\n")))
    })
    .await;
}

#[tokio::test]
async fn docker_networks_give_addresses_of_both_families() {
    let (node, docker) = node().await;
    let subnets = ["--subnet", "10.99.6.0/24", "--subnet", "fd00:99:6::/64", "--ipv6"];
    docker.run(&[&["network", "create"], &subnets[..], &["six"]].concat()).await;
    let words = ["network", "inspect", "-f", "{{.EnableIPv6}} {{json .IPAM.Config}}", "six"];
    let pools = [
        json!({"Subnet": "10.99.6.0/24", "Gateway": "10.99.6.1"}),
        json!({"Subnet": "fd00:99:6::/64", "Gateway": "fd00:99:6::1"}),
    ];
    let shown = docker.run(&words).await;
    let (is_enabled, config) = shown.split_once(' ').unwrap();
    assert_eq!(is_enabled, "true");
    assert_eq!(serde_json::from_str::<Value>(config).unwrap(), json!(pools));

    let chosen = ["--network", "six", "--ip6", "fd00:99:6::77", "--mac-address"];
    let options = [&chosen[..], &["02:42:00:00:06:77", "-p", "80"]].concat();
    run(&docker, "web", &options).await;
    run(&docker, "asker", &["--network", "six"]).await;
    let web = endpoint(&docker, "web", "six").await;
    assert_eq!(text(&web, "GlobalIPv6Address"), "fd00:99:6::77");
    assert_eq!(
        (&web["GlobalIPv6PrefixLen"], text(&web, "IPv6Gateway")),
        (&json!(64), "fd00:99:6::1")
    );
    assert_eq!(text(&web, "MacAddress"), "02:42:00:00:06:77");
    let asker = text(&endpoint(&docker, "asker", "six").await, "GlobalIPv6Address").to_owned();
    assert!(asker.starts_with("fd00:99:6::") && asker != "fd00:99:6::77", "{asker}");
    let inside = docker.run(&["exec", "web", "ip", "addr", "show", "dev", "eth0"]).await;
    for wanted in ["fd00:99:6::77/64", "fe80::42:ff:fe00:677/64", "02:42:00:00:06:77"] {
        assert!(inside.contains(wanted), "{wanted}: {inside}");
    }
    let routes = docker.run(&["exec", "web", "ip", "-6", "route"]).await;
    assert!(routes.contains("default via fd00:99:6::1 dev eth0"), "{routes}");
    let hosts = docker.run(&["exec", "web", "cat", "/etc/hosts"]).await;
    assert!(hosts.contains("fd00:99:6::77\tweb"), "{hosts}");

    // Names lead to both, and back.
    let found = docker.run(&["exec", "asker", "nslookup", "web", "127.0.0.11"]).await;
    assert!(found.contains("fd00:99:6::77") && found.contains(text(&web, "IPAddress")), "{found}");
    let back = docker.run(&["exec", "asker", "nslookup", "fd00:99:6::77", "127.0.0.11"]).await;
    assert!(back.contains("web.six"), "{back}");
    docker.run(&["exec", "asker", "ping", "-6", "-c", "1", "-W", "20", "web"]).await;
    answers(&docker, "asker", ("web", 80), "web").await;
    answers(&docker, "asker", ("fd00:99:6::77", 80), "web").await;

    // A published port, from the host, from another network, and from the container itself.
    let ports = docker.run(&["port", "web", "80"]).await;
    let ports: Vec<&str> = ports.lines().collect();
    let [ipv4, ipv6] = ports[..] else { panic!("{ports:?}") };
    let port: u16 = ipv6.strip_prefix("[::]:").unwrap_or_else(|| panic!("{ipv6}")).parse().unwrap();
    assert_eq!(ipv4, format!("0.0.0.0:{port}"));
    host_reaches("127.0.0.1", port, "web").await;
    host_reaches("::1", port, "web").await;
    host_reaches("fd00:99:6::1", port, "web").await;
    docker.run(&["network", "create", "--ipv6", "own"]).await;
    run(&docker, "other", &["--network", "own"]).await;
    let own: Ipv6Addr =
        text(&endpoint(&docker, "other", "own").await, "GlobalIPv6Address").parse().unwrap();
    assert!(own.is_unique_local(), "{own}");
    let published = ("fd00:99:6::1", port);
    answers(&docker, "other", published, "web").await;
    answers(&docker, "web", published, "web").await;
    assert_eq!(asked(&docker, "other", ("fd00:99:6::77", 80)).await, "", "only what is published");

    // Joined and left while it runs, and found again by another daemon.
    docker.run(&["network", "connect", "--ip6", "fd00:99:6::99", "six", "other"]).await;
    answers(&docker, "other", ("fd00:99:6::77", 80), "web").await;
    node.kill();
    node.start().await;
    host_reaches("::1", port, "web").await;
    host_reaches("fd00:99:6::1", port, "web").await;
    let refused = ["run", "--network", "six", "--ip6", "fd00:99:6::99", "busybox"];
    let refused = docker.refused(&refused).await;
    assert!(refused.contains("Address already in use"), "{refused}");
    docker.run(&["network", "disconnect", "six", "other"]).await;
    let hosts = docker.run(&["exec", "other", "cat", "/etc/hosts"]).await;
    assert!(!hosts.contains("fd00:99:6::"), "{hosts}");
    docker.run(&["rm", "-f", "web"]).await;
    until("nobody to answer", async || TcpStream::connect(("::1", port)).await.is_err()).await;
}

#[tokio::test]
async fn docker_addresses_that_a_network_does_not_give_are_refused() {
    let (_node, docker) = node().await;
    docker.run(&["network", "create", "--ipv6", "--subnet", "fd00:99:7::/64", "six"]).await;
    docker.run(&["network", "create", "--subnet", "10.99.7.0/24", "four"]).await;
    let run = ["run", "--rm"];
    for (words, why) in [
        (&["--network", "six", "--ip6", "fd00:99:8::2"][..], "contain the IP address fd00:99:8::2"),
        (&["--network", "four", "--ip6", "fd00:99:7::2"], "contain the IP address fd00:99:7::2"),
        (&["--ip6", "fd00:99:7::2"], "on user defined networks only"),
        (&["--mac-address", "01:42:00:00:00:01"], "invalid MAC address"),
    ] {
        let refused = docker.refused(&[&run[..], words, &["busybox"]].concat()).await;
        assert!(refused.contains(why), "{words:?}: {refused}");
    }
    // The node's own network gives hardware addresses, too.
    let chosen = ["--mac-address", "02:42:00:00:07:01", "busybox"];
    let shown = ["cat", "/sys/class/net/eth0/address"];
    let shown = docker.run(&[&run[..], &chosen, &shown].concat()).await;
    assert_eq!(shown, "02:42:00:00:07:01");
    for (subnet, why) in [
        ("fd00:99:7::/80", "Pool overlaps"),
        ("fd00:99:9::1/64", "it should be fd00:99:9::/64"),
        ("fd00:99:9::/127", "must be between"),
    ] {
        let refused =
            docker.refused(&["network", "create", "--ipv6", "--subnet", subnet, "x"]).await;
        assert!(refused.contains(why), "{subnet}: {refused}");
    }
}
