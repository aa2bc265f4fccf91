//! The connection to one plugin: calls in both directions over one socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use super::wire::{self, Inbox, Message, MessageType, Request, Response, Status};
use crate::error::{Context, Error, Kind, Result};

/// Messages that wait for a plugin to read them.
const OUTGOING: usize = 16;
/// Calls of a plugin that wait for us.
const INCOMING: usize = 16;

pub(super) struct Connection {
    outgoing: mpsc::Sender<Vec<u8>>,
    calls: Mutex<Calls>,
    closed: watch::Sender<bool>,
}

/// Our calls without an answer.
#[derive(Default)]
struct Calls {
    last_stream: u32,
    waiting: HashMap<u32, oneshot::Sender<Response>>,
}

/// A call of the plugin's.
pub(super) struct Incoming {
    pub(super) stream: u32,
    pub(super) request: Request,
}

/// Why there is no answer to a call.
#[derive(Debug)]
pub(super) enum CallError {
    /// The plugin answered with an error.
    Refused(Status),
    /// The message is larger than the protocol allows.
    TooLarge,
    /// The connection is of no more use: it is closed, silent, or carries nonsense.
    Broken(Error),
}

impl Connection {
    /// Starts to serve the socket. The plugin's calls come out of the receiver.
    pub(super) fn open(socket: UnixStream) -> (Arc<Self>, mpsc::Receiver<Incoming>) {
        let (reader, writer) = socket.into_split();
        let (outgoing, to_write) = mpsc::channel(OUTGOING);
        let (to_serve, incoming) = mpsc::channel(INCOMING);
        let connection =
            Arc::new(Self { outgoing, calls: Mutex::default(), closed: watch::Sender::new(false) });
        tokio::spawn(write(connection.clone(), writer, to_write));
        tokio::spawn(read(connection.clone(), reader, to_serve));
        (connection, incoming)
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        // Who waits for an answer learns at once that none will come.
        self.calls().waiting.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(super) async fn closed(&self) {
        // The sender is part of self: it cannot be gone.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(super) async fn call(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nanos: i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
        };
        let answered = tokio::time::timeout(timeout, self.answer(&request)).await;
        let silent = || Error::new(Kind::Timeout, format!("no answer to {method} in {timeout:?}"));
        let response = answered.unwrap_or_else(|_| Err(CallError::Broken(silent())))?;
        match response.status {
            Some(status) if status.code != wire::code::OK => Err(CallError::Refused(status)),
            Some(_) | None => Ok(response.payload),
        }
    }

    async fn answer(&self, request: &Request) -> Result<Response, CallError> {
        let mut message = Message::request(0, request);
        if message.bytes.len() > wire::LARGEST_MESSAGE {
            return Err(CallError::TooLarge);
        }
        let closed =
            || CallError::Broken(Error::new(Kind::Unavailable, "the plugin closed its connection"));
        let room = self.outgoing.reserve().await.map_err(|_| closed())?;
        let answer = {
            let mut calls = self.calls();
            if self.is_closed() {
                return Err(closed());
            }
            // Numbered and sent under one lock: streams must grow on the wire.
            message.stream = if calls.last_stream == 0 { 1 } else { calls.last_stream + 2 };
            calls.last_stream = message.stream;
            let (sender, receiver) = oneshot::channel();
            calls.waiting.insert(message.stream, sender);
            room.send(message.encode(wire::PLUGIN));
            receiver
        };
        answer.await.map_err(|_| closed())
    }

    pub(super) async fn reply(&self, stream: u32, response: &Response) {
        let message = Message::response(stream, response).encode(wire::RUNTIME);
        // A plugin that is gone needs no answer.
        let _ = self.outgoing.send(message).await;
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(
    connection: Arc<Connection>,
    mut writer: OwnedWriteHalf,
    mut messages: mpsc::Receiver<Vec<u8>>,
) {
    loop {
        let message = tokio::select! {
            () = connection.closed() => break,
            message = messages.recv() => message,
        };
        let Some(message) = message else { break };
        let written = tokio::select! {
            () = connection.closed() => break,
            written = writer.write_all(&message) => written,
        };
        if written.is_err() {
            break;
        }
    }
    connection.close();
}

async fn read(
    connection: Arc<Connection>,
    mut reader: OwnedReadHalf,
    to_serve: mpsc::Sender<Incoming>,
) {
    let ended = tokio::select! {
        () = connection.closed() => Ok(()),
        ended = read_messages(&connection, &mut reader, &to_serve) => ended,
    };
    if let Err(error) = ended {
        tracing::warn!(error = error.chain(), "a plugin's connection ends");
    }
    connection.close();
}

async fn read_messages(
    connection: &Connection,
    reader: &mut OwnedReadHalf,
    to_serve: &mpsc::Sender<Incoming>,
) -> Result<()> {
    let (mut answers, mut requests) = (Inbox::default(), Inbox::default());
    let mut frame = Vec::new();
    loop {
        let mut header = [0; wire::TRUNK_HEADER];
        match reader.read_exact(&mut header).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            read => drop(read.context("read")?),
        }
        let (of, length) = wire::trunk_header(header)?;
        frame.resize(length, 0);
        reader.read_exact(&mut frame).await.context("read")?;
        match of {
            wire::PLUGIN => {
                answers.push(&frame);
                while let Some(message) = answers.next()? {
                    connection.answered(&message)?;
                }
            }
            wire::RUNTIME => {
                requests.push(&frame);
                while let Some(message) = requests.next()? {
                    let Message { stream, kind: MessageType::Request, bytes } = message else {
                        continue;
                    };
                    let request = wire::decode(&bytes, "a plugin's request")?;
                    if to_serve.send(Incoming { stream, request }).await.is_err() {
                        return Ok(());
                    }
                }
            }
            // Reserved, or of a later version.
            _ => {}
        }
    }
}

impl Connection {
    fn answered(&self, message: &Message) -> Result<()> {
        if message.kind != MessageType::Response {
            return Ok(());
        }
        let response = wire::decode(&message.bytes, "a plugin's answer")?;
        // An answer that nobody waits for any more came after the deadline.
        if let Some(waiting) = self.calls().waiting.remove(&message.stream) {
            let _ = waiting.send(response);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plugin at the bare socket.
    async fn peer_answers(mut socket: UnixStream, response: Response) -> Request {
        let mut inbox = Inbox::default();
        loop {
            let mut header = [0; wire::TRUNK_HEADER];
            socket.read_exact(&mut header).await.unwrap();
            let (_, length) = wire::trunk_header(header).unwrap();
            let mut frame = vec![0; length];
            socket.read_exact(&mut frame).await.unwrap();
            inbox.push(&frame);
            if let Some(message) = inbox.next().unwrap() {
                let answer = Message::response(message.stream, &response).encode(wire::PLUGIN);
                socket.write_all(&answer).await.unwrap();
                return wire::decode(&message.bytes, "request").unwrap();
            }
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_call_gets_its_answer() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (connection, _incoming) = Connection::open(ours);
        let response = Response { status: None, payload: vec![1, 2] };
        let peer = tokio::spawn(peer_answers(theirs, response));

        let answer = connection.call("s", "m", vec![0; 10_000], SECOND).await.unwrap();

        assert_eq!(answer, [1, 2]);
        let request = peer.await.unwrap();
        assert_eq!((request.service.as_str(), request.payload.len()), ("s", 10_000));
        assert_eq!(request.timeout_nanos, 1_000_000_000);
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_code_and_text() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (connection, _incoming) = Connection::open(ours);
        let status = Some(Status { code: 12, message: "no such call".into() });
        tokio::spawn(peer_answers(theirs, Response { status: status.clone(), payload: vec![] }));

        let refused = connection.call("s", "m", vec![], SECOND).await.unwrap_err();

        assert!(matches!(refused, CallError::Refused(told) if Some(&told) == status.as_ref()));
    }

    #[tokio::test]
    async fn a_silent_plugin_meets_the_deadline_and_a_dead_one_is_noticed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (connection, _incoming) = Connection::open(ours);
        let silent = connection.call("s", "m", vec![], Duration::from_millis(20)).await;
        assert!(matches!(silent, Err(CallError::Broken(error)) if error.kind() == Kind::Timeout));

        drop(theirs);
        let dead = connection.call("s", "m", vec![], Duration::from_secs(60)).await;
        assert!(matches!(dead, Err(CallError::Broken(it)) if it.kind() == Kind::Unavailable));
        connection.closed().await;
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_not_sent() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (connection, _incoming) = Connection::open(ours);
        let refused = connection.call("s", "m", vec![0; wire::LARGEST_MESSAGE], SECOND).await;
        assert!(matches!(refused, Err(CallError::TooLarge)));
        assert!(!connection.is_closed());
    }
}
