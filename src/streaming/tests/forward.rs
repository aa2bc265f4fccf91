//! Port-forward, and the registration of sessions.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::Server;
use super::client::{Spdy, WebSocket};
use crate::error::Kind;
use crate::streaming::backend::PortForward;
use crate::streaming::client::StreamServer;
use crate::streaming::control::{Control, Stop};
use crate::streaming::process::{Arguments, socket_path};
use crate::streaming::spdy::frame::Frame;

const PROTOCOL: &str = "portforward.k8s.io";
const LONG: usize = 100_000_000;
const PIECE: usize = 50_000;

async fn open_pair(client: &mut Spdy, port: u16, request: &str) -> (u32, u32) {
    let port = port.to_string();
    let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", request)];
    let error = client.open(&headers("error")).await;
    let data = client.open(&headers("data")).await;
    client.write(error, Bytes::new(), true).await;
    (error, data)
}

/// Reads everything, and only after its end answers with as much again.
async fn answer_after_the_end(listener: TcpListener) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let (mut buffer, mut count) = (vec![0; 64 << 10], 0);
    loop {
        match socket.read(&mut buffer).await.unwrap() {
            0 => break,
            read => count += read,
        }
    }
    assert_eq!(count, LONG);
    for _ in 0..LONG / PIECE {
        socket.write_all(&buffer[..PIECE]).await.unwrap();
    }
}

#[tokio::test]
async fn a_hundred_megabytes_pass_each_way_with_a_half_close_between() {
    let server = Server::start().await;
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = pod.local_addr().unwrap().port();
    let answering = tokio::spawn(answer_after_the_end(pod));
    let mut client = Spdy::connect(server.address, &server.forward(&[]), PROTOCOL).await;
    let (error, data) = open_pair(&mut client, port, "0").await;
    let piece = Bytes::from(vec![7; PIECE]);
    for _ in 0..LONG / PIECE {
        client.write(data, piece.clone(), false).await;
    }
    client.write(data, Bytes::new(), true).await;

    let read = client.read_all(&[data, error]).await;

    assert_eq!(read[&data].len(), LONG);
    assert!(read[&error].is_empty());
    answering.await.unwrap();
}

#[tokio::test]
async fn a_pod_that_stops_talking_still_hears_everything() {
    let server = Server::start().await;
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = pod.local_addr().unwrap().port();
    let mut client = Spdy::connect(server.address, &server.forward(&[]), PROTOCOL).await;
    let (error, data) = open_pair(&mut client, port, "0").await;
    let (mut socket, _) = pod.accept().await.unwrap();
    socket.write_all(b"bye").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(client.read_all(&[data]).await[&data], b"bye");

    for _ in 0..100 {
        client.write(data, vec![1; PIECE], false).await;
    }
    client.write(data, Bytes::new(), true).await;

    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard.len(), 100 * PIECE);
    client.read_all(&[error]).await;
}

#[tokio::test]
async fn a_refused_port_is_told_and_leaves_the_session_usable() {
    let server = Server::start().await;
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = pod.local_addr().unwrap().port();
    let mut client = Spdy::connect(server.address, &server.forward(&[]), PROTOCOL).await;

    let (error, data) = open_pair(&mut client, 1, "0").await;
    let told = client.read_all(&[error, data]).await;
    let text = String::from_utf8_lossy(&told[&error]);
    assert!(text.contains("port 1") && text.contains("refused"), "{text}");

    let (_, data) = open_pair(&mut client, open, "1").await;
    let (mut socket, _) = pod.accept().await.unwrap();
    socket.write_all(b"well").await.unwrap();
    drop(socket);
    assert_eq!(client.read_all(&[data]).await[&data], b"well");
}

#[tokio::test]
async fn streams_without_a_valid_port_or_type_are_reset() {
    let server = Server::start().await;
    let mut client = Spdy::connect(server.address, &server.forward(&[]), PROTOCOL).await;
    for headers in [
        &[("streamtype", "data")][..],
        &[("streamtype", "data"), ("port", "0")],
        &[("streamtype", "data"), ("port", "65536")],
        &[("streamtype", "other"), ("port", "80")],
    ] {
        let id = client.open(headers).await;
        let is_reset =
            |frame: &Frame| matches!(frame, Frame::RstStream { id: of, .. } if *of == id);
        client.wait_for(is_reset).await;
    }
}

#[tokio::test]
async fn a_reset_by_the_client_closes_the_connection_into_the_pod() {
    let server = Server::start().await;
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = pod.local_addr().unwrap().port();
    let mut client = Spdy::connect(server.address, &server.forward(&[]), PROTOCOL).await;
    let (_, data) = open_pair(&mut client, port, "0").await;
    let (mut socket, _) = pod.accept().await.unwrap();
    // Even after its half-close, and while the pod says nothing.
    client.write(data, Bytes::new(), true).await;
    assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);

    let reset = crate::streaming::spdy::frame::Reset::Cancel;
    client.send(&Frame::RstStream { id: data, reset }).await;

    // Whoever writes into a connection that is closed both ways is told so.
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..200 {
        ticks.tick().await;
        if socket.write_all(b"x").await.is_err() {
            return;
        }
    }
    panic!("the connection into the pod is still open");
}

#[tokio::test]
async fn websocket_channels_announce_their_port_and_carry_its_connection() {
    let server = Server::start().await;
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = pod.local_addr().unwrap().port();
    let path = server.forward(&[port]);
    let mut client = WebSocket::connect(server.address, &path, "v4.channel.k8s.io").await;
    let name = port.to_le_bytes();
    assert_eq!(client.message().await.unwrap(), [0, name[0], name[1]]);
    assert_eq!(client.message().await.unwrap(), [1, name[0], name[1]]);

    client.send(false, b"\x00ping").await;
    let (mut socket, _) = pod.accept().await.unwrap();
    let mut heard = [0; 4];
    socket.read_exact(&mut heard).await.unwrap();
    socket.write_all(b"pong").await.unwrap();
    drop(socket);

    assert_eq!(&heard, b"ping");
    assert_eq!(client.read_all().await, [b"\x00pong".to_vec()]);
}

#[tokio::test]
async fn the_daemon_finds_a_running_server_and_gets_addresses_that_work() {
    let server = Server::start().await;
    let state = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(socket_path(state.path())).unwrap();
    let names = Arc::new(crate::dns::Server::new(state.path()));
    let control = Control::new(Arc::clone(&server.shared), names, server.address);
    let running = tokio::spawn(control.run(listener));
    let daemon = StreamServer::new(Arguments {
        state: state.path().to_owned(),
        address: server.address,
        log_level: "info".to_owned(),
    });
    daemon.retire_other_version().await.unwrap();

    let pod = PortForward {
        monitor: "/none".into(),
        pod: crate::id::PodId::generate().unwrap(),
        ports: Vec::new(),
    };
    let url = daemon.port_forward_url(pod.clone()).await.unwrap();
    let path = url.strip_prefix(&format!("http://{}", server.address)).unwrap();
    Spdy::connect(server.address, path, PROTOCOL).await;

    for _ in 0..1000 {
        daemon.port_forward_url(pod.clone()).await.unwrap();
    }
    assert_eq!(daemon.port_forward_url(pod).await.unwrap_err().kind(), Kind::Exhausted);
    daemon.shut_down().await.unwrap();
    assert_eq!(running.await.unwrap(), Stop::Now);
}
