//! Networks by the docker client: made, seen, joined, left and removed, and who reaches whom in them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::wait::until;

/// Answers on port 80 for as long as it runs.
const SERVE: &str = "while true; do echo here | nc -l -p 80; done";

async fn network(docker: &Docker, name: &str) -> Value {
    let text = docker.run(&["network", "inspect", name]).await;
    let mut list: Vec<Value> = serde_json::from_str(&text).unwrap();
    list.remove(0)
}

async fn address(docker: &Docker, container: &str, network: &str) -> String {
    let shown = docker.inspect(container).await;
    let address = &shown["NetworkSettings"]["Networks"][network]["IPAddress"];
    let address = address.as_str().unwrap_or_else(|| panic!("{shown:#}"));
    address.parse::<Ipv4Addr>().unwrap().to_string()
}

async fn serve(docker: &Docker, name: &str, options: &[&str]) {
    let words = ["run", "-d", "--name", name];
    docker.run(&[&words, options, &["busybox", "sh", "-c", SERVE]].concat()).await;
}

/// Whether a container gets an answer on port 80; asks until it does when it should.
async fn reaches(docker: &Docker, from: &str, address: &str) {
    until(&format!("{from} to reach {address}"), async || {
        let words = ["exec", from, "nc", "-w", "5", address, "80"];
        docker.try_run(&words).await.stdout == "here\n"
    })
    .await;
}

async fn does_not_reach(docker: &Docker, from: &str, address: &str) {
    // A server that is there answers at once; dropped packets never.
    let done = docker.try_run(&["exec", from, "nc", "-w", "2", address, "80"]).await;
    assert_eq!(done.stdout, "", "{from} reaches {address}");
}

/// Whether the server of a container answers on a port of the host's loopback.
async fn answers(port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let answer = timeout(Duration::from_secs(5), asked).await;
    matches!(answer, Ok(Ok(answer)) if answer == "here\n")
}

#[tokio::test]
async fn docker_networks_are_made_seen_and_removed() {
    let (_node, docker) = node().await;
    let words = ["network", "create", "--label", "a=b", "--internal", "-o", "x=y", "inner"];
    let id = docker.run(&words).await;
    assert_eq!(id.len(), 64);
    docker.run(&["network", "create", "outer"]).await;

    let listed = docker.run(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]);
    let mut listed: Vec<String> = listed.await.lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(
        listed,
        [
            "bridge bridge local",
            "host host local",
            "inner bridge local",
            "none null local",
            "outer bridge local"
        ]
    );
    let inner = network(&docker, &id[..6]).await;
    assert_eq!(inner["Name"], "inner");
    assert_eq!(inner["Internal"], true);
    assert_eq!(inner["Labels"], json!({"a": "b"}));
    assert_eq!(inner["Options"], json!({"x": "y"}));
    assert_eq!(inner["Containers"], json!({}));
    assert_ne!(
        inner["IPAM"]["Config"][0]["Subnet"],
        network(&docker, "outer").await["IPAM"]["Config"][0]["Subnet"]
    );
    for (filter, found) in [
        ("name=nne", "inner"),
        ("name=^inner$", "inner"),
        ("label=a=b", "inner"),
        ("type=builtin", "bridge host none"),
        ("driver=null", "none"),
    ] {
        let words = ["network", "ls", "--format", "{{.Name}}", "--filter", filter];
        let mut names: Vec<String> = docker.run(&words).await.lines().map(str::to_owned).collect();
        names.sort();
        assert_eq!(names.join(" "), found, "{filter}");
    }

    assert_eq!(docker.run(&["network", "rm", "inner"]).await, "inner");
    let gone = docker.get("/networks/inner").await;
    assert_eq!(
        (gone.status, gone.message()),
        (StatusCode::NOT_FOUND, "network inner not found".into())
    );
    let pruned = docker.run(&["network", "prune", "-f", "--filter", "label!=a"]).await;
    assert!(pruned.contains("outer"), "{pruned}");
    assert_eq!(docker.run(&["network", "ls", "-q", "--filter", "type=custom"]).await, "");
}

#[tokio::test]
async fn docker_networks_are_refused_in_its_words() {
    let (_node, docker) = node().await;
    docker.run(&["network", "create", "--subnet", "10.99.0.0/24", "taken"]).await;
    for (body, status, text) in [
        (json!({"Name": "taken"}), 409, "network with name taken already exists"),
        (json!({"Name": "host"}), 403, "operation is not permitted on predefined host network"),
        (json!({"Name": ""}), 400, "name is empty"),
        (json!({"Name": "../x"}), 400, "invalid network name"),
        (json!({"Name": "x", "Driver": "overlay"}), 404, "plugin \"overlay\" not found"),
        (json!({"Name": "x", "EnableIPv4": false}), 501, "IPv4"),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "fd00:99::/64"}]}}),
            400,
            "IPv6 has not been enabled for this network",
        ),
        (
            json!({"Name": "x", "Options": {"com.docker.network.bridge.gateway_mode_ipv6": "routed"}}),
            501,
            "gateway_mode_ipv6",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.99.0.128/25"}]}}),
            403,
            "Pool overlaps with other one on this address space",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.98.0.1/24"}]}}),
            400,
            "10.98.0.0/24",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.98.0.0/24", "Gateway": "10.97.0.1"}]}}),
            400,
            "is not in subnet",
        ),
        (
            json!({"Name": "x", "Options": {"com.docker.network.bridge.name": "a/b"}}),
            400,
            "bridge name",
        ),
    ] {
        let reply = docker.post("/networks/create", Some(&body.to_string())).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {reply:?}");
        assert!(reply.message().contains(text), "{body}: {}", reply.message());
    }
    for (path, status, text) in [
        ("/networks/bridge", 403, "bridge is a pre-defined network and cannot be removed"),
        ("/networks/nowhere", 404, "network nowhere not found"),
    ] {
        let reply = docker.request(Method::DELETE, path, None).await;
        assert_eq!((reply.status.as_u16(), reply.message().as_str()), (status, text));
    }

    docker
        .run(&["run", "-d", "--name", "web", "--network", "taken", "busybox", "sleep", "1000"])
        .await;
    let busy = docker.request(Method::DELETE, "/networks/taken", None).await;
    assert_eq!(busy.status, StatusCode::FORBIDDEN);
    assert!(
        busy.message().contains("network taken has active endpoints (name:\"web\" id:"),
        "{busy:?}"
    );
    for (words, text) in [
        (
            &["network", "connect", "taken", "web"][..],
            "endpoint with name web already exists in network taken",
        ),
        (&["network", "disconnect", "bridge", "web"], "is not connected to network bridge"),
        (
            &["network", "connect", "host", "web"],
            "container cannot be disconnected from host network or connected to host network",
        ),
        (
            &["run", "--network", "taken", "--ip", "10.1.2.3", "busybox"],
            "no configured subnet or ip-range contain the IP address 10.1.2.3",
        ),
        (
            &["run", "--ip", "10.1.2.3", "busybox"],
            "user specified IP address is supported on user defined networks only",
        ),
    ] {
        let refused = docker.refused(words).await;
        assert!(refused.contains(text), "{words:?}: {refused}");
    }
    // One that does not run keeps no network.
    docker.run(&["stop", "-t", "0", "web"]).await;
    docker.run(&["network", "rm", "taken"]).await;
    let refused = docker.refused(&["start", "web"]).await;
    assert!(refused.contains("not found"), "{refused}");
}

#[tokio::test]
async fn docker_networks_keep_their_containers_apart() {
    let (_node, docker) = node().await;
    for name in ["red", "blue"] {
        docker.run(&["network", "create", name]).await;
        serve(&docker, name, &["--network", name]).await;
        serve(&docker, &format!("{name}2"), &["--network", name]).await;
    }
    docker.run(&["network", "create", "--internal", "inner"]).await;
    serve(&docker, "in", &["--network", "inner"]).await;
    serve(&docker, "in2", &["--network", "inner"]).await;
    serve(&docker, "plain", &[]).await;
    let red = address(&docker, "red", "red").await;
    let blue = address(&docker, "blue", "blue").await;
    let inner = address(&docker, "in", "inner").await;
    let plain = address(&docker, "plain", "bridge").await;

    // Each is proved to answer before another's silence means anything.
    reaches(&docker, "red2", &red).await;
    reaches(&docker, "blue2", &blue).await;
    reaches(&docker, "in2", &inner).await;
    reaches(&docker, "plain", &plain).await;
    for (from, to) in [
        ("red", &blue),
        ("blue", &red),
        ("red", &plain),
        ("plain", &red),
        ("red", &inner),
        ("in", &red),
        ("in", &plain),
    ] {
        does_not_reach(&docker, from, to).await;
    }
    let routes = docker.run(&["exec", "in", "ip", "route"]).await;
    assert!(!routes.contains("default"), "{routes}");
    let members = network(&docker, "red").await["Containers"].clone();
    assert_eq!(members.as_object().unwrap().len(), 2, "{members}");
}

#[tokio::test]
async fn docker_containers_are_connected_and_disconnected_while_they_run() {
    let (_node, docker) = node().await;
    docker.run(&["network", "create", "--subnet", "10.99.1.0/24", "red"]).await;
    serve(&docker, "web", &["-p", "127.0.0.1::80"]).await;
    serve(&docker, "red", &["--network", "red", "--ip", "10.99.1.77"]).await;
    assert_eq!(address(&docker, "red", "red").await, "10.99.1.77");
    does_not_reach(&docker, "web", "10.99.1.77").await;

    docker.run(&["network", "connect", "--ip", "10.99.1.78", "--alias", "db", "red", "web"]).await;
    reaches(&docker, "web", "10.99.1.77").await;
    reaches(&docker, "red", "10.99.1.78").await;
    let shown = docker.inspect("web").await;
    let networks = &shown["NetworkSettings"]["Networks"];
    assert_eq!(networks["red"]["IPAddress"], "10.99.1.78");
    assert_eq!(networks["red"]["Gateway"], "10.99.1.1");
    assert_eq!(networks["red"]["Aliases"], json!(["db"]));
    assert_eq!(networks.as_object().unwrap().len(), 2);
    let hosts = docker.run(&["exec", "web", "cat", "/etc/hosts"]).await;
    assert!(hosts.contains("10.99.1.78"), "{hosts}");

    // The way out and the published port move to what is left.
    docker.run(&["network", "disconnect", "bridge", "web"]).await;
    let routes = docker.run(&["exec", "web", "ip", "route"]).await;
    assert!(routes.contains("default via 10.99.1.1 dev eth1"), "{routes}");
    let port = docker.run(&["port", "web", "80"]).await;
    let port: u16 = port.rsplit(':').next().unwrap().parse().unwrap();
    until("the published port", async || answers(port).await).await;
    docker.run(&["network", "disconnect", "red", "web"]).await;
    let interfaces = docker.run(&["exec", "web", "ls", "/sys/class/net"]).await;
    assert_eq!(interfaces, "lo");
    let hosts = docker.run(&["exec", "web", "cat", "/etc/hosts"]).await;
    assert!(!hosts.contains("10.99.1."), "{hosts}");
    docker.run(&["network", "connect", "bridge", "web"]).await;
    assert!(docker.run(&["exec", "web", "ip", "route"]).await.contains("default via"));
}

#[tokio::test]
async fn docker_a_fixed_address_is_had_again_and_by_one_only() {
    let (_node, docker) = node().await;
    let words = ["network", "create", "--subnet", "10.99.2.0/24", "--ip-range", "10.99.2.128/25"];
    docker
        .run(
            &[&words[..], &["--gateway", "10.99.2.254", "--aux-address", "a=10.99.2.129", "red"]]
                .concat(),
        )
        .await;
    let fixed = ["--network", "red", "--ip", "10.99.2.5"];
    docker
        .run(&[&["run", "-d", "--name", "one"], &fixed[..], &["busybox", "sleep", "1000"]].concat())
        .await;
    let taken =
        docker.refused(&[&["run", "--name", "two"], &fixed[..], &["busybox"]].concat()).await;
    assert!(taken.contains("Address already in use"), "{taken}");
    assert_eq!(docker.inspect("two").await["State"]["Status"], "created");
    docker
        .run(&["run", "-d", "--name", "any", "--network", "red", "busybox", "sleep", "1000"])
        .await;
    let any: Ipv4Addr = address(&docker, "any", "red").await.parse().unwrap();
    assert!(matches!(any.octets()[3], 128 | 130..=253), "{any}");
    // Its old run may still be giving the address back.
    docker.run(&["restart", "-t", "0", "one"]).await;
    assert_eq!(address(&docker, "one", "red").await, "10.99.2.5");
    let shown = network(&docker, "red").await["IPAM"]["Config"].clone();
    assert_eq!(
        shown,
        json!([{
            "Subnet": "10.99.2.0/24",
            "IPRange": "10.99.2.128/25",
            "Gateway": "10.99.2.254",
            "AuxiliaryAddresses": {"a": "10.99.2.129"}
        }])
    );
}

#[tokio::test]
async fn docker_networks_outlive_a_daemon_that_is_killed() {
    let (node, docker) = node().await;
    docker.run(&["network", "create", "red"]).await;
    docker.run(&["network", "create", "blue"]).await;
    serve(&docker, "web", &["--network", "red"]).await;
    serve(&docker, "other", &["--network", "red"]).await;
    docker.run(&["network", "connect", "blue", "web"]).await;
    let before = (network(&docker, "red").await, docker.inspect("web").await);

    node.kill();
    let blue = format!(
        "br-{}",
        &before.1["NetworkSettings"]["Networks"]["blue"]["NetworkID"].as_str().unwrap()[..12]
    );
    assert!(Path::new("/sys/class/net").join(&blue).exists());
    node.start().await;

    let after = (network(&docker, "red").await, docker.inspect("web").await);
    assert_eq!(after.0, before.0);
    assert_eq!(after.1["NetworkSettings"], before.1["NetworkSettings"]);
    let web = address(&docker, "web", "red").await;
    reaches(&docker, "other", &web).await;
    // Addresses that are in use are known to be.
    serve(&docker, "new", &["--network", "red"]).await;
    let new = address(&docker, "new", "red").await;
    assert!(new != web && new != address(&docker, "other", "red").await, "{new}");
    reaches(&docker, "new", &web).await;
    docker.run(&["rm", "-f", "web", "other", "new"]).await;
    docker.run(&["network", "rm", "red", "blue"]).await;
    until("the bridge to go", async || !Path::new("/sys/class/net").join(&blue).exists()).await;
}

#[tokio::test]
async fn docker_networks_that_were_removed_stay_so_over_a_killed_daemon() {
    let (node, docker) = node().await;
    let mut bridges = Vec::new();
    for round in 0..4 {
        docker.run(&["network", "create", "--subnet", "10.213.7.0/24", "red"]).await;
        let id = network(&docker, "red").await["Id"].as_str().unwrap().to_owned();
        bridges.push(Path::new("/sys/class/net").join(format!("br-{}", &id[..12])));
        serve(&docker, "web", &["--network", "red"]).await;
        docker.run(&["rm", "-f", "web"]).await;
        docker.run(&["network", "rm", "red"]).await;
        // The same subnet is free at once; every other time the daemon has no time to take the bridge down.
        if round % 2 == 1 {
            node.restart().await;
        }
    }
    assert_eq!(docker.get("/networks/red").await.status, StatusCode::NOT_FOUND);
    assert!(bridges.iter().all(|it| !it.exists()), "{bridges:?}");
}

#[tokio::test]
async fn docker_interfaces_have_the_names_that_are_asked_for() {
    let (node, docker) = node().await;
    for name in ["red", "blue", "green"] {
        docker.run(&["network", "create", name]).await;
    }
    let option = |name: &str, interface: &str| {
        format!("name={name},driver-opt=com.docker.network.endpoint.ifname={interface}")
    };
    let (red, green) = (option("red", "eth0"), option("green", "front0"));
    let words =
        ["run", "-d", "--name", "web", "--network", &green, "--network", "blue", "--network", &red];
    docker.run(&[&words[..], &["busybox", "sleep", "1000"]].concat()).await;
    let interfaces = async || docker.run(&["exec", "web", "ls", "/sys/class/net"]).await;
    // What has no name of its own takes none that another one is to have.
    assert_eq!(
        interfaces().await.split_whitespace().collect::<Vec<_>>(),
        ["eth0", "eth1", "front0", "lo"]
    );
    let shown = docker.inspect("web").await;
    let options = &shown["NetworkSettings"]["Networks"]["green"]["DriverOpts"];
    assert_eq!(options["com.docker.network.endpoint.ifname"], "front0");
    docker.run(&["network", "disconnect", "green", "web"]).await;
    let again = ["network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=back0"];
    docker.run(&[&again[..], &["green", "web"]].concat()).await;
    assert!(interfaces().await.contains("back0"));
    node.restart().await;
    docker.run(&["restart", "-t0", "web"]).await;
    assert!(interfaces().await.contains("back0") && !interfaces().await.contains("front0"));
    docker.run(&["rm", "-f", "web"]).await;

    let long = option("red", "much-too-long-0");
    for (wrong, why) in [
        (option("bridge", "front0"), "user defined networks only"),
        (option("red", "a/b"), "invalid interface name"),
        (long.replace("long-0", "long-01"), "invalid interface name"),
    ] {
        let said = docker.refused(&["run", "--rm", "--network", &wrong, "busybox", "true"]).await;
        assert!(said.contains(why), "{said}");
    }
    docker.run(&["network", "rm", "red", "blue", "green"]).await;
}
