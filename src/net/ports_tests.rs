//! Published ports with real packets: an outside machine, the host, and pods behind its bridge.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::bridge::{Addresses, Bridge, BridgeConfig, Port};
use super::leases::Pool;
use super::nft::{Net, Reach};
use super::ports::{HostPort, PortRequest, Ports, Published};
use super::testing::Netns;
use super::{PortMapping, Protocol};
use crate::error::Kind;
use crate::id::PodId;

const OUTSIDE: &str = "10.1.0.2";
const HOST: &str = "10.1.0.1";
const TABLE: &str = "ct-cais";

/// `outside 10.1.0.2 ── cable ── 10.1.0.1 host ── ct-br0 10.77.0.1/24 ── pods`
struct World {
    outside: Netns,
    host: Netns,
    bridge: Arc<Bridge>,
    ports: Ports,
    _state: tempfile::TempDir,
}

struct Pod {
    id: PodId,
    netns: Netns,
    address: Ipv4Addr,
    ipv6: Option<Ipv6Addr>,
}

impl World {
    fn new() -> Self {
        let (outside, host) = (Netns::new(), Netns::new());
        host.cable(&outside, "wan", [&format!("{HOST}/24"), &format!("{OUTSIDE}/24")]);
        let state = tempfile::tempdir().unwrap();
        let config = BridgeConfig {
            name: "ct-br0".to_owned(),
            addresses: Addresses::Preferred("10.77.0.0/24".parse().unwrap()),
            ipv6: Some(Pool::of("fd77::/64".parse().unwrap())),
            mtu: None,
            leases: state.path().join("leases"),
            network: None,
        };
        let bridge = Arc::new(host.run(move || Bridge::open(&config)).unwrap());
        let ports = open(&host, Vec::new());
        Self { outside, host, bridge, ports, _state: state }
    }

    fn pod(&self) -> Pod {
        let (netns, id) = (Netns::for_pod(), PodId::generate().unwrap());
        let fd = netns.fd();
        let attached =
            self.bridge.attach(&id, fd.as_fd(), &netns.netlink(), &Port::only()).unwrap();
        let ipv6 = attached.ipv6.map(|(net, _)| net.addr());
        Pod { id, netns, address: attached.address.addr(), ipv6 }
    }

    fn nft(&self) -> String {
        self.host.command(&format!("nft list table ip {TABLE}"))
    }
}

impl Pod {
    fn publishes(&self, mappings: &[PortMapping]) -> Published {
        let (pod, mappings) = (self.id.clone(), mappings.to_vec());
        Published { pod, address: self.address, ipv6: None, mappings }
    }

    fn publishes_by_both(&self, mappings: &[PortMapping]) -> Published {
        Published { ipv6: self.ipv6, ..self.publishes(mappings) }
    }

    /// Answers each connection on this port with the address it came from.
    fn serve(&self, port: u16) {
        let listener =
            self.netns.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip().to_canonical().to_string();
                let _ = stream.write_all(peer.as_bytes());
            }
        });
    }
}

fn open(host: &Netns, published: Vec<Published>) -> Ports {
    host.run(move || {
        let subnet = "10.77.0.0/24".parse().unwrap();
        let ipv6 = Some("fd77::/64".parse().unwrap());
        let net = Net { bridge: "ct-br0".to_owned(), subnet, ipv6, reach: Reach::Masqueraded };
        Ports::open(TABLE, vec![net], &published).unwrap()
    })
}

fn tcp(host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { protocol: Protocol::Tcp, host_port, container_port, host_ip: None }
}

fn on(address: &str, mapping: PortMapping) -> PortMapping {
    PortMapping { host_ip: Some(address.parse().unwrap()), ..mapping }
}

/// What the server at this address answers to a client in this namespace; `None` if nobody does.
fn ask_within(client: &Netns, address: &str, port: u16, patience: Duration) -> Option<String> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    client.run(move || {
        let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

/// Who the server saw. A cable that has just been laid may lose a packet: time for another.
fn ask(client: &Netns, address: &str, port: u16) -> String {
    ask_within(client, address, port, Duration::from_secs(10)).expect("nobody answers")
}

fn is_silent(client: &Netns, address: &str, port: u16) -> bool {
    ask_within(client, address, port, Duration::from_millis(500)).is_none()
}

#[test]
fn a_published_port_answers_from_everywhere_and_only_there() {
    let world = World::new();
    let (server, client) = (world.pod(), world.pod());
    server.serve(80);
    world.ports.publish(&server.publishes(&[tcp(8080, 80)])).unwrap();

    assert_eq!(ask(&world.outside, HOST, 8080), OUTSIDE, "the source is kept");
    ask(&world.host, HOST, 8080); // the host by its own address
    assert_eq!(ask(&world.host, "127.0.0.1", 8080), "10.77.0.1", "the host by localhost");
    ask(&client.netns, HOST, 8080); // another pod by the host's address
    ask(&server.netns, HOST, 8080); // the pod itself by the host's address
    assert!(is_silent(&world.outside, HOST, 80), "the container's port is not the host's");

    world.ports.unpublish(&server.id).unwrap();
    world.ports.unpublish(&server.id).unwrap();
    assert!(is_silent(&world.outside, HOST, 8080));
    assert!(is_silent(&world.host, "127.0.0.1", 8080));
}

#[test]
fn a_port_on_one_address_answers_on_that_address_only() {
    let world = World::new();
    world.host.ip("addr add 10.1.0.9/24 dev wan");
    let (one, two) = (world.pod(), world.pod());
    one.serve(80);
    two.serve(81);
    world.ports.publish(&one.publishes(&[on(HOST, tcp(8080, 80))])).unwrap();
    world.ports.publish(&two.publishes(&[on("127.0.0.1", tcp(8080, 81))])).unwrap();

    assert_eq!(ask(&world.outside, HOST, 8080), OUTSIDE);
    assert!(is_silent(&world.outside, "10.1.0.9", 8080));
    ask(&world.host, "127.0.0.1", 8080);
}

#[test]
fn a_port_on_localhost_is_not_reached_from_outside() {
    let world = World::new();
    let pod = world.pod();
    pod.serve(80);
    world.ports.publish(&pod.publishes(&[on("127.0.0.1", tcp(8080, 80))])).unwrap();
    let neighbour = world.pod();

    // Clients on both sides that send packets for 127.0.0.1 to the host.
    for (client, device, gateway) in
        [(&world.outside, "wan", HOST), (&neighbour.netns, "eth0", "10.77.0.1")]
    {
        client.ip("link set lo down");
        client.ip("addr flush dev lo");
        client.ip(&format!("route add 127.0.0.1/32 via {gateway} dev {device}"));
        client.command(&format!("sysctl -qw net.ipv4.conf.{device}.route_localnet=1"));
        assert!(is_silent(client, "127.0.0.1", 8080), "{device}");
    }
    let shown = world.host.command("nft list table ip ct-cais");
    assert!(shown.contains("ip daddr 127.0.0.0/8 drop"), "{shown}");
    ask(&world.host, "127.0.0.1", 8080);
}

#[test]
fn udp_is_published_too_and_sctp_has_its_element() {
    let world = World::new();
    let pod = world.pod();
    let udp = PortMapping { protocol: Protocol::Udp, ..tcp(5353, 53) };
    let sctp = PortMapping { protocol: Protocol::Sctp, ..tcp(9000, 9001) };
    world.ports.publish(&pod.publishes(&[udp, sctp])).unwrap();

    let server = pod.netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
    let client = world.outside.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    client.send_to(b"question", (HOST, 5353)).unwrap();
    let mut buffer = [0; 16];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(&buffer[..length], from).unwrap();
    let (length, from) = client.recv_from(&mut buffer).unwrap();

    assert_eq!(&buffer[..length], b"question");
    assert_eq!(from, SocketAddr::new(HOST.parse().unwrap(), 5353));
    let shown = world.nft();
    assert!(shown.contains(&format!("sctp . 9000 : {} . 9001", pod.address)), "{shown}");
}

#[test]
fn a_udp_client_that_keeps_sending_reaches_the_pod_that_has_the_port_now() {
    let world = World::new();
    let (old, new) = (world.pod(), world.pod());
    let mapping = PortMapping { protocol: Protocol::Udp, ..tcp(5353, 53) };
    let client = world.outside.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    for pod in [&old, &new] {
        let server = pod.netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // Before the port leads anywhere: the host itself is remembered as the receiver.
        client.send_to(b"early", (HOST, 5353)).unwrap();
        world.ports.publish(&pod.publishes(&[mapping])).unwrap();
        client.send_to(b"question", (HOST, 5353)).unwrap();
        assert_eq!(server.recv(&mut [0; 16]).unwrap(), 8);
        world.ports.unpublish(&pod.id).unwrap();
    }
}

#[test]
fn a_pod_reaches_the_outside_with_the_hosts_address() {
    let world = World::new();
    let pod = world.pod();
    let server = Pod {
        id: PodId::generate().unwrap(),
        netns: Netns::new(),
        address: Ipv4Addr::UNSPECIFIED,
        ipv6: None,
    };
    world.outside.cable(&server.netns, "far", ["10.2.0.1/24", "10.2.0.2/24"]);
    world.host.ip(&format!("route add default via {OUTSIDE}"));
    server.netns.ip("route add default via 10.2.0.1");
    world.outside.command("sysctl -qw net.ipv4.ip_forward=1");
    server.serve(80);

    assert_eq!(ask(&pod.netns, "10.2.0.2", 80), HOST);

    // A port published here does not catch what is only routed through.
    world.ports.publish(&pod.publishes(&[tcp(80, 9999)])).unwrap();
    assert_eq!(ask(&pod.netns, "10.2.0.2", 80), HOST);
}

#[test]
fn a_port_that_is_not_published_is_not_reached_by_routing_through_the_host() {
    let world = World::new();
    let (pod, other) = (world.pod(), world.pod());
    pod.serve(80);
    world.outside.ip(&format!("route add 10.77.0.0/24 via {HOST}"));
    let address = pod.address.to_string();

    assert!(is_silent(&world.outside, &address, 80));
    ask(&world.host, &address, 80);
    ask(&other.netns, &address, 80);
}

#[test]
fn a_port_in_use_is_refused_by_name_and_changes_nothing() {
    let world = World::new();
    let (one, two) = (world.pod(), world.pod());
    world.ports.publish(&one.publishes(&[tcp(8080, 80), on(HOST, tcp(9090, 90))])).unwrap();
    let before = world.nft();

    for mappings in
        [vec![tcp(7070, 70), tcp(8080, 81)], vec![on(HOST, tcp(8080, 80))], vec![tcp(9090, 90)]]
    {
        let error = world.ports.publish(&two.publishes(&mappings)).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert!(error.chain().contains(one.id.as_str()), "{}", error.chain());
        assert!(error.chain().contains("host port"), "{}", error.chain());
    }
    assert_eq!(world.nft(), before);

    // Another protocol and another address are free.
    let udp = PortMapping { protocol: Protocol::Udp, ..tcp(8080, 80) };
    world.ports.publish(&two.publishes(&[udp, on("10.1.0.9", tcp(9090, 90))])).unwrap();
    world.ports.unpublish(&two.id).unwrap();
    assert_eq!(world.nft(), before, "exactly the pod's own elements are gone");
}

#[test]
fn a_mapping_that_cannot_work_is_refused() {
    let world = World::new();
    let pod = world.pod();
    let refuse = |mappings: &[PortMapping]| {
        world.ports.publish(&pod.publishes(mappings)).unwrap_err().kind()
    };
    assert_eq!(refuse(&[tcp(0, 80)]), Kind::InvalidArgument);
    assert_eq!(refuse(&[tcp(80, 0)]), Kind::InvalidArgument);
    assert_eq!(refuse(&[tcp(80, 80), tcp(80, 81)]), Kind::InvalidArgument);
    let by_ipv6 = pod.publishes(&[on("2001:db8::1", tcp(80, 80))]);
    assert_eq!(by_ipv6.check().unwrap_err().kind(), Kind::Unsupported);
    // The same mapping twice says nothing new; :: is every address.
    let any = PortMapping { host_ip: Some(IpAddr::from([0_u16; 8])), ..tcp(80, 80) };
    world.ports.publish(&pod.publishes(&[tcp(80, 80), any])).unwrap();
}

#[test]
fn a_restart_restores_the_ports_and_cuts_no_connection() {
    let mut world = World::new();
    let (one, two) = (world.pod(), world.pod());
    one.serve(80);
    let listener = two.netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 81)).unwrap());
    let published = [one.publishes(&[tcp(8080, 80)]), two.publishes(&[tcp(8081, 81)])];
    for published in &published {
        world.ports.publish(published).unwrap();
    }
    let mut open_stream = world.outside.run(|| TcpStream::connect((HOST, 8081)).unwrap());
    let (mut accepted, _) = listener.accept().unwrap();
    let before = world.nft();

    world.ports = open(&world.host, published.to_vec());

    assert_eq!(world.nft(), before);
    accepted.write_all(b"still here").unwrap();
    drop(accepted);
    let mut answer = String::new();
    open_stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "still here");
    ask(&world.outside, HOST, 8080);

    // A flushed host gets its rules back; a removed table takes everything along.
    world.host.command("nft flush ruleset");
    world.ports.ensure().unwrap();
    assert_eq!(world.nft(), before);
    world.ports.remove().unwrap();
    world.ports.remove().unwrap();
    assert_eq!(world.host.command("nft list ruleset"), "");
}

#[test]
fn a_port_changes_hands_and_its_connections_stay() {
    let world = World::new();
    let (old, new, other) = (world.pod(), world.pod(), world.pod());
    let listener = old.netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
    new.serve(81);
    world.ports.publish(&old.publishes(&[tcp(8080, 80), tcp(8081, 80)])).unwrap();
    world.ports.publish(&other.publishes(&[tcp(9000, 80)])).unwrap();
    let mut open_stream = world.outside.run(|| TcpStream::connect((HOST, 8080)).unwrap());
    let (mut accepted, _) = listener.accept().unwrap();
    let before = world.nft();

    // One that somebody else has is refused, and nothing is another.
    let wrong = new.publishes(&[tcp(8080, 81), tcp(9000, 81)]);
    assert_eq!(world.ports.hand_over(&wrong, &old.id).unwrap_err().kind(), Kind::AlreadyExists);
    assert_eq!(world.nft(), before);

    world.ports.hand_over(&new.publishes(&[tcp(8080, 81), tcp(8082, 81)]), &old.id).unwrap();
    assert_eq!(ask(&world.outside, HOST, 8080), OUTSIDE);
    assert_eq!(ask(&world.outside, HOST, 8082), OUTSIDE);
    assert!(is_silent(&world.outside, HOST, 8081));
    accepted.write_all(b"still here").unwrap();
    drop(accepted);
    let mut answer = String::new();
    open_stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "still here");

    // After somebody flushed the rules, too.
    world.host.command("nft flush ruleset");
    old.serve(82);
    world.ports.hand_over(&old.publishes(&[tcp(8080, 82)]), &new.id).unwrap();
    assert_eq!(ask(&world.outside, HOST, 8080), OUTSIDE);
    world.ports.unpublish(&old.id).unwrap();
    assert!(is_silent(&world.outside, HOST, 8080));
}

#[test]
fn a_port_of_a_range_is_one_that_nobody_has() {
    let world = World::new();
    let pod = world.pod();
    let request = |host_ip: Option<&str>, host_port| PortRequest {
        protocol: Protocol::Tcp,
        container_port: 80,
        host_ip: host_ip.map(|address| address.parse().unwrap()),
        host_port,
    };
    let range = HostPort::Among(41_000, 41_003);
    let chosen = |requests: &[PortRequest]| -> Vec<u16> {
        let mappings = world.ports.reserve(requests).unwrap();
        mappings.iter().map(|mapping| mapping.host_port).collect()
    };
    world.ports.publish(&pod.publishes(&[on("127.0.0.1", tcp(41_000, 80))])).unwrap();

    // On another address it is free.
    assert_eq!(chosen(&[request(Some(HOST), range)]), [41_000]);
    // What was chosen is held until it is released, also while nobody publishes it.
    let both = [request(None, range), request(None, HostPort::This(41_001))];
    assert_eq!(chosen(&both), [41_002, 41_001]);
    assert_eq!(chosen(&[request(None, range)]), [41_001]);
    assert_eq!(chosen(&[request(None, range)]), [41_003]);
    // All or none: the first of these is given back when there is none for the second.
    world.ports.release(&[(Protocol::Tcp, 41_003)]);
    let error = world.ports.reserve(&[request(None, range); 2]).unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists);
    assert!(error.chain().contains("Bind for 0.0.0.0:41000-41003 failed"), "{}", error.chain());
    assert_eq!(chosen(&[request(None, range)]), [41_003]);
    let udp = PortRequest { protocol: Protocol::Udp, ..request(None, range) };
    assert_eq!(chosen(&[udp]), [41_000]);
    let dynamic = chosen(&[request(None, HostPort::Any); 3]);
    assert!(dynamic.iter().all(|port| *port >= 49_152), "{dynamic:?}");
    assert!(dynamic[0] != dynamic[1] && dynamic[1] != dynamic[2], "{dynamic:?}");
}

#[test]
fn a_port_is_published_by_both_families_and_nothing_else_is_reached() {
    const OUTSIDE: &str = "fd10:1::2";
    const HOST: &str = "fd10:1::1";
    let world = World::new();
    world.host.ip(&format!("addr add {HOST}/64 dev wan nodad"));
    world.outside.ip(&format!("addr add {OUTSIDE}/64 dev wan nodad"));
    world.outside.ip(&format!("route add fd77::/64 via {HOST}"));
    let (server, client) = (world.pod(), world.pod());
    server.serve(80);
    let own = server.ipv6.unwrap().to_string();
    world.ports.publish(&server.publishes_by_both(&[tcp(8080, 80)])).unwrap();

    assert_eq!(ask(&world.outside, HOST, 8080), OUTSIDE, "the source is kept");
    ask(&world.outside, super::ports_tests::HOST, 8080); // by IPv4 all the same
    ask(&world.host, HOST, 8080); // the host by its own address
    ask(&client.netns, HOST, 8080); // another pod by the host's address
    ask(&server.netns, HOST, 8080); // the pod itself by the host's address
    ask(&client.netns, &own, 80); // its neighbour
    assert!(is_silent(&world.outside, &own, 80), "the container's port is not for others");
    assert!(is_silent(&world.outside, HOST, 80), "nor is it the host's");

    // On one address, and of one family.
    world.ports.unpublish(&server.id).unwrap();
    assert!(is_silent(&world.outside, HOST, 8080));
    let one = [on(HOST, tcp(8081, 80)), on("::", tcp(8082, 80)), on("0.0.0.0", tcp(8083, 80))];
    world.ports.publish(&server.publishes_by_both(&one)).unwrap();
    ask(&world.outside, HOST, 8081);
    assert!(is_silent(&world.outside, super::ports_tests::HOST, 8081));
    ask(&world.outside, HOST, 8082);
    assert!(is_silent(&world.outside, super::ports_tests::HOST, 8082));
    assert!(is_silent(&world.outside, HOST, 8083));
    let taken = world.ports.publish(&client.publishes_by_both(&[tcp(8082, 80)])).unwrap_err();
    assert!(taken.chain().contains("host port 8082/tcp is in use"), "{}", taken.chain());

    // Its network with IPv6 is taken from it; a new pod would be refused.
    world.ports.unpublish(&server.id).unwrap();
    let left = server.publishes(&one);
    assert_eq!(left.check().unwrap_err().kind(), Kind::Unsupported);
    server.publishes_by_both(&one).check().unwrap();
    world.ports.publish(&left).unwrap();
    assert!(is_silent(&world.outside, HOST, 8081));
    ask(&world.outside, super::ports_tests::HOST, 8083);

    // From a pod to the outside it is the host that asks.
    let far = Pod {
        id: PodId::generate().unwrap(),
        netns: Netns::new(),
        address: Ipv4Addr::UNSPECIFIED,
        ipv6: None,
    };
    world.outside.cable(&far.netns, "far", ["10.2.0.1/24", "10.2.0.2/24"]);
    world.outside.ip("addr add fd10:2::1/64 dev far nodad");
    far.netns.ip("addr add fd10:2::2/64 dev far nodad");
    world.host.ip(&format!("route add fd10:2::/64 via {OUTSIDE}"));
    far.netns.ip("route add default via fd10:2::1");
    world.outside.command("sysctl -qw net.ipv6.conf.all.forwarding=1");
    far.serve(80);
    assert_eq!(ask(&client.netns, "fd10:2::2", 80), HOST);
    assert_eq!(world.host.command("sysctl -n net.ipv6.conf.ct-br0.accept_ra").trim(), "0");
}

#[test]
fn thousands_of_ports_of_one_pod_come_and_go() {
    let world = World::new();
    let pod = world.pod();
    let mappings: Vec<_> = (10_000..16_000).map(|port| tcp(port, port)).collect();
    let started = std::time::Instant::now();
    world.ports.publish(&pod.publishes(&mappings)).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(world.nft().matches("tcp . ").count(), 6000);
    world.ports.unpublish(&pod.id).unwrap();
    assert_eq!(world.nft().matches("tcp . ").count(), 0);
}
