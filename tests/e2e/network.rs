//! The built-in network: addresses, the way out, published ports.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cais_proto::runtime::v1::Protocol;
use rustix::process::{Pid as ProcessId, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::node::{Container, Node, Pod, monitors_below};
use crate::wait::{LONG, eventually, until};

/// Answers each TCP connection to port 80 with a word.
pub(crate) async fn serve<'n>(pod: &Pod<'n>, word: &str) -> Container<'n> {
    let script = format!("echo ready; while :; do echo {word} | nc -l -p 80; done");
    let container = pod.container("server").shell(&script).start().await;
    container.wait_output("ready").await;
    container
}

pub(crate) async fn read_all(address: &str) -> Option<String> {
    let mut stream =
        timeout(Duration::from_secs(2), TcpStream::connect(address)).await.ok()?.ok()?;
    let mut text = String::new();
    timeout(Duration::from_secs(2), stream.read_to_string(&mut text)).await.ok()?.ok()?;
    Some(text.trim().to_owned())
}

/// The server listens anew for each connection: one may be refused in between.
pub(crate) async fn answer(address: &str) -> String {
    let probe = async || read_all(address).await.filter(|text| !text.is_empty());
    eventually(&format!("an answer of {address}"), LONG, probe).await
}

pub(crate) async fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").await.unwrap().local_addr().unwrap().port()
}

/// An address of this machine that others could use.
fn host_address() -> IpAddr {
    let shown = Command::new("ip").args(["-4", "-o", "addr", "show", "scope", "global"]).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    let of_eth = shown.lines().find(|line| line.contains(" eth") || line.contains(" en"));
    let address = of_eth.expect("an address").split_whitespace().nth(3).unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_pod_has_an_address_of_the_subnet_and_reaches_the_others() {
    let node = Node::boot().await;
    let one = node.pod("one").run().await;
    let two = node.pod("two").run().await;
    let (ip_one, ip_two) = (one.ip().await, two.ip().await);
    assert_ne!(ip_one, ip_two);
    for ip in [&ip_one, &ip_two] {
        let ip: Ipv4Addr = ip.parse().unwrap();
        assert_eq!(ip.octets()[..2], [10, 215]);
    }
    let _server = serve(&one, "one").await;
    assert_eq!(answer(&format!("{ip_one}:80")).await, "one");
    let client = two.container("client").command(["sleep", "1000"]).start().await;
    let script =
        format!("for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 {ip_one} 80 </dev/null && break; done");
    assert_eq!(client.shell(&script).await, "one");
    let shown = client.shell("ip -4 -o addr show eth0").await;
    assert!(shown.contains(&ip_two), "{shown}");
    assert!(client.shell("ip -o link show lo").await.contains("UP"));
}

#[tokio::test]
async fn a_pod_reaches_the_host_by_its_gateway_and_is_masqueraded() {
    let node = Node::boot().await;
    let pod = node.pod("out").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let host = host_address();
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("nc -w 5 {host} {port} </dev/null");
    let accepted = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"from the host\n").await.unwrap();
    };
    let (said, ()) = tokio::join!(container.shell(&script), accepted);
    assert_eq!(said, "from the host");
    let rules = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let mut tables = rules.split("table ");
    let is_own = |table: &&str| table.lines().next().is_some_and(|it| it.contains(&node.bridge));
    let own = tables.find(is_own).expect("a table of the node's own");
    assert!(own.contains("masquerade"), "{own}");
}

#[tokio::test]
async fn a_published_tcp_port_answers_on_localhost_and_on_the_hosts_address() {
    let node = Node::boot().await;
    let port = free_port().await;
    let pod = node.pod("tcp").publish(Protocol::Tcp, port, 80).run().await;
    let _server = serve(&pod, "published").await;
    assert_eq!(answer(&format!("127.0.0.1:{port}")).await, "published");
    assert_eq!(answer(&format!("{}:{port}", host_address())).await, "published");
    // From the pod itself, and from a neighbour, by the host's address.
    let neighbour = node.pod("neighbour").run().await;
    for pod in [&pod, &neighbour] {
        let client = pod.container("client").command(["sleep", "1000"]).start().await;
        let host = host_address();
        let script = format!(
            "for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 {host} {port} </dev/null && break; done"
        );
        assert_eq!(client.shell(&script).await, "published", "{}", pod.id);
    }
    pod.stop().await;
    assert_eq!(read_all(&format!("127.0.0.1:{port}")).await, None);
}

#[tokio::test]
async fn a_published_udp_port_answers() {
    let node = Node::boot().await;
    let port = free_port().await;
    let pod = node.pod("udp").publish(Protocol::Udp, port, 53).run().await;
    let mut server = UdpServer::start(&node, &pod);
    for host in ["127.0.0.1".to_owned(), host_address().to_string()] {
        answer_over_udp(&format!("{host}:{port}")).await;
    }
    server.stop();
}

/// Sends a datagram; whether it came back.
async fn comes_back(address: &str) -> bool {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    socket.connect(address).await.unwrap();
    if socket.send(b"ping").await.is_err() {
        return false;
    }
    let mut buffer = [0; 64];
    let received = timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await;
    received.is_ok_and(|received| received.is_ok_and(|length| &buffer[..length] == b"ping"))
}

async fn answer_over_udp(address: &str) {
    until(&format!("an answer of {address} over UDP"), async || comes_back(address).await).await;
}

/// Returns each datagram to port 53 of the pod. The image has no program that could.
struct UdpServer(Child);

impl UdpServer {
    fn start(node: &Node, pod: &Pod<'_>) -> Self {
        let monitors = monitors_below(&node.state.join("pods").join(&pod.id));
        let inside = format!("--net=/proc/{}/ns/net", monitors[0]);
        let server = Command::new("nsenter")
            .args([&inside, "socat", "UDP-LISTEN:53,fork", "EXEC:cat"])
            .process_group(0)
            .stderr(Stdio::null())
            .spawn();
        Self(server.expect("nsenter and socat"))
    }

    /// Ends the server and what it started for each of its clients.
    fn stop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(ProcessId::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test]
async fn a_port_published_at_one_address_answers_only_there() {
    let node = Node::boot().await;
    let port = free_port().await;
    let pod = node.pod("at").publish_at("127.0.0.1", Protocol::Tcp, port, 80).run().await;
    let _server = serve(&pod, "local").await;
    assert_eq!(answer(&format!("127.0.0.1:{port}")).await, "local");
    assert_eq!(read_all(&format!("{}:{port}", host_address())).await, None);
    // Of UDP as well, and at an address that others could use.
    let (here, there) = (host_address().to_string(), "127.0.0.1");
    let pod = node.pod("udp-at").publish_at(&here, Protocol::Udp, port, 53).run().await;
    let _server = UdpServer::start(&node, &pod);
    answer_over_udp(&format!("{here}:{port}")).await;
    assert!(!comes_back(&format!("{there}:{port}")).await);
}

#[tokio::test]
async fn a_port_taken_by_another_pod_is_refused_and_free_again_after_it() {
    let node = Node::boot().await;
    let port = free_port().await;
    let first = node.pod("first").publish(Protocol::Tcp, port, 80).run().await;
    let Err(refused) = node.pod("second").publish(Protocol::Tcp, port, 80).try_run().await else {
        panic!("two pods got the same port")
    };
    assert!(refused.message().contains(&port.to_string()), "{refused:?}");
    // The other protocol is another port.
    node.pod("other").publish(Protocol::Udp, port, 80).run().await;
    first.remove().await;
    node.pod("third").publish(Protocol::Tcp, port, 80).run().await;
}

#[tokio::test]
async fn addresses_are_given_back() {
    let node = Node::boot().await;
    for number in 0..5 {
        let pod = node.pod(&format!("pod-{number}")).run().await;
        assert!(!pod.ip().await.is_empty());
        pod.remove().await;
    }
    let leases = node.state.join("leases");
    until("all leases to be given back", async || {
        std::fs::read_dir(&leases).into_iter().flatten().count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_port_that_a_program_of_the_host_holds_is_refused_by_name_and_free_again_after_it() {
    let node = Node::boot().await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tcp = listener.local_addr().unwrap().port();
    let udp = socket.local_addr().unwrap().port();
    for (protocol, port, name) in [(Protocol::Tcp, tcp, "tcp"), (Protocol::Udp, udp, "udp")] {
        let refused = node.pod("web").publish(protocol, port, 80).try_run().await;
        let refused = refused.err().expect("the port is taken");
        assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused:?}");
        assert!(refused.message().contains(&format!("{port}/{name}")), "{refused:?}");
        assert!(refused.message().contains("host"), "{refused:?}");
    }
    assert!(node.pod_ids().await.is_empty());
    drop((listener, socket));
    let pod = node.pod("web").publish(Protocol::Tcp, tcp, 80).run().await;
    let _server = serve(&pod, "mine").await;
    assert_eq!(answer(&format!("127.0.0.1:{tcp}")).await, "mine");
}
