//! Ranges and crowds of published ports by the docker client.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::wait::until;

/// Says on which of its ports it was asked.
const SERVE: &str = "for port in 80 81 82; do \
                     while true; do echo $port | nc -l -p $port; done & done; wait";

/// What a container says on a port of this host; empty for none.
async fn asked(address: &str, port: u16) -> String {
    let asked = async {
        let mut stream = TcpStream::connect((address, port)).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    match timeout(Duration::from_secs(5), asked).await {
        Ok(Ok(answer)) => answer.trim_end().to_owned(),
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

async fn answers(address: &str, port: u16, expected: &str) {
    until(&format!("{address}:{port}"), async || asked(address, port).await == expected).await;
}

/// The ports of the host, in order, that lead to a port of the container.
async fn ports(docker: &Docker, container: &str, port: &str) -> Vec<u16> {
    let shown = docker.run(&["port", container, port]).await;
    let ports = shown.lines().filter_map(|line| line.rsplit_once(':'));
    ports.map(|(_, port)| port.parse().unwrap()).collect()
}

/// Consecutive ports of this host that nobody has.
async fn free_range(count: u16) -> u16 {
    for first in (21_000_u16..32_000).step_by(usize::from(count)) {
        let mut are_free = true;
        for port in first..first + count {
            // One at a time: a process may have no more than 1024 descriptors.
            are_free &= TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.is_ok();
        }
        if are_free {
            return first;
        }
    }
    panic!("no {count} consecutive free ports");
}

#[tokio::test]
async fn docker_port_ranges_are_spread_and_refused_when_full() {
    let (_node, docker) = node().await;
    let first = free_range(3).await;
    let range = format!("127.0.0.1:{first}-{}:80", first + 2);
    let run = async |name: &'static str| {
        let words = ["run", "-d", "--name", name, "-p", &range, "busybox", "sh", "-c", SERVE];
        docker.try_run(&words).await
    };
    // At the same time, as compose does it: each gets one of its own.
    let all = tokio::join!(run("one"), run("two"), run("three"));
    let mut chosen = BTreeSet::new();
    for (name, done) in [("one", &all.0), ("two", &all.1), ("three", &all.2)] {
        assert_eq!(done.code, 0, "{name}: {done:?}");
        let [port] = ports(&docker, name, "80").await[..] else { panic!("{name}") };
        answers("127.0.0.1", port, "80").await;
        chosen.insert(port);
    }
    assert_eq!(chosen, (first..first + 3).collect());
    let full = run("four").await;
    assert_eq!(full.code, 125, "{full:?}");
    assert!(full.stderr.contains("port is already allocated"), "{full:?}");
    assert_eq!(docker.inspect("four").await["State"]["Status"], "created");
    docker.run(&["rm", "-f", "two"]).await;
    docker.run(&["start", "four"]).await;
    assert!(chosen.contains(&ports(&docker, "four", "80").await[0]));
}

#[tokio::test]
async fn docker_ports_are_published_one_by_one_and_all_at_once() {
    let (_node, docker) = node().await;
    let first = free_range(5).await;
    let equal = format!("{first}-{}:80-82", first + 2);
    let udp = format!("127.0.0.1:{}:53/udp", first + 3);
    let words = ["run", "-d", "--name", "web", "-p", &equal, "-p", &udp, "-p", "80"];
    docker.run(&[&words[..], &["busybox", "sh", "-c", SERVE]].concat()).await;
    for place in 0..3 {
        answers("127.0.0.1", first + place, &(80 + place).to_string()).await;
    }
    assert_eq!(docker.run(&["port", "web", "53/udp"]).await, format!("127.0.0.1:{}", first + 3));
    let both = ports(&docker, "web", "80").await;
    assert_eq!(both.len(), 2, "{both:?}");
    for port in both {
        answers("127.0.0.1", port, "80").await;
    }
    let words = ["run", "-d", "--name", "all", "-P", "--expose", "80-82"];
    docker.run(&[&words[..], &["busybox", "sh", "-c", SERVE]].concat()).await;
    for port in ["80", "81", "82"] {
        let [of_host] = ports(&docker, "all", port).await[..] else { panic!("{port}") };
        answers("127.0.0.1", of_host, port).await;
    }

    // A port that a program of the host has.
    let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, first + 4)).await.unwrap();
    let taken = format!("{}:80", first + 4);
    let refused = docker.refused(&["run", "--name", "late", "-p", &taken, "busybox"]).await;
    let expected = format!("Bind for 0.0.0.0:{} failed: port is already allocated", first + 4);
    assert!(refused.contains(&expected), "{refused}");
    assert_eq!(docker.inspect("late").await["State"]["Status"], "created");
    drop(held);
    for wrong in ["8010-8000:80", "8000-8001:80-83", "x:80"] {
        docker.refused(&["run", "-p", wrong, "busybox"]).await;
    }
}

#[tokio::test]
async fn docker_containers_reach_the_host_by_a_name() {
    let (_node, docker) = node().await;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"the host").await;
        }
    });
    docker.run(&["network", "create", "red"]).await;
    for network in ["bridge", "red"] {
        let words = ["run", "-d", "--name", network, "--network", network];
        let host = ["--add-host", "host.docker.internal:host-gateway", "busybox", "sleep", "1000"];
        docker.run(&[&words[..], &host[..]].concat()).await;
        until("the host to answer", async || {
            let words = ["exec", network, "nc", "-w", "5", "host.docker.internal", &port];
            docker.try_run(&words).await.stdout == "the host"
        })
        .await;
    }
    serving.abort();
}

#[tokio::test]
async fn docker_a_thousand_ports_are_published_at_once() {
    let (node, docker) = node().await;
    let first = free_range(1000).await;
    let range = format!("{first}-{}:1-1000", first + 999);
    let started = Instant::now();
    docker.run(&["run", "-d", "--name", "many", "-p", &range, "busybox", "sh", "-c", SERVE]).await;
    // A process, or a transaction, for each port would take far longer.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    answers("127.0.0.1", first + 79, "80").await;
    assert_eq!(ports(&docker, "many", "1000").await, [first + 999]);
    node.kill();
    node.start().await;
    answers("127.0.0.1", first + 81, "82").await;
    docker.run(&["rm", "-f", "many"]).await;
    assert_eq!(asked("127.0.0.1", first + 79).await, "");
}
