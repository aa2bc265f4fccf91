//! Container logs in the CRI form: `<time> <stream> <P|F> <bytes>`, one line per entry.
//!
//! A line of at most 16 KiB is one entry tagged F; a longer one becomes entries of exactly 16 KiB
//! tagged P and a last one tagged F. The start of a line waits here until its end comes, so what
//! an entry holds does not depend on how the pipe was read. What no newline ended when the stream
//! did is tagged P as well: who shows it adds none.
//!
//! All entries that one read gave go out in one write. The file changes between such writes only,
//! and they end at an entry's end: a rotation loses and doubles nothing.
//!
//! When the disk refuses a write (full, faulty) the container is not held up: the entries are
//! dropped and counted, and the first write that works again begins with an entry that says how
//! many were lost and why. A slow disk, in contrast, holds the reading up, and with it the writer.

use std::io::BufRead;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

const MAX_LINE: usize = 16 * 1024;
/// Entries are gathered up to this many bytes.
pub(super) const BATCH: usize = 64 * 1024;
/// Room that a waiting partial line may keep when it is done.
const KEPT: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// The line goes on in the next entry, or nothing ended it.
    Partial,
    Full,
}

/// Cuts a byte stream into entries.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Emits whole entries as two slices to be joined: what waited, and a part of `input`.
    pub(super) fn push(&mut self, mut input: &[u8], mut emit: impl FnMut(Tag, &[u8], &[u8])) {
        while !input.is_empty() {
            let room = MAX_LINE - self.pending.len();
            let window = input.get(..=room).unwrap_or(input);
            let (tag, length, used) = match find_newline(window) {
                Some(end) => (Tag::Full, end, end + 1),
                // One byte too many, and it is not the newline.
                None if input.len() > room => (Tag::Partial, room, room),
                None => {
                    self.pending.extend_from_slice(input);
                    return;
                }
            };
            emit(tag, &self.pending, input.get(..length).unwrap_or_default());
            self.forget_pending();
            input = input.get(used..).unwrap_or_default();
        }
    }

    /// The stream ended: what waits for its newline will not have one.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(Tag, &[u8], &[u8])) {
        if !self.pending.is_empty() {
            emit(Tag::Partial, &self.pending, b"");
            self.forget_pending();
        }
    }

    fn forget_pending(&mut self) {
        self.pending.clear();
        self.pending.shrink_to(KEPT);
    }
}

/// `skip_until` is the standard library's way to its fast byte search.
fn find_newline(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let skipped = rest.skip_until(b'\n').ok()?;
    let last = skipped.checked_sub(1)?;
    (bytes.get(last) == Some(&b'\n')).then_some(last)
}

/// Appends one entry.
pub(super) fn format(out: &mut Vec<u8>, at: &[u8], stream: &str, tag: Tag, parts: [&[u8]; 2]) {
    out.extend_from_slice(at);
    out.push(b' ');
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(match tag {
        Tag::Partial => b" P ",
        Tag::Full => b" F ",
    });
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

/// Nanoseconds since the epoch as RFC 3339 in UTC: `2024-01-01T00:00:00.000000000Z`.
pub(super) fn timestamp(at: i64) -> String {
    const DAY: i64 = 86_400;
    let (seconds, nanos) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Days since 1970 to a Gregorian date, counting years from March so that the leap day is last.
fn civil(days: i64) -> (i64, i64, i64) {
    const CYCLE: i64 = 146_097; // Days in 400 years.
    let from_march_of_year_0 = days + 719_468;
    let cycle = from_march_of_year_0.div_euclid(CYCLE);
    let day = from_march_of_year_0.rem_euclid(CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + cycle * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The open log file and what it owes its reader.
#[derive(Debug)]
pub(super) struct LogFile {
    file: OwnedFd,
    lost: u64,
    reason: Option<Errno>,
    /// The file ends in the middle of an entry.
    torn: bool,
}

impl LogFile {
    pub(super) fn new(file: OwnedFd) -> Self {
        Self { file, lost: 0, reason: None, torn: false }
    }

    /// Goes on in another file; what was lost is told there.
    pub(super) fn reopen(&mut self, file: OwnedFd) {
        self.file = file;
        self.torn = false;
    }

    /// Writes whole entries.
    pub(super) fn write(&mut self, entries: &[u8], at: &str) {
        if (self.torn || self.lost > 0) && !self.settle(at) {
            self.lost += count_lines(entries);
            return;
        }
        self.write_all(entries);
    }

    /// Tells of lost entries before anything new. False: not even that could be written.
    fn settle(&mut self, at: &str) -> bool {
        let mut note = Vec::new();
        if self.torn {
            note.push(b'\n');
        }
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let why = self.reason.map_or_else(String::new, |errno| format!(": {errno}"));
            let text = format!("cais: {lost} log entries could not be written{why}");
            format(&mut note, at.as_bytes(), "stderr", Tag::Full, [text.as_bytes(), b""]);
        }
        self.torn = false;
        let written = self.write_all(&note);
        if !written {
            // The note itself was counted; what it told of is still owed.
            self.lost = lost;
        }
        written
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> bool {
        let mut torn = false;
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(length) => {
                    let (written, rest) = bytes.split_at(length);
                    torn = written.last().is_some_and(|last| *last != b'\n');
                    bytes = rest;
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    self.torn |= torn;
                    self.lost += count_lines(bytes);
                    self.reason = Some(errno);
                    return false;
                }
            }
        }
        true
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(chunks: &[&[u8]]) -> Vec<(Tag, Vec<u8>)> {
        let mut splitter = Splitter::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |tag, head, tail| seen.push((tag, [head, tail].concat())));
        }
        splitter.finish(|tag, head, tail| seen.push((tag, [head, tail].concat())));
        seen
    }

    #[test]
    fn a_line_is_one_entry_and_the_end_of_the_stream_is_no_newline() {
        assert_eq!(
            entries(&[b"one\ntw", b"o\n\nthree"]),
            [
                (Tag::Full, b"one".to_vec()),
                (Tag::Full, b"two".to_vec()),
                (Tag::Full, b"".to_vec()),
                (Tag::Partial, b"three".to_vec()),
            ]
        );
        assert!(entries(&[b""]).is_empty());
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_split() {
        let line = [vec![b'x'; MAX_LINE], b"\n".to_vec()].concat();
        assert_eq!(entries(&[&line]), [(Tag::Full, vec![b'x'; MAX_LINE])]);
    }

    #[test]
    fn a_longer_line_is_split_at_the_limit() {
        let line = [vec![b'x'; 2 * MAX_LINE + 5], b"\n".to_vec()].concat();
        let tags: Vec<_> = entries(&[&line]).into_iter().map(|(t, b)| (t, b.len())).collect();
        assert_eq!(tags, [(Tag::Partial, MAX_LINE), (Tag::Partial, MAX_LINE), (Tag::Full, 5)]);
    }

    proptest! {
        /// However the pipe is read, the entries are the same and nothing is lost.
        #[test]
        fn entries_do_not_depend_on_the_reads(
            lines in prop::collection::vec(0_usize..40_000, 1..5),
            cuts in prop::collection::vec(1_usize..30_000, 1..8),
        ) {
            let mut stream = Vec::new();
            for (number, length) in lines.iter().enumerate() {
                stream.extend(std::iter::repeat_n(b'a' + u8::try_from(number).unwrap(), *length));
                stream.push(b'\n');
            }
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let seen = entries(&chunks);
            prop_assert_eq!(&seen, &entries(&[&stream]));
            let mut joined = Vec::new();
            for (tag, bytes) in seen {
                joined.extend(bytes);
                if tag == Tag::Full { joined.push(b'\n'); }
            }
            prop_assert_eq!(joined, stream);
        }

        #[test]
        fn timestamps_agree_with_a_calendar(at in 0_i64..4_102_444_800_000_000_000) {
            let expected = jiff::Timestamp::from_nanosecond(at.into()).unwrap();
            prop_assert_eq!(timestamp(at), format!("{expected:.9}"));
        }
    }

    #[test]
    fn an_entry_has_the_form_of_the_cri() {
        let mut out = Vec::new();
        let at = timestamp(1_704_067_200_000_000_001);
        format(&mut out, at.as_bytes(), "stdout", Tag::Full, [b"he", b"llo"]);
        assert_eq!(out, b"2024-01-01T00:00:00.000000001Z stdout F hello\n");
    }

    #[test]
    fn entries_that_a_full_disk_refused_are_counted_in_the_log() {
        let full: OwnedFd =
            std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
        let mut log = LogFile::new(full);
        log.write(b"a F one\na F two\n", "T");
        log.write(b"a F three\n", "T");

        let file = tempfile::NamedTempFile::new().unwrap();
        log.reopen(file.reopen().unwrap().into());
        log.write(b"a F four\n", "T");
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(
            text.starts_with("T stderr F cais: 3 log entries could not be written: "),
            "{text}"
        );
        assert!(text.ends_with("a F four\n"), "{text}");
    }
}
