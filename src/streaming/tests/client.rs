//! Clients that speak just enough: an HTTP upgrade, SPDY frames, WebSocket messages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::streaming::spdy::frame::{Decoder, Encoder, Frame, Opening};
use crate::streaming::spdy::headers::Headers;

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a request and returns the status with the connection behind it.
pub(super) async fn request(
    address: SocketAddr,
    path: &str,
    headers: &str,
) -> (u16, String, TcpStream) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let text = format!("POST {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    let text = if headers.contains("websocket") { text.replacen("POST", "GET", 1) } else { text };
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, socket.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, socket)
}

pub(super) struct Spdy {
    pub(super) socket: TcpStream,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
    next: u32,
}

impl Spdy {
    pub(super) async fn connect(address: SocketAddr, path: &str, protocol: &str) -> Self {
        let headers = format!(
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n"
        );
        let (status, head, socket) = request(address, path, &headers).await;
        assert_eq!(status, 101, "{head}");
        assert!(head.to_lowercase().contains(&format!("x-stream-protocol-version: {protocol}")));
        Self {
            socket,
            encoder: Encoder::default(),
            decoder: Decoder::new(),
            buffer: BytesMut::new(),
            next: 1,
        }
    }

    pub(super) async fn send(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.put(frame, &mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    pub(super) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let id = self.next;
        self.next += 2;
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let opening = Opening::default();
        self.send(&Frame::SynStream { id, opening, headers: Headers(headers) }).await;
        id
    }

    /// Opens one stream of each type, in order.
    pub(super) async fn open_all(&mut self, kinds: &[&str]) -> Vec<u32> {
        let mut ids = Vec::new();
        for kind in kinds {
            ids.push(self.open(&[("streamtype", kind)]).await);
        }
        ids
    }

    pub(super) async fn write(&mut self, id: u32, data: impl Into<Bytes>, fin: bool) {
        self.send(&Frame::Data { id, fin, data: data.into() }).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.buffer)).await;
            if read.expect("the server is silent").unwrap() == 0 {
                return None;
            }
        }
    }

    /// Everything that arrives until all of `ids` are finished.
    pub(super) async fn read_all(&mut self, ids: &[u32]) -> HashMap<u32, Vec<u8>> {
        let mut read: HashMap<u32, Vec<u8>> = HashMap::new();
        let mut open = ids.to_vec();
        while !open.is_empty() {
            let frame = self.frame().await.expect("the connection ended early");
            if let Frame::Data { id, fin, data } = frame {
                read.entry(id).or_default().extend_from_slice(&data);
                open.retain(|other| !(fin && *other == id));
            } else if let Frame::RstStream { id, .. } = frame {
                open.retain(|other| *other != id);
            }
        }
        read
    }

    /// The next frame that `wanted` accepts.
    pub(super) async fn wait_for(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.frame().await.expect("the connection ended early");
            if wanted(&frame) {
                return frame;
            }
        }
    }
}

pub(super) struct WebSocket {
    socket: TcpStream,
}

impl WebSocket {
    pub(super) async fn connect(address: SocketAddr, path: &str, protocol: &str) -> Self {
        let headers = format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: {protocol}\r\n"
        );
        let (status, head, socket) = request(address, path, &headers).await;
        assert_eq!(status, 101, "{head}");
        assert!(head.contains(protocol), "{head}");
        Self { socket }
    }

    /// A masked message, as a client must send it; the mask is zero.
    pub(super) async fn send(&mut self, is_text: bool, body: &[u8]) {
        let mut bytes = vec![if is_text { 0x81 } else { 0x82 }];
        assert!(body.len() < 126);
        bytes.push(0x80 | u8::try_from(body.len()).unwrap());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// All messages until the server closes, in order.
    pub(super) async fn read_all(&mut self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            messages.push(message);
        }
        messages
    }

    pub(super) async fn message(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let kind = self.socket.read_u8().await.ok()? & 0x0f;
            let length = match self.socket.read_u8().await.ok()? {
                126 => usize::from(self.socket.read_u16().await.ok()?),
                127 => usize::try_from(self.socket.read_u64().await.ok()?).ok()?,
                short => usize::from(short),
            };
            let mut body = vec![0; length];
            self.socket.read_exact(&mut body).await.ok()?;
            (kind < 8).then_some(body)
        };
        timeout(PATIENCE, read).await.expect("the server is silent")
    }
}
