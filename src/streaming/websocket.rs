//! Channels over WebSocket: each message begins with the number of its channel.
//!
//! There are no windows. The reader stops reading while a channel is full, as SPDY's does, and a
//! ping every half minute finds peers that are gone meanwhile. Only protocol 5 can half-close a
//! channel; before it, the end of the connection is the end of every channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::{self, Budget, End, Feed, Gone, Incoming, Outgoing};
use super::protocol::Codec;

/// The longest message of a client; real ones carry at most 32 KiB.
pub(crate) const MESSAGE_LIMIT: usize = 1 << 20;
const PIECE: usize = 32 << 10;
const PING: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(5);
const CLOSE_CHANNEL: u8 = 255;

/// How the channels of a connection are written and half-closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    pub(crate) codec: Codec,
    pub(crate) can_close: bool,
}

/// A running connection. Dropping it cuts the connection.
pub(crate) struct Channels {
    /// What the client sends, by channel.
    incoming: Vec<Option<Incoming>>,
    codec: Codec,
    messages: mpsc::Sender<Message>,
    lost: CancellationToken,
    _cut: DropGuard,
}

impl Channels {
    pub(crate) fn start(socket: WebSocket, framing: Framing, count: usize, idle: Duration) -> Self {
        let lost = CancellationToken::new();
        let budget = Arc::<Budget>::default();
        let (feeds, incoming): (Vec<_>, Vec<_>) =
            (0..count).map(|_| channel::incoming(Arc::clone(&budget), Box::new(|_| {}))).unzip();
        let (messages, waiting) = mpsc::channel(8);
        let (sink, stream) = socket.split();
        let written = Arc::new(AtomicU64::new(0));
        let reader = Reader { stream, feeds, framing, written: Arc::clone(&written), idle };
        let cut = lost.clone().drop_guard();
        let task_lost = lost.clone();
        tokio::spawn(async move {
            let _cut = cut;
            tokio::select! {
                () = reader.run() => {}
                () = task_lost.cancelled() => {}
            }
        });
        let task_lost = lost.clone();
        tokio::spawn(async move {
            tokio::select! {
                result = run_writer(sink, waiting, &written) => {
                    if result.is_err() {
                        task_lost.cancel();
                    }
                }
                () = task_lost.cancelled() => {}
            }
        });
        Self {
            incoming: incoming.into_iter().map(Some).collect(),
            codec: framing.codec,
            messages,
            _cut: lost.clone().drop_guard(),
            lost,
        }
    }

    /// The sending half of a channel.
    pub(crate) fn outgoing(&self, channel: u8) -> Outgoing {
        let messages = self.messages.clone();
        Outgoing::WebSocket(Sender { channel, codec: self.codec, messages })
    }

    pub(crate) fn take(&mut self, channel: usize) -> Option<Incoming> {
        self.incoming.get_mut(channel)?.take()
    }

    /// Lets go of the channels that nobody took: what comes on them is discarded.
    pub(crate) fn ignore_rest(&mut self) {
        self.incoming.clear();
    }

    /// Cancelled when the connection is gone.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Writes what is waiting, says goodbye and gives the client a moment to answer.
    pub(crate) async fn close(self) {
        let goodbye = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = timeout(GOODBYE, async {
            if self.messages.send(Message::Close(Some(goodbye))).await.is_ok() {
                self.lost.cancelled().await;
            }
        })
        .await;
    }
}

async fn run_writer(
    mut sink: SplitSink<WebSocket, Message>,
    mut waiting: mpsc::Receiver<Message>,
    written: &AtomicU64,
) -> Result<(), axum::Error> {
    let mut pings = interval(PING);
    // The first tick is immediate, and the client has only just come.
    pings.tick().await;
    loop {
        let message = tokio::select! {
            message = waiting.recv() => match message {
                Some(message) => message,
                None => return Ok(()),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if !matches!(message, Message::Ping(_)) {
            written.fetch_add(1, Ordering::Relaxed);
        }
        sink.send(message).await?;
    }
}

struct Reader {
    stream: SplitStream<WebSocket>,
    feeds: Vec<Feed>,
    framing: Framing,
    written: Arc<AtomicU64>,
    idle: Duration,
}

impl Reader {
    /// Returns when the client closed, broke the protocol, or was silent for too long.
    async fn run(mut self) {
        loop {
            let written = self.written.load(Ordering::Relaxed);
            let message = match timeout(self.idle, next_data(&mut self.stream)).await {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(_) if self.written.load(Ordering::Relaxed) == written => return,
                Err(_) => continue,
            };
            let Some((channel, data)) = self.split(&message) else {
                tracing::debug!("websocket client sent a malformed message");
                return;
            };
            if channel == CLOSE_CHANNEL && self.framing.can_close {
                let [closed] = *data else { return };
                if let Some(feed) = self.feeds.get(usize::from(closed)) {
                    feed.end(End::Finished);
                }
            } else if let Some(feed) = self.feeds.get(usize::from(channel))
                && !data.is_empty()
            {
                feed.push(data);
                feed.room().await;
            }
        }
    }

    /// The channel of a message and its bytes; `None` if it is malformed.
    fn split(&self, message: &Bytes) -> Option<(u8, Bytes)> {
        let Some((&first, rest)) = message.split_first() else {
            // An empty message says nothing on channel zero.
            return Some((0, Bytes::new()));
        };
        match self.framing.codec {
            Codec::Binary => Some((first, message.slice(1..))),
            Codec::Base64 => Some((first.checked_sub(b'0')?, STANDARD.decode(rest).ok()?.into())),
        }
    }
}

/// The next message that carries bytes. Pings are answered by the library.
async fn next_data(stream: &mut SplitStream<WebSocket>) -> Option<Bytes> {
    loop {
        match stream.next().await?.ok()? {
            Message::Binary(bytes) => return Some(bytes),
            Message::Text(text) => return Some(text.into()),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return None,
        }
    }
}

/// The sending half of one channel.
pub(crate) struct Sender {
    channel: u8,
    codec: Codec,
    messages: mpsc::Sender<Message>,
}

impl Sender {
    /// An empty message is sent too: clients take the first one as "connected".
    pub(crate) async fn send(&mut self, mut data: Bytes) -> Result<(), Gone> {
        loop {
            let piece = data.split_to(data.len().min(PIECE));
            self.messages.send(self.frame(&piece)).await.map_err(|_| Gone)?;
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    fn frame(&self, piece: &[u8]) -> Message {
        match self.codec {
            Codec::Binary => {
                let mut bytes = BytesMut::with_capacity(piece.len() + 1);
                bytes.put_u8(self.channel);
                bytes.put_slice(piece);
                Message::Binary(bytes.freeze())
            }
            Codec::Base64 => {
                let mut text = String::from(char::from(b'0' + self.channel));
                STANDARD.encode_string(piece, &mut text);
                Message::Text(text.into())
            }
        }
    }
}
