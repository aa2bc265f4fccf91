//! What a container wrote, from its log file.
//!
//! The file has the form that kubelet reads, whoever made the container: one entry per line, `TIME
//! STREAM F|P TEXT`, where `P` says that no newline follows: the line goes on in the next entry of its
//! stream, or its writer ended without one. Such a last piece and what the container says first when it
//! is started again are then shown as one, as Docker has it.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::Door;
use super::call::Call;
use super::containers::{self, Found};
use super::convert::log::details;
use super::convert::time;
use super::hijack::{Framing, Stream};
use super::log_files;
use super::reply::{self, Answer};
use crate::engine::Sight;
use crate::engine::container::phase::Phase;
use crate::engine::standalone::Standalone;
use crate::engine::streams::Wanted as Streams;
use crate::error::{Error, Kind, Result};

/// How often a follower looks whether there is more.
const PERIOD: Duration = Duration::from_millis(50);

/// Pieces that a slow client has not read yet.
const BACKLOG: usize = 16;

/// What is gathered before it goes out.
pub(super) const PIECE: usize = 64 << 10;

/// A longer line is written as entries of this many bytes, each but the last tagged `P`.
const MAX_ENTRY: usize = 16 << 10;

pub(super) async fn logs(door: &Door, id: &str, call: &Call) -> Answer {
    let found = containers::find(door, id)?;
    let mut wanted = Wanted::of(call)?;
    let (path, tty) = match &found {
        Found::Standalone(container) => {
            let record = container.record();
            if record.config.container.log_path.is_none() {
                return Err(Error::new(
                    Kind::Unsupported,
                    "configured logging driver does not support reading",
                ));
            }
            (Some(door.engine.standalone_log(&record.id)), record.config.container.tty)
        }
        Found::Pod(record) => (record.log_path.clone(), record.config.tty),
    };
    if call.query.switch("details") {
        wanted.details = Some(match &found {
            Found::Standalone(container) => details(&container.record().config.request),
            Found::Pod(_) => String::new(),
        });
    }
    let framing = Framing::of(tty);
    let Some(path) = path else {
        return Ok(reply::stream(framing.media_type(), futures_util::stream::empty()));
    };
    let (pieces, outgoing) = mpsc::channel(BACKLOG);
    let joined = call.is_dockers_own().then_some(None);
    let reader = Reader {
        door: door.clone(),
        found,
        path,
        wanted,
        framing,
        joined,
        pieces,
        out: Vec::new(),
    };
    tokio::spawn(reader.run());
    Ok(reply::stream(framing.media_type(), ReceiverStream::new(outgoing)))
}

/// What a container has written until now, for who attaches to it.
pub(super) fn so_far(
    door: &Door,
    container: &Arc<Standalone>,
    streams: Streams,
    framing: Framing,
) -> mpsc::Receiver<Bytes> {
    let record = container.record();
    let (pieces, outgoing) = mpsc::channel(BACKLOG);
    let reader = Reader {
        door: door.clone(),
        found: Found::Standalone(container.clone()),
        path: door.engine.standalone_log(&record.id),
        wanted: Wanted {
            stdout: streams.stdout,
            stderr: streams.stderr,
            follow: false,
            timestamps: false,
            since: None,
            until: None,
            tail: None,
            details: None,
        },
        framing,
        joined: None,
        pieces,
        out: Vec::new(),
    };
    tokio::spawn(reader.run());
    outgoing
}

#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
struct Wanted {
    stdout: bool,
    stderr: bool,
    follow: bool,
    timestamps: bool,
    /// In the form of the entries, whose order is that of their texts.
    since: Option<String>,
    until: Option<String>,
    /// `None`: all.
    tail: Option<usize>,
    /// What stands before every line.
    details: Option<String>,
}

impl Wanted {
    fn of(call: &Call) -> Result<Self> {
        let moment = |name: &str| match call.query.text(name) {
            None | Some("0") => Ok(None),
            Some(text) => match time::moment(text) {
                Some(at) => Ok(Some(time::text(at))),
                None => Err(Error::invalid(format!("invalid value for {name:?}: {text:?}"))),
            },
        };
        let wanted = Self {
            stdout: call.query.switch("stdout"),
            stderr: call.query.switch("stderr"),
            follow: call.query.switch("follow"),
            timestamps: call.query.switch("timestamps"),
            since: moment("since")?,
            until: moment("until")?,
            tail: match call.query.text("tail") {
                None | Some("all") => None,
                // Docker takes what is no number for "all".
                Some(text) => text.parse().ok(),
            },
            details: None,
        };
        if !wanted.stdout && !wanted.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        Ok(wanted)
    }

    fn keeps(&self, entry: &Entry<'_>) -> bool {
        let is_stream = match entry.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        is_stream
            && self.since.as_deref().is_none_or(|since| entry.at >= since)
            && self.until.as_deref().is_none_or(|until| entry.at <= until)
    }
}

struct Entry<'a> {
    at: &'a str,
    stream: Stream,
    is_whole: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None` for what is no entry.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let at = std::str::from_utf8(fields.next()?).ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let is_whole = fields.next()? == b"F";
        Some(Self { at, stream, is_whole, text: fields.next()? })
    }
}

/// Tells where lines begin among entries that come in their order.
#[derive(Default)]
struct Lines {
    stdout_goes_on: bool,
    stderr_goes_on: bool,
}

impl Lines {
    fn begins_with(&mut self, entry: &Entry<'_>) -> bool {
        let goes_on = match entry.stream {
            Stream::Stdout => &mut self.stdout_goes_on,
            Stream::Stderr => &mut self.stderr_goes_on,
        };
        // A piece that has room left is the last of its writer.
        !std::mem::replace(goes_on, !entry.is_whole && entry.text.len() >= MAX_ENTRY)
    }
}

/// Nobody listens any more.
struct Gone;

struct Reader {
    door: Door,
    found: Found,
    path: PathBuf,
    wanted: Wanted,
    framing: Framing,
    /// The last frame in `out`, for who may get entries joined in one: docker's own client writes each frame by a call of its own.
    /// Others take a frame for a line, as dockerd sends them.
    joined: Option<Option<(Stream, usize)>>,
    pieces: mpsc::Sender<Bytes>,
    out: Vec<u8>,
}

impl Reader {
    async fn run(mut self) {
        // An error here is a log that went away, or a client that did.
        let _ = self.copy().await;
    }

    async fn copy(&mut self) -> Result<(), Gone> {
        let mut files = log_files::since(&self.path, None).await;
        if files.is_empty() {
            // It has not been started.
            return self.wait_for_file().await;
        }
        if let Some(mut tail) = self.wanted.tail {
            let mut reached = files.len();
            for (place, file) in files.iter_mut().enumerate() {
                let (from, count) = self.start_of_tail(file, tail).await.map_err(|_| Gone)?;
                file.seek(SeekFrom::Start(from)).await.map_err(|_| Gone)?;
                tail -= count;
                if tail == 0 {
                    reached = place + 1;
                    break;
                }
            }
            files.truncate(reached);
        }
        let mut line = Vec::new();
        while files.len() > 1
            && let Some(mut older) = files.pop()
        {
            self.copy_lines(&mut older, &mut line).await?;
        }
        match files.pop() {
            Some(current) => self.follow(current).await,
            None => Ok(()),
        }
    }

    async fn wait_for_file(&mut self) -> Result<(), Gone> {
        while self.wanted.follow && !self.is_gone() {
            if let Ok(file) = log_files::open(&self.path).await {
                return self.follow(file).await;
            }
            self.pause().await?;
        }
        Ok(())
    }

    async fn follow(&mut self, mut file: BufReader<File>) -> Result<(), Gone> {
        let mut line = Vec::new();
        loop {
            // Asked before the file is: what was written before its end is then read.
            let is_over = !self.wanted.follow || !self.is_running();
            self.copy_lines(&mut file, &mut line).await?;
            while self.wanted.follow && !log_files::is_named(&self.path, &file).await {
                let mut newer = log_files::since(&self.path, Some(&file)).await;
                if newer.is_empty() {
                    break;
                }
                // What came before its writer left.
                self.copy_lines(&mut file, &mut line).await?;
                while let Some(next) = newer.pop() {
                    file = next;
                    self.copy_lines(&mut file, &mut line).await?;
                }
            }
            self.flush().await?;
            if is_over {
                return Ok(());
            }
            self.pause().await?;
        }
    }

    /// A line that has no end yet stays in `line`.
    async fn copy_lines(
        &mut self,
        file: &mut BufReader<File>,
        line: &mut Vec<u8>,
    ) -> Result<(), Gone> {
        loop {
            let count = file.read_until(b'\n', line).await.map_err(|_| Gone)?;
            if count == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                continue;
            }
            line.pop();
            self.add(line);
            line.clear();
            if self.out.len() >= PIECE {
                self.flush().await?;
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        let Some(entry) = Entry::parse(line).filter(|entry| self.wanted.keeps(entry)) else {
            return;
        };
        let mut text = Vec::with_capacity(entry.at.len() + entry.text.len() + 2);
        if self.wanted.timestamps {
            text.extend_from_slice(entry.at.as_bytes());
            text.push(b' ');
        }
        if let Some(details) = &self.wanted.details {
            text.extend_from_slice(details.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(entry.text);
        if entry.is_whole {
            text.push(b'\n');
        }
        match &mut self.joined {
            Some(last) => self.framing.put_joined(&mut self.out, last, (entry.stream, &text)),
            None => self.framing.put(&mut self.out, entry.stream, &text),
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.out.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.out));
        self.joined = self.joined.map(|_| None);
        self.pieces.send(piece).await.map_err(|_| Gone)
    }

    /// Where the last `tail` lines that are wanted begin, and how many of these there are.
    async fn start_of_tail(
        &self,
        file: &mut BufReader<File>,
        tail: usize,
    ) -> std::io::Result<(u64, usize)> {
        let mut starts = VecDeque::new();
        let (mut at, mut line, mut lines) = (0_u64, Vec::new(), Lines::default());
        loop {
            line.clear();
            let count = file.read_until(b'\n', &mut line).await?;
            if count == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if let Some(entry) = Entry::parse(text).filter(|entry| self.wanted.keeps(entry)) {
                if lines.begins_with(&entry) {
                    starts.push_back(at);
                }
                if starts.len() > tail {
                    starts.pop_front();
                }
            }
            at += count as u64;
        }
        Ok((starts.front().copied().unwrap_or(at), starts.len()))
    }

    fn is_running(&self) -> bool {
        match &self.found {
            Found::Standalone(container) => container.record().run().is_some(),
            Found::Pod(record) => self
                .door
                .engine
                .container(record.id.as_str(), Sight::Own)
                .is_ok_and(|now| matches!(now.phase, Phase::Running { .. })),
        }
    }

    fn is_gone(&self) -> bool {
        match &self.found {
            Found::Standalone(container) => container.ends().borrow().is_removed,
            Found::Pod(record) => {
                self.door.engine.container(record.id.as_str(), Sight::Own).is_err()
            }
        }
    }

    async fn pause(&self) -> Result<(), Gone> {
        match timeout(PERIOD, self.pieces.closed()).await {
            Ok(()) => Err(Gone),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_piece_without_a_newline_is_a_line() {
        let (part, mut lines) = ("x".repeat(MAX_ENTRY), Lines::default());
        let entries = [
            ("stdout P", part.as_str(), true),
            ("stderr P", "no end", true),
            ("stdout P", &part, false),
            ("stdout F", "end", false),
            ("stderr F", "the next run", true),
            ("stdout P", "no end", true),
            ("stdout F", "the next run", true),
        ];
        for (number, (tag, text, begins)) in entries.into_iter().enumerate() {
            let line = format!("t {tag} {text}");
            let entry = Entry::parse(line.as_bytes()).unwrap();
            assert_eq!(lines.begins_with(&entry), begins, "{number}");
        }
    }

    #[test]
    fn an_entry_is_taken_apart() {
        let entry = Entry::parse(b"2026-01-01T00:00:00.000000001Z stderr P a b ").unwrap();
        assert_eq!(entry.at, "2026-01-01T00:00:00.000000001Z");
        assert_eq!((entry.stream, entry.is_whole), (Stream::Stderr, false));
        assert_eq!(entry.text, b"a b ");
        for line in [b"".as_slice(), b"x", b"t stdin F x", b"t stdout F"] {
            assert!(Entry::parse(line).is_none(), "{line:?}");
        }
    }
}
