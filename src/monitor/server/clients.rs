//! Clients of the monitor: connections, their frames, and who waits for which reply.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::poller::{Key, READ, Source, Token, WRITE};
use super::{Server, complain_of};
use crate::error::Result;
use crate::executor::Fds;
use crate::monitor::protocol::{Call, Failure, Message, Reply, Report};
use crate::monitor::wire::{Decoder, Outbox};

/// A client that lets this much pile up has stopped reading.
const MAX_BACKLOG: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    token: Token,
    decoder: Decoder,
    outbox: Outbox,
    /// Its socket was full, and is watched for room.
    waiting: bool,
    pub(super) greeted: bool,
    pub(super) subscribed: bool,
}

/// Who asked, and under which number the answer is expected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) client: Key,
    pub(super) sequence: u32,
}

impl Server {
    pub(super) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            let key = self.new_key();
            // Out of memory in the kernel: the client sees its connection closed.
            let Ok(token) = self.poller.add(&socket, READ, Source::Client(key)) else { continue };
            let client = Client {
                socket,
                token,
                decoder: Decoder::default(),
                outbox: Outbox::default(),
                waiting: false,
                greeted: false,
                subscribed: false,
            };
            self.clients.insert(key, client);
        }
    }

    pub(super) fn client_ready(&mut self, key: Key, writable: bool) {
        if writable {
            self.flush(key);
        }
        let Some(client) = self.clients.get_mut(&key) else { return };
        match client.decoder.receive(client.socket.as_fd(), &mut self.input) {
            Ok(0) => return self.drop_client(key),
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.drop_client(key),
        }
        if let Err(error) = self.serve_frames(key) {
            complain_of(&error);
            self.drop_client(key);
        }
    }

    fn serve_frames(&mut self, key: Key) -> Result<()> {
        while let Some(client) = self.clients.get_mut(&key) {
            let Some(frame) = client.decoder.next()? else { return Ok(()) };
            let Call { sequence, request } = frame.decode()?;
            let fds = Fds::new(frame.fds);
            self.request(Caller { client: key, sequence }, request, fds);
        }
        Ok(())
    }

    pub(super) fn reply(&mut self, caller: Caller, result: Result<Reply, Failure>) {
        self.reply_with(caller, result, Vec::new());
    }

    pub(super) fn reply_with(
        &mut self,
        caller: Caller,
        result: Result<Reply, Failure>,
        fds: Vec<OwnedFd>,
    ) {
        let message = Message::Reply { sequence: caller.sequence, result };
        self.send(caller.client, &message, fds);
    }

    /// Tells everybody who subscribed.
    pub(super) fn broadcast(&mut self, report: &Report) {
        let listening: Vec<Key> = self
            .clients
            .iter()
            .filter(|(_, client)| client.subscribed)
            .map(|(key, _)| *key)
            .collect();
        for key in listening {
            self.send(key, &Message::Report(report.clone()), Vec::new());
        }
    }

    /// A client that is gone meanwhile does not matter: what it asked for is done all the same.
    pub(super) fn send(&mut self, key: Key, message: &Message, fds: Vec<OwnedFd>) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let pushed = client.outbox.push(message, fds);
        if let Err(error) = &pushed {
            complain_of(error);
        }
        if pushed.is_err() || client.outbox.len() > MAX_BACKLOG {
            return self.drop_client(key);
        }
        self.flush(key);
    }

    fn flush(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let waiting = match client.outbox.flush(client.socket.as_fd()) {
            Ok(()) => false,
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => return self.drop_client(key),
        };
        if waiting == client.waiting {
            return;
        }
        client.waiting = waiting;
        let interest = if waiting { READ | WRITE } else { READ };
        if self.poller.change(&client.socket, client.token, interest).is_err() {
            self.drop_client(key);
        }
    }

    fn drop_client(&mut self, key: Key) {
        if let Some(client) = self.clients.remove(&key) {
            self.poller.remove(&client.socket, client.token);
        }
    }
}
