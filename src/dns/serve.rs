//! The sockets of one pod: questions in, answers out. Everything a container can make us hold is
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::{Decision, Transport, decide};
use super::message::{Code, LARGEST_DATAGRAM, Query};
use super::table::{Index, Upstream};
use super::upstream::{self, read_message, write_message};
use crate::id::PodId;

/// Questions that are asked elsewhere at one time: of all pods, and of one.
const MOST_ASKED: usize = 1024;
const MOST_ASKED_BY_ONE: usize = 128;
/// Connections of one pod. Others wait in the kernel until one of these ends.
const MOST_CONNECTIONS: usize = 32;
/// How long a client may be silent, or not read, before its connection ends.
const IDLE: Duration = Duration::from_secs(10);
/// After a socket failed, so that a failure that stays does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(100);

/// What all pods share.
pub(super) struct Desk {
    pub(super) index: ArcSwap<Index>,
    asked: Arc<Semaphore>,
    turn: AtomicUsize,
}

impl Default for Desk {
    fn default() -> Self {
        let (index, asked) = (ArcSwap::default(), Arc::new(Semaphore::new(MOST_ASKED)));
        Self { index, asked, turn: AtomicUsize::new(0) }
    }
}

/// One pod at the desk.
#[derive(Clone)]
pub(super) struct Asking {
    desk: Arc<Desk>,
    pod: PodId,
    asked: Arc<Semaphore>,
}

/// Held while a question is asked elsewhere.
type Place = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Asking {
    pub(super) fn new(desk: Arc<Desk>, pod: PodId) -> Self {
        Self { desk, pod, asked: Arc::new(Semaphore::new(MOST_ASKED_BY_ONE)) }
    }

    fn decide(&self, bytes: &[u8], transport: Transport) -> Decision {
        let turn = self.desk.turn.fetch_add(1, Ordering::Relaxed);
        decide(&self.desk.index.load(), &self.pod, bytes, transport, turn)
    }

    /// `None`: too much is asked already.
    fn place(&self) -> Option<Place> {
        let own = self.asked.clone().try_acquire_owned().ok()?;
        Some((own, self.desk.asked.clone().try_acquire_owned().ok()?))
    }
}

async fn ask(place: Option<Place>, query: Query, from: Upstream, by: Transport) -> Vec<u8> {
    let limit = by.limit(&query);
    let answer = match &place {
        Some(_) => upstream::ask(&query, &from, by).await,
        None => None,
    };
    match answer {
        Some(answer) => query.pass_on(answer, limit),
        None => query.answer(Code::ServerFailure, &[], limit),
    }
}

/// Answers datagrams until it is dropped.
pub(super) async fn datagrams(asking: Asking, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; usize::from(LARGEST_DATAGRAM)];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(pod = %asking.pod, %error, "receive a question");
                pause().await;
                continue;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        match asking.decide(bytes, Transport::Datagram) {
            Decision::Silence => {}
            Decision::Answer(answer) => {
                // As with any datagram: a client that cannot take it asks again.
                let _ = socket.try_send_to(&answer, client);
            }
            Decision::Ask(query, from) => {
                let (place, socket) = (asking.place(), socket.clone());
                if place.is_none() {
                    let answer = ask(None, query, from, Transport::Datagram).await;
                    let _ = socket.try_send_to(&answer, client);
                    continue;
                }
                tokio::spawn(async move {
                    let answer = ask(place, query, from, Transport::Datagram).await;
                    let _ = socket.try_send_to(&answer, client);
                });
            }
        }
    }
}

/// Answers connections until it is dropped.
pub(super) async fn connections(asking: Asking, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let asking = asking.clone();
                tokio::spawn(async move {
                    let _place = place;
                    connection(&asking, stream).await;
                });
            }
            Err(error) => {
                tracing::debug!(pod = %asking.pod, %error, "accept a connection for questions");
                pause().await;
            }
        }
    }
}

/// One question after the other.
async fn connection(asking: &Asking, mut stream: TcpStream) {
    while let Ok(Ok(bytes)) = timeout(IDLE, read_message(&mut stream)).await {
        let answer = match asking.decide(&bytes, Transport::Stream) {
            Decision::Silence => return,
            Decision::Answer(answer) => answer,
            Decision::Ask(query, from) => ask(asking.place(), query, from, Transport::Stream).await,
        };
        match timeout(IDLE, write_message(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn pause() {
    let _ = timeout(PAUSE, std::future::pending::<()>()).await;
}
