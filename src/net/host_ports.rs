//! Ports that programs of the host itself answer on: a pod that published one would take their
//! traffic away without a word.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

use super::{Protocol, sockets};

/// Of a UDP socket without a peer, in /proc/net.
const BOUND: &str = "07";
/// ::1 there. What waits on it is in nobody's way: the packet filter leaves it alone.
const LOOPBACK_IPV6: &str = "00000000000000000000000001000000";

/// Whether a socket in the calling thread's network namespace waits for others on the port, at this
/// address or, if it is unspecified, at any of its family.
///
/// Binding tells it in microseconds when nobody does. The port of an outgoing connection cannot
/// be bound either, but its packets find it by both of its ends: it is not in the way.
pub(super) fn is_taken(protocol: Protocol, address: IpAddr, port: u16) -> bool {
    let is_held = match protocol {
        Protocol::Tcp => try_bind(SocketType::STREAM, address, port) == Err(Errno::ADDRINUSE),
        Protocol::Udp => try_bind(SocketType::DGRAM, address, port) == Err(Errno::ADDRINUSE),
        Protocol::Sctp => return false,
    };
    is_held && waits(protocol, address, port)
}

fn try_bind(kind: SocketType, address: IpAddr, port: u16) -> Result<(), Errno> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, kind, None)?;
    if address.is_ipv6() {
        // Or a program of the other family would be found.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // What a server left of its connections a moment ago is nobody who waits.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))?;
    if kind == SocketType::STREAM { listen(&socket, 1) } else { Ok(()) }
}

fn waits(protocol: Protocol, address: IpAddr, port: u16) -> bool {
    let (tables, wanted) = match protocol {
        Protocol::Tcp => (["tcp6", "tcp"], sockets::LISTENS),
        Protocol::Udp => (["udp6", "udp"], BOUND),
        Protocol::Sctp => return false,
    };
    // What listens on :: may answer for both families.
    let tables = if address.is_ipv6() { &tables[..1] } else { &tables[..] };
    tables.iter().any(|table| {
        // Without IPv6 the first is not there.
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        text.unwrap_or_default().lines().skip(1).any(|line| has(line, port, wanted))
    })
}

fn has(line: &str, port: u16, wanted: &str) -> bool {
    sockets::local(line).is_some_and(|(address, own, state)| {
        address != LOOPBACK_IPV6 && own == port && state == wanted
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    use super::*;

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    #[test]
    fn a_listener_holds_its_port_and_an_outgoing_connection_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let outgoing = client.local_addr().unwrap().port();

        assert!(is_taken(Protocol::Tcp, ANY, port));
        assert!(is_taken(Protocol::Tcp, Ipv4Addr::LOCALHOST.into(), port));
        assert!(!is_taken(Protocol::Tcp, Ipv4Addr::new(127, 0, 0, 2).into(), port));
        assert!(!is_taken(Protocol::Tcp, Ipv6Addr::UNSPECIFIED.into(), port));
        assert!(!is_taken(Protocol::Tcp, ANY, outgoing));
        drop((listener, client));
        wait_until_free(Protocol::Tcp, port);
    }

    #[test]
    fn a_bound_socket_holds_its_udp_port() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();

        assert!(is_taken(Protocol::Udp, ANY, port));
        drop(socket);
        wait_until_free(Protocol::Udp, port);
    }

    /// A process that another test forked meanwhile holds our descriptors until it executes its program.
    fn wait_until_free(protocol: Protocol, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_taken(protocol, ANY, port) {
            assert!(Instant::now() < deadline, "port {port} stays taken");
            std::thread::yield_now();
        }
    }
}
