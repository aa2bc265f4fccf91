//! What a build shows as it goes: its steps (vertexes), what they say, and how far they are.
//!
//! A client asks for it in a call of its own (`Control.Status`), which may come before the build and
//! after it, so all of it is kept as long as the build is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cais_proto::buildkit::control::{
    StatusResponse, Timestamp, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use futures_util::{Stream, stream};
use tokio::sync::watch;

use crate::image::digest::Digest;

/// Of one step's output, as BuildKit has it.
const MOST_OUTPUT: usize = 2 << 20;

/// What it takes to keep a piece of it, however short.
const PIECE: usize = 256;

/// A board; clones are of the same one.
#[derive(Clone)]
pub(super) struct Board(Arc<Inner>);

struct Inner {
    shown: Mutex<Shown>,
    /// How much there is, and whether that is all.
    length: watch::Sender<(usize, bool)>,
}

#[derive(Default)]
struct Shown {
    all: Vec<StatusResponse>,
    vertexes: u64,
}

impl Board {
    pub(super) fn new() -> Self {
        let shown = Mutex::default();
        Self(Arc::new(Inner { shown, length: watch::Sender::new((0, false)) }))
    }

    /// Begins a step; the build's id makes its name one of its own.
    pub(super) fn begin(&self, name: &str) -> Task {
        let task = self.announce(name);
        task.show(false, None, "");
        task
    }

    /// A step that begins later, if at all.
    pub(super) fn announce(&self, name: &str) -> Task {
        let number = {
            let mut shown = self.lock();
            shown.vertexes += 1;
            shown.vertexes
        };
        let address = Arc::as_ptr(&self.0).addr();
        let digest = Digest::of(format!("{address} {number} {name}").as_bytes());
        Task {
            board: self.clone(),
            name: name.to_owned(),
            digest: digest.to_string(),
            started: now(),
            output: 0,
            running: BTreeMap::new(),
        }
    }

    /// Nothing more is to come.
    pub(super) fn close(&self) {
        self.0.length.send_modify(|(_, is_over)| *is_over = true);
    }

    /// All that was shown and will be.
    pub(super) fn follow(&self) -> impl Stream<Item = StatusResponse> + Send + use<> {
        let state = (self.clone(), 0, self.0.length.subscribe());
        stream::unfold(state, async |(board, next, mut length)| {
            let ready = length.wait_for(|(length, is_over)| *length > next || *is_over).await;
            let is_over = ready.is_err();
            drop(ready);
            let found = board.lock().all.get(next).cloned().filter(|_| !is_over);
            found.map(|found| (found, (board, next + 1, length)))
        })
    }

    fn show(&self, what: StatusResponse) {
        let length = {
            let mut shown = self.lock();
            shown.all.push(what);
            shown.all.len()
        };
        self.0.length.send_modify(|(known, _)| *known = length.max(*known));
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step on the board.
pub(super) struct Task {
    board: Board,
    name: String,
    digest: String,
    started: Timestamp,
    /// Bytes that it has said, and what it took to keep them.
    output: usize,
    /// Parts of it that are not done.
    running: BTreeMap<String, Timestamp>,
}

impl Task {
    pub(super) fn start(&mut self) {
        self.started = now();
        self.show(false, None, "");
    }

    pub(super) fn done(&self, is_cached: bool) {
        self.show(is_cached, Some(now()), "");
    }

    pub(super) fn failed(&self, why: &str) {
        self.show(false, Some(now()), why);
    }

    /// It came to this.
    pub(super) fn ended<T>(&self, how: &crate::error::Result<T>) {
        match how {
            Ok(_) => self.done(false),
            Err(error) => self.failed(&error.chain()),
        }
    }

    /// What a command wrote.
    pub(super) fn output(&mut self, is_error: bool, bytes: &Bytes) {
        if self.output > MOST_OUTPUT {
            return;
        }
        self.output += bytes.len() + PIECE;
        let stream = if is_error { 2 } else { 1 };
        self.log(stream, bytes.to_vec());
        if self.output > MOST_OUTPUT {
            self.log(2, b"[output clipped, log limit 2MiB reached]\n".to_vec());
        }
    }

    fn log(&self, stream: i64, msg: Vec<u8>) {
        let vertex = self.digest.clone();
        let log = VertexLog { vertex, timestamp: Some(now()), stream, msg };
        self.board.show(StatusResponse { logs: vec![log], ..StatusResponse::default() });
    }

    /// How far a part is; all of it is there if `current` is `total`. A total of 0 is not known.
    pub(super) fn part(&mut self, id: &str, (current, total): (u64, u64), is_done: bool) {
        let started = *self.running.entry(id.to_owned()).or_insert_with(now);
        if is_done {
            self.running.remove(id);
        }
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let status = VertexStatus {
            id: id.to_owned(),
            vertex: self.digest.clone(),
            name: id.to_owned(),
            current: number(current),
            total: number(total),
            timestamp: Some(now()),
            started: Some(started),
            completed: is_done.then(now),
        };
        self.board.show(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
    }

    /// For people, after the build.
    pub(super) fn warn(&self, warning: VertexWarning) {
        let warning = VertexWarning { vertex: self.digest.clone(), ..warning };
        self.board.show(StatusResponse { warnings: vec![warning], ..StatusResponse::default() });
    }

    fn show(&self, cached: bool, completed: Option<Timestamp>, error: &str) {
        let vertex = Vertex {
            digest: self.digest.clone(),
            inputs: Vec::new(),
            name: self.name.clone(),
            cached,
            started: Some(self.started),
            completed,
            error: error.to_owned(),
        };
        self.board.show(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() });
    }
}

fn now() -> Timestamp {
    timestamp(jiff::Timestamp::now())
}

pub(super) fn timestamp(time: jiff::Timestamp) -> Timestamp {
    Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn who_comes_late_sees_all_and_the_end() {
        let board = Board::new();
        let mut task = board.begin("[1/2] FROM a");
        task.output(false, &Bytes::from_static(b"x"));
        let follower = board.follow();
        task.done(true);
        board.close();
        for seen in [follower.collect::<Vec<_>>().await, board.follow().collect().await] {
            assert_eq!(seen.len(), 3);
            assert_eq!(seen[1].logs[0].msg, b"x");
            assert!(seen[2].vertexes[0].cached && seen[2].vertexes[0].completed.is_some());
            assert_eq!(seen[0].vertexes[0].digest, seen[2].vertexes[0].digest);
        }
    }

    #[tokio::test]
    async fn a_step_that_says_too_much_is_clipped() {
        let board = Board::new();
        let mut task = board.announce("RUN yes");
        let piece = Bytes::from(vec![b'y'; 1 << 20]);
        for _ in 0..5 {
            task.output(true, &piece);
        }
        board.close();
        let said: Vec<usize> = board.follow().map(|shown| shown.logs[0].msg.len()).collect().await;
        assert_eq!(said, [1 << 20, 1 << 20, 41]);

        let board = Board::new();
        let mut task = board.announce("RUN in little pieces");
        for _ in 0..20_000 {
            task.output(true, &Bytes::from_static(b"y"));
        }
        board.close();
        assert!(board.follow().count().await < 10_000);
    }
}
