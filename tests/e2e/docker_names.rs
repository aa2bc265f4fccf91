//! Names of containers: found by the docker client's containers in their networks, and nowhere else.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::until;

/// A name server of our own, on an address of this host's loopback that is nobody's.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 53);
/// The one name that it knows, and where that is.
const KNOWN: &str = "known.example";
const KNOWN_AT: &str = "192.0.2.99";
/// Where no name server is: what this machine's own would say is not for a test to depend on.
const NOBODY: &str = "127.77.0.54";

/// Runs a container whose upstream is nobody, unless the options name another.
async fn run(docker: &Docker, name: &str, options: &[&str]) {
    let words = ["run", "-d", "--name", name];
    let nobody: &[&str] = if options.contains(&"--dns") { &[] } else { &["--dns", NOBODY] };
    docker.run(&[&words, nobody, options, &["busybox", "sleep", "1000"]].concat()).await;
}

async fn address(docker: &Docker, container: &str, network: &str) -> String {
    let shown = docker.inspect(container).await;
    let address = &shown["NetworkSettings"]["Networks"][network]["IPAddress"];
    address.as_str().unwrap_or_else(|| panic!("{shown:#}")).to_owned()
}

/// What the container's own nslookup says of a name: its IPv4 addresses in order, none for a name
/// that is not there.
async fn found(docker: &Docker, from: &str, name: &str) -> Vec<String> {
    let done = docker.try_run(&["exec", from, "nslookup", name, "127.0.0.11"]).await;
    // The server's own address stands before the first empty line.
    let (_, answer) = done.stdout.split_once("\n\n").unwrap_or_default();
    let mut found: Vec<String> = answer
        .lines()
        .filter(|line| line.starts_with("Address"))
        .filter_map(|line| line.split_whitespace().last())
        .filter(|word| word.parse::<Ipv4Addr>().is_ok())
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

async fn is_found(docker: &Docker, from: &str, name: &str, addresses: &[&String]) {
    let mut wanted: Vec<&String> = addresses.to_vec();
    wanted.sort();
    assert_eq!(
        found(docker, from, name).await.iter().collect::<Vec<_>>(),
        wanted,
        "{from}: {name}"
    );
}

#[tokio::test]
async fn docker_names_are_found_in_their_networks_only() {
    let (_node, docker) = node().await;
    docker.run(&["network", "create", "red"]).await;
    docker.run(&["network", "create", "blue"]).await;
    run(&docker, "asker", &["--network", "red"]).await;
    run(&docker, "web", &["--network", "red", "--network-alias", "db"]).await;
    let words = ["--network", "red", "--network-alias", "db", "--hostname", "box"];
    run(&docker, "web2", &words).await;
    run(&docker, "other", &["--network", "blue"]).await;
    run(&docker, "plain", &[]).await;
    let web = address(&docker, "web", "red").await;
    let web2 = address(&docker, "web2", "red").await;
    let other = address(&docker, "other", "blue").await;

    is_found(&docker, "asker", "web", &[&web]).await;
    is_found(&docker, "asker", "WEB.red", &[&web]).await;
    is_found(&docker, "asker", "db", &[&web, &web2]).await;
    is_found(&docker, "asker", "box", &[&web2]).await;
    let id = docker.inspect("web").await["Id"].as_str().unwrap()[..12].to_owned();
    is_found(&docker, "asker", &id, &[&web]).await;
    is_found(&docker, "other", "web", &[]).await;
    is_found(&docker, "asker", "other", &[]).await;
    let back = docker.run(&["exec", "asker", "nslookup", &web, "127.0.0.11"]).await;
    assert!(back.contains("web.red"), "{back}");

    let words = ["run", "--rm", "--network", "red", "--link", "web:db2", "busybox"];
    let linked = docker.run(&[&words[..], &["nslookup", "db2", "127.0.0.11"]].concat()).await;
    assert!(linked.contains(&web), "{linked}");
    is_found(&docker, "asker", "db2", &[]).await;

    // What programs use finds them as well.
    docker.run(&["exec", "asker", "ping", "-c", "1", "-W", "20", "db"]).await;
    let file = docker.run(&["exec", "asker", "cat", "/etc/resolv.conf"]).await;
    assert!(file.starts_with("nameserver 127.0.0.11\n"), "{file}");
    assert!(file.ends_with("ndots:0"), "{file}");
    let plain = docker.run(&["exec", "plain", "cat", "/etc/resolv.conf"]).await;
    assert!(!plain.contains("127.0.0.11"), "{plain}");

    // Changes hold from the moment that the client is told of them.
    docker.run(&["network", "connect", "--alias", "late", "red", "plain"]).await;
    let plain = address(&docker, "plain", "red").await;
    is_found(&docker, "asker", "late", &[&plain]).await;
    is_found(&docker, "plain", "web", &[&web]).await;
    docker.run(&["exec", "plain", "ping", "-c", "1", "-W", "20", "web"]).await;
    docker.run(&["network", "connect", "blue", "asker"]).await;
    is_found(&docker, "asker", "other", &[&other]).await;
    docker.run(&["network", "disconnect", "blue", "asker"]).await;
    is_found(&docker, "asker", "other", &[]).await;
    docker.run(&["network", "disconnect", "red", "web2"]).await;
    is_found(&docker, "asker", "db", &[&web]).await;
    docker.run(&["rename", "web", "renamed"]).await;
    is_found(&docker, "asker", "renamed", &[&web]).await;
    is_found(&docker, "asker", "web", &[]).await;
    docker.run(&["stop", "-t", "0", "renamed"]).await;
    is_found(&docker, "asker", "renamed", &[]).await;
    docker.run(&["start", "renamed"]).await;
    let again = address(&docker, "renamed", "red").await;
    is_found(&docker, "asker", "renamed", &[&again]).await;

    // The port is free for a program that serves names itself; programs find it by its name.
    docker.run(&["exec", "asker", "httpd", "-p", "53", "-h", "/etc"]).await;
    let hostname = docker.run(&["exec", "asker", "hostname"]).await;
    let words = ["exec", "renamed", "wget", "-q", "-O", "-", "http://asker:53/hostname"];
    assert_eq!(docker.run(&words).await, hostname);
    is_found(&docker, "asker", "db", &[&again]).await;
}

#[tokio::test]
async fn docker_names_are_answered_while_the_daemon_is_dead() {
    let (node, docker) = node().await;
    docker.run(&["network", "create", "red"]).await;
    run(&docker, "asker", &["--network", "red"]).await;
    run(&docker, "web", &["--network", "red"]).await;
    let web = address(&docker, "web", "red").await;
    // It says what it finds for as long as it runs; nobody can ask it while there is no daemon.
    let script = "while true; do nslookup web 127.0.0.11 >/tmp/new 2>&1; cp /tmp/new /log/last; \
                  sleep 0.05; done";
    let shared = node.home.join("names-log");
    std::fs::create_dir(&shared).unwrap();
    let mount = format!("{}:/log", shared.display());
    docker
        .run(&[
            "run",
            "-d",
            "--name",
            "loop",
            "--network",
            "red",
            "-v",
            &mount,
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .await;
    let last = shared.join("last");
    let finds = async || {
        // The first answer may have been given before this call; what follows it was not.
        for _ in 0..2 {
            let _ = std::fs::remove_file(&last);
            until("an answer", async || {
                let text = std::fs::read_to_string(&last).unwrap_or_default();
                text.split_once("\n\n").is_some_and(|(_, answer)| answer.contains(&web))
            })
            .await;
        }
    };
    finds().await;
    node.kill();
    finds().await;
    node.start().await;
    finds().await;
    is_found(&docker, "asker", "web", &[&web]).await;

    // The server of names may die as well: another one takes its place.
    let server = name_server(&node);
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    until("another server", async || name_servers(&node).iter().any(|pid| *pid != server)).await;
    finds().await;
    is_found(&docker, "asker", "web", &[&web]).await;

    // What happens afterwards is known to it.
    run(&docker, "new", &["--network", "red"]).await;
    let new = address(&docker, "new", "red").await;
    is_found(&docker, "asker", "new", &[&new]).await;
    docker.run(&["rm", "-f", "web"]).await;
    is_found(&docker, "asker", "web", &[]).await;
}

fn name_server(node: &Node) -> rustix::process::Pid {
    name_servers(node).first().copied().expect("a server of names")
}

/// The processes that answer for this node.
fn name_servers(node: &Node) -> Vec<rustix::process::Pid> {
    let state = node.state.to_str().unwrap().to_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        let is_server = words.any(|word| word == b"stream-server");
        let is_ours = line.split(|byte| *byte == 0).any(|word| word == state.as_bytes());
        let pid = entry.file_name().to_str()?.parse().ok()?;
        rustix::process::Pid::from_raw(pid).filter(|_| is_server && is_ours)
    });
    pids.collect()
}

/// Knows [`KNOWN`], and notes what it is asked.
struct Upstream {
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    async fn start() -> Self {
        let socket = UdpSocket::bind((UPSTREAM, 53)).await.unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = asked.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let (name, answer) = answer(&buffer[..length]);
                heard.lock().unwrap().push(name);
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        Self { asked, task }
    }

    fn was_asked(&self, name: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == name)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The name in question, and an answer: an address, none, or no such name.
fn answer(query: &[u8]) -> (String, Vec<u8>) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let name = labels.join(".");
    let is_ipv4 = query[at + 1..at + 3] == [0, 1];
    let mut answer = query[..at + 5].to_vec();
    answer[2] |= 0x80;
    answer[3] = if name == KNOWN { 0x80 } else { 0x83 };
    answer[6..12].copy_from_slice(&[0; 6]);
    if name == KNOWN && is_ipv4 {
        answer[7] = 1;
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&KNOWN_AT.parse::<Ipv4Addr>().unwrap().octets());
    }
    (name, answer)
}

#[tokio::test]
async fn docker_names_of_others_are_asked_upstream() {
    let (_node, docker) = node().await;
    let upstream = Upstream::start().await;
    docker.run(&["network", "create", "red"]).await;
    docker.run(&["network", "create", "--internal", "inner"]).await;
    let dns = ["--dns", &UPSTREAM.to_string(), "--dns-search", "a.example"];
    let options = |network: &'static str| {
        [&["--network", network], &dns[..], &["--dns-option", "timeout:30"]].concat()
    };
    run(&docker, "asker", &options("red")).await;
    run(&docker, "inside", &options("inner")).await;
    let inside = address(&docker, "inside", "inner").await;

    let file = docker.run(&["exec", "asker", "cat", "/etc/resolv.conf"]).await;
    assert_eq!(file, "nameserver 127.0.0.11\nsearch a.example\noptions timeout:30 ndots:0");
    is_found(&docker, "asker", KNOWN, &[&KNOWN_AT.to_owned()]).await;
    assert!(upstream.was_asked(KNOWN));
    is_found(&docker, "asker", "unknown.example", &[]).await;
    assert!(upstream.was_asked("unknown.example"));
    // A container's name is nobody else's business.
    is_found(&docker, "asker", "asker", &[&address(&docker, "asker", "red").await]).await;
    assert!(!upstream.was_asked("asker"));

    // Nothing of an internal network gets out.
    is_found(&docker, "inside", "inside", &[&inside]).await;
    is_found(&docker, "inside", "secret.example", &[]).await;
    assert!(!upstream.was_asked("secret.example"));
    // With another network beside it, it does.
    docker.run(&["network", "connect", "red", "inside"]).await;
    is_found(&docker, "inside", KNOWN, &[&KNOWN_AT.to_owned()]).await;

    // One that is gone is an answer, too, and soon.
    drop(upstream);
    let failed = docker.try_run(&["exec", "asker", "nslookup", "x.example", "127.0.0.11"]).await;
    assert!(failed.stdout.contains("SERVFAIL"), "{failed:?}");
}

#[tokio::test]
async fn docker_links_in_the_default_network_stand_in_the_hosts_file() {
    let (_node, docker) = node().await;
    run(&docker, "web", &["--hostname", "box"]).await;
    let web = address(&docker, "web", "bridge").await;
    let link = ["run", "--rm", "--name", "own", "--link", "web:db", "busybox"];
    let hosts = docker.run(&[&link[..], &["cat", "/etc/hosts"]].concat()).await;
    for name in ["db", "box", "web"] {
        assert!(hosts.lines().any(|line| line == format!("{web}\t{name}")), "{name}: {hosts}");
    }
    docker.run(&[&link[..], &["ping", "-c", "1", "-W", "20", "db"]].concat()).await;
    docker.run(&["stop", "-t", "0", "web"]).await;
    for (options, text) in [
        (&["--link", "web:db"][..], "Cannot link to a non running container: /web AS /own/db"),
        (&["--link", "nowhere"], "could not get container for nowhere"),
        (&["--link", "web", "--network", "host"], "can't be used with links"),
    ] {
        let words = ["run", "--rm", "--name", "own"];
        let refused = docker.refused(&[&words[..], options, &["busybox", "true"]].concat()).await;
        assert!(refused.contains(text), "{options:?}: {refused}");
    }
}
