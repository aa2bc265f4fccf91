//! The protocols of exec, attach and port-forward: their names, and which streams they open.

use std::time::Duration;

use tokio::time::timeout;

use super::backend::Wanted;
use super::channel::Outgoing;
use super::remote_command::Streams;
use super::spdy::{Session, Stream};
use super::status::Form;
use crate::error::{Error, Kind, Result};

/// How long a client may take to open the streams it announced.
pub(crate) const STREAM_CREATION: Duration = Duration::from_secs(30);
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";
pub(crate) const PORT_FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// A version of the remote command protocol over SPDY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteCommand {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) has_resize: bool,
}

pub(crate) const REMOTE_COMMAND: [RemoteCommand; 4] = [
    RemoteCommand { name: "v4.channel.k8s.io", form: Form::Json, has_resize: true },
    RemoteCommand { name: "v3.channel.k8s.io", form: Form::Text, has_resize: true },
    RemoteCommand { name: "v2.channel.k8s.io", form: Form::Text, has_resize: false },
    RemoteCommand { name: "channel.k8s.io", form: Form::Text, has_resize: false },
];

/// How channels travel in WebSocket messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Binary messages: the number of the channel, then the bytes.
    Binary,
    /// Text messages: the digit of the channel, then the bytes in base64.
    Base64,
}

/// A version of the remote command protocol over WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WebSocketProtocol {
    pub(crate) name: &'static str,
    pub(crate) codec: Codec,
    pub(crate) form: Form,
    /// Channel 255 carries the number of a channel that the client half-closes.
    pub(crate) can_close: bool,
}

pub(crate) const WEB_SOCKET: [WebSocketProtocol; 5] = [
    WebSocketProtocol {
        name: "v5.channel.k8s.io",
        codec: Codec::Binary,
        form: Form::Json,
        can_close: true,
    },
    WebSocketProtocol {
        name: "v4.channel.k8s.io",
        codec: Codec::Binary,
        form: Form::Json,
        can_close: false,
    },
    WebSocketProtocol {
        name: "v4.base64.channel.k8s.io",
        codec: Codec::Base64,
        form: Form::Json,
        can_close: false,
    },
    WebSocketProtocol {
        name: "channel.k8s.io",
        codec: Codec::Binary,
        form: Form::Text,
        can_close: false,
    },
    WebSocketProtocol {
        name: "base64.channel.k8s.io",
        codec: Codec::Base64,
        form: Form::Text,
        can_close: false,
    },
];

/// The first of the client's names that `known` has.
pub(crate) fn choose<'a, T>(
    offered: impl IntoIterator<Item = &'a str>,
    known: &[T],
    name: impl Fn(&T) -> &str,
) -> Option<T>
where
    T: Copy,
{
    offered
        .into_iter()
        .find_map(|offer| known.iter().find(|protocol| name(protocol) == offer).copied())
}

/// Waits until the client has opened every stream of a remote command.
pub(crate) async fn gather(
    session: &mut Session,
    protocol: RemoteCommand,
    wanted: Wanted,
) -> Result<Streams> {
    let mut opening = Opening::default();
    let gathered = timeout(STREAM_CREATION, async {
        while !opening.is_complete(protocol, wanted) {
            let Some(stream) = session.accept().await else { return false };
            opening.add(stream);
        }
        true
    });
    match gathered.await {
        Ok(true) => opening.into_streams(protocol, session),
        Ok(false) => Err(Error::new(Kind::Cancelled, "the client left before opening its streams")),
        Err(_) => Err(Error::new(Kind::Timeout, "the client did not open its streams in time")),
    }
}

#[derive(Default)]
struct Opening {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Opening {
    /// A stream of an unknown kind, and one of two of the same kind, is dropped: that resets it.
    fn add(&mut self, stream: Stream) {
        let slot = match stream.headers.get("streamtype") {
            Some("error") => &mut self.error,
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("resize") => &mut self.resize,
            other => {
                tracing::debug!("stream of type {other:?} refused");
                return;
            }
        };
        if slot.is_none() {
            *slot = Some(stream);
        }
    }

    fn is_complete(&self, protocol: RemoteCommand, wanted: Wanted) -> bool {
        self.error.is_some()
            && (self.stdin.is_some() || !wanted.stdin)
            && (self.stdout.is_some() || !wanted.stdout)
            && (self.stderr.is_some() || !wanted.stderr || wanted.tty)
            && (self.resize.is_some() || !(wanted.tty && protocol.has_resize))
    }

    fn into_streams(self, protocol: RemoteCommand, session: &Session) -> Result<Streams> {
        let error = self.error.ok_or_else(|| Error::internal("no error stream"))?;
        let mut idle = Vec::new();
        let mut incoming = |stream: Option<Stream>| {
            let stream = stream?;
            idle.push(stream.outgoing);
            Some(stream.incoming)
        };
        Ok(Streams {
            stdin: incoming(self.stdin),
            resize: incoming(self.resize),
            stdout: self.stdout.map(outgoing),
            stderr: self.stderr.map(outgoing),
            error: error.outgoing,
            form: protocol.form,
            idle,
            lost: session.lost(),
        })
    }
}

fn outgoing(stream: Stream) -> Outgoing {
    stream.outgoing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_protocol_of_the_client_that_we_know_is_chosen() {
        let chosen = |offered: &[&'static str]| {
            choose(offered.iter().copied(), &REMOTE_COMMAND, |known| known.name)
                .map(|known| known.name)
        };
        assert_eq!(
            chosen(&["v9.x", "v2.channel.k8s.io", "v4.channel.k8s.io"]),
            Some("v2.channel.k8s.io")
        );
        assert_eq!(chosen(&["v9.x"]), None);
    }
}
