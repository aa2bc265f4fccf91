//! A container's streams by WebSocket (RFC 6455), as a browser has them.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::wait::{LONG, until};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// The example of the RFC, with what answers it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct Socket(UnixStream);

impl Socket {
    async fn open(docker: &Docker, path: &str) -> Self {
        let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LONG, stream.read_u8()).await.expect("an answer").unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT), "{head}");
        Self(stream)
    }

    /// A client masks what it sends; a mask of zeros changes nothing.
    async fn send(&mut self, kind: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).unwrap();
        let frame = [&[kind, 0x80 | length, 0, 0, 0, 0], payload].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// The kind and the payload of a short message.
    async fn receive(&mut self) -> (u8, String) {
        let mut head = [0; 2];
        timeout(LONG, self.0.read_exact(&mut head)).await.expect("a message").unwrap();
        let mut payload = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut payload).await.unwrap();
        (head[0], String::from_utf8(payload).unwrap())
    }
}

#[tokio::test]
async fn docker_attach_by_websocket_carries_both_ways() {
    let (_node, docker) = node().await;
    let script = "echo said; read line; echo $line >&2; read line; echo $line; exit 4";
    docker.run(&["create", "-i", "--name", "web", "busybox", "sh", "-c", script]).await;
    let path = "/v1.51/containers/web/attach/ws?stream=1&stdin=1&stdout=1&stderr=1";
    let mut socket = Socket::open(&docker, path).await;
    docker.run(&["start", "web"]).await;
    assert_eq!(socket.receive().await, (BINARY, "said\n".to_owned()));
    socket.send(BINARY, b"one\n").await;
    assert_eq!(socket.receive().await, (BINARY, "one\n".to_owned()));
    socket.send(TEXT, b"two\n").await;
    assert_eq!(socket.receive().await, (BINARY, "two\n".to_owned()));
    assert_eq!(socket.receive().await, (CLOSE, String::new()));
    assert_eq!(docker.run(&["wait", "web"]).await, "4");
    let mut logs = Socket::open(&docker, "/containers/web/attach/ws?logs=1&stdout=1").await;
    assert_eq!(logs.receive().await.1, "said\ntwo\n");
    docker.run(&["rm", "web"]).await;

    // The end of its client's messages is the end of its input, and is answered.
    docker.run(&["create", "-i", "--name", "cat", "busybox", "cat"]).await;
    let mut socket = Socket::open(&docker, "/containers/cat/attach/ws?stream=1&stdin=1").await;
    docker.run(&["start", "cat"]).await;
    socket.send(CLOSE, b"").await;
    assert_eq!(socket.receive().await, (CLOSE, String::new()));
    until("it to end", async || docker.inspect("cat").await["State"]["Status"] == "exited").await;
    docker.run(&["rm", "cat"]).await;

    let none = docker.get("/containers/nobody/attach/ws?stream=1").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    docker.run(&["create", "--name", "web", "busybox"]).await;
    let plain = docker.get("/containers/web/attach/ws?stream=1").await;
    assert_eq!(plain.status, StatusCode::BAD_REQUEST, "{plain:?}");
    plain.message();
    docker.run(&["rm", "web"]).await;
}
