//! Ports that programs of the host itself answer on: a pod that published one would take their
//! traffic away without a word.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use super::Protocol;

/// Of a TCP socket that listens, and of a UDP socket without a peer, in /proc/net.
const LISTENS: &str = "0A";
const BOUND: &str = "07";

/// Whether a socket in the calling thread's network namespace waits for others on the port.
///
/// Binding tells it in microseconds when nobody does. The port of an outgoing connection cannot
/// be bound either, but its packets find it by both of its ends: it is not in the way.
pub(super) fn is_taken(protocol: Protocol, address: Option<Ipv4Addr>, port: u16) -> bool {
    let place = SocketAddrV4::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED), port);
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(place).map(drop),
        Protocol::Udp => UdpSocket::bind(place).map(drop),
        Protocol::Sctp => return false,
    };
    let is_held = bound.is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    is_held && waits(protocol, port)
}

fn waits(protocol: Protocol, port: u16) -> bool {
    let (tables, wanted) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], LISTENS),
        Protocol::Udp => (["udp", "udp6"], BOUND),
        Protocol::Sctp => return false,
    };
    tables.iter().any(|table| {
        // Without IPv6 the second is not there.
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        text.unwrap_or_default().lines().skip(1).any(|line| has(line, port, wanted))
    })
}

/// `0: 0100007F:1F90 00000000:0000 0A …`: number, local and remote address, state.
fn has(line: &str, port: u16, wanted: &str) -> bool {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1).and_then(|local| local.rsplit_once(':'));
    let is_port = local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port));
    is_port && fields.nth(1) == Some(wanted)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_listener_holds_its_port_and_an_outgoing_connection_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let outgoing = client.local_addr().unwrap().port();

        assert!(is_taken(Protocol::Tcp, None, port));
        assert!(is_taken(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), port));
        assert!(!is_taken(Protocol::Tcp, Some(Ipv4Addr::new(127, 0, 0, 2)), port));
        assert!(!is_taken(Protocol::Tcp, None, outgoing));
        drop((listener, client));
        assert!(!is_taken(Protocol::Tcp, None, port));
    }

    #[test]
    fn a_bound_socket_holds_its_udp_port() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();

        assert!(is_taken(Protocol::Udp, None, port));
        drop(socket);
        assert!(!is_taken(Protocol::Udp, None, port));
    }
}
