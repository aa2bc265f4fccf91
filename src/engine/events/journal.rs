//! The log's own memory, for the next daemon: lines of JSON, appended.
//!
//! ```text
//! STATE/events/  old  current     when `current` is large it becomes `old`, and what was `old` goes
//! ```
//!
//! Not synced: it dies with the boot, as all that it tells about does. A line that a crash cut off is
//! left out.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::error::{Context, Result};
use crate::store::private_dir;

/// Some hundred events.
const LARGE_BYTES: u64 = 2 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line<T> {
    Event(Event<T>),
    /// A follower has everything up to here.
    Confirmed(i64),
    /// Everything up to here is in the journal no more.
    Forgotten(i64),
}

#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    current: File,
    bytes: u64,
    /// Times of the newest events in both files.
    newest: i64,
    newest_in_old: i64,
    /// The last line has no end.
    is_torn: bool,
}

impl Journal {
    /// Returns also what is in it, the oldest line first.
    pub(super) fn open<T: DeserializeOwned>(directory: &Path) -> Result<(Self, Vec<Line<T>>)> {
        private_dir(directory)?;
        let old = read(&directory.join("old"))?;
        let current = read(&directory.join("current"))?;
        let mut lines: Vec<Line<T>> = parse(&old);
        let newest_in_old = newest(&lines);
        let in_current = parse(&current);
        let journal = Self {
            current: open(&directory.join("current"))?,
            directory: directory.to_owned(),
            bytes: u64::try_from(current.len()).unwrap_or(u64::MAX),
            newest: newest(&in_current),
            newest_in_old,
            is_torn: !current.is_empty() && !current.ends_with(b"\n"),
        };
        lines.extend(in_current);
        Ok((journal, lines))
    }

    /// `confirmed` is repeated where a new file begins.
    pub(super) fn append<T: Serialize>(&mut self, line: &Line<T>, confirmed: i64) -> Result<()> {
        if self.bytes > LARGE_BYTES {
            self.begin_file(confirmed)?;
        }
        if let Line::Event(event) = line {
            self.newest = event.at;
        }
        self.write(line)
    }

    fn begin_file(&mut self, confirmed: i64) -> Result<()> {
        let path = self.directory.join("current");
        std::fs::rename(&path, self.directory.join("old")).context("set the journal aside")?;
        self.current = open(&path)?;
        self.bytes = 0;
        self.is_torn = false;
        let forgotten = std::mem::replace(&mut self.newest_in_old, self.newest);
        self.write(&Line::<()>::Forgotten(forgotten))?;
        self.write(&Line::<()>::Confirmed(confirmed))
    }

    /// One write call, so that a killed daemon leaves a whole line or none.
    fn write<T: Serialize>(&mut self, line: &Line<T>) -> Result<()> {
        let mut bytes = if self.is_torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut bytes, line).context("encode a line of the journal")?;
        bytes.push(b'\n');
        self.is_torn = true;
        self.current.write_all(&bytes).context("write to the journal")?;
        self.is_torn = false;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::options().append(true).create(true).mode(0o600).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.with_context(|| format!("read {}", path.display())),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Vec<Line<T>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.map(serde_json::from_slice);
    let told = parsed.inspect(|line| {
        if let Err(error) = line {
            tracing::warn!(%error, "a damaged line of the event journal is left out");
        }
    });
    told.filter_map(std::result::Result::ok).collect()
}

fn newest<T>(lines: &[Line<T>]) -> i64 {
    let time = |line: &Line<T>| match line {
        Line::Event(event) => Some(event.at),
        Line::Confirmed(_) | Line::Forgotten(_) => None,
    };
    lines.iter().filter_map(time).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::*;

    fn event(at: i64) -> Line<String> {
        let (change, subject) = (Change::Created, "a".to_owned());
        Line::Event(Event { at, change, subject, seen: "x".repeat(100_000) })
    }

    fn times(lines: &[Line<String>]) -> Vec<i64> {
        let time = |line: &Line<String>| match line {
            Line::Event(event) => Some(event.at),
            Line::Confirmed(_) | Line::Forgotten(_) => None,
        };
        lines.iter().filter_map(time).collect()
    }

    #[test]
    fn a_line_that_a_crash_cut_off_costs_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let open = || Journal::open::<String>(temp.path()).unwrap();
        open().0.append(&event(1), 0).unwrap();
        let file = File::options().append(true).open(temp.path().join("current"));
        file.unwrap().write_all(b"{\"Event\":{\"at\":2,").unwrap();
        open().0.append(&event(3), 0).unwrap();
        assert_eq!(times(&open().1), [1, 3]);
    }

    #[test]
    fn a_journal_stays_small_and_says_what_it_forgot() {
        let temp = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open::<String>(temp.path()).unwrap();
        for at in 1..=100 {
            journal.append(&event(at), at - 1).unwrap();
        }
        let (_, lines) = Journal::open::<String>(temp.path()).unwrap();
        let times = times(&lines);
        assert!(times.len() < 50 && times.last() == Some(&100), "{times:?}");
        let forgotten = lines.iter().filter_map(|line| match line {
            Line::Forgotten(at) => Some(*at),
            Line::Event(_) | Line::Confirmed(_) => None,
        });
        assert_eq!(forgotten.max(), times.first().map(|first| first - 1));
        let confirmed = lines.iter().any(|line| matches!(line, Line::Confirmed(at) if *at > 50));
        assert!(confirmed);
    }
}
