//! Names that no network has: asked of the servers that the host or the container names.
//!
//! Each question goes out by a socket of its own, so from a port that nobody can guess, and under a
//! random id; the socket is connected, so only the server that was asked is heard.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::Transport;
use super::message::{Code, LARGEST_DATAGRAM, Query};
use super::table::Upstream;

const PORT: u16 = 53;
/// The C library reads no more of them either.
const MOST_SERVERS: usize = 3;
/// All tries together. The C library gives up after five seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// An answer of the first server that has one; without any, of one that refuses.
pub(super) async fn ask(
    query: &Query,
    upstream: &Upstream,
    transport: Transport,
) -> Option<Vec<u8>> {
    let servers = match upstream {
        Upstream::Nobody => Vec::new(),
        // Read each time: it is as the host has it, also after the host moved to another network.
        Upstream::Host => {
            servers_in(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
        }
        Upstream::These(servers) => servers.clone(),
    };
    let servers = servers.into_iter().map(|server| SocketAddr::new(server, PORT));
    ask_all(query, &servers.take(MOST_SERVERS).collect::<Vec<_>>(), transport).await
}

pub(super) async fn ask_all(
    query: &Query,
    servers: &[SocketAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    // One alone is asked twice: a datagram may be lost.
    let tries = servers.len().max(2);
    let patience = PATIENCE / u32::try_from(tries).unwrap_or(1);
    let mut refusal = None;
    for server in servers.iter().cycle().take(tries) {
        let asked = timeout(patience, async {
            match transport {
                Transport::Datagram => by_datagram(query, *server).await,
                Transport::Stream => by_stream(query, *server).await,
            }
        });
        match asked.await {
            Ok(Ok((code, answer))) if is_final(code) => return Some(answer),
            Ok(Ok((_, answer))) => refusal = Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "ask an upstream name server"),
            Err(_) => tracing::debug!(%server, "an upstream name server does not answer"),
        }
    }
    refusal
}

/// Another server may know more after any other code.
fn is_final(code: u16) -> bool {
    code == Code::NoError as u16 || code == Code::NameError as u16
}

async fn by_datagram(query: &Query, server: SocketAddr) -> io::Result<(u16, Vec<u8>)> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = random_id()?;
    socket.send(&query.for_upstream(id)).await?;
    let mut buffer = vec![0; usize::from(LARGEST_DATAGRAM)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What answers another question is passed over; the right answer may follow.
        let answer = buffer.get(..length).unwrap_or_default();
        if let Some(code) = query.is_answered_by(id, answer) {
            return Ok((code, answer.to_vec()));
        }
    }
}

async fn by_stream(query: &Query, server: SocketAddr) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(server).await?;
    let id = random_id()?;
    write_message(&mut stream, &query.for_upstream(id)).await?;
    let answer = read_message(&mut stream).await?;
    let code = query.is_answered_by(id, &answer);
    code.map(|code| (code, answer)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Two bytes of length and the message.
pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// In one piece, for peers that take the length for all there is.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}

/// An address with a zone is left out: it means an interface that a datagram cannot name.
pub(super) fn servers_in(resolv_conf: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut fields = line.split_whitespace();
        let is_server = fields.next() == Some("nameserver");
        fields.next().filter(|_| is_server)?.parse().ok()
    };
    resolv_conf.lines().filter_map(server).collect()
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}
