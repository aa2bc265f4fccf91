//! The steps of a build, drawn on a terminal: all that go on at once, with the last lines that their commands write.

use std::collections::VecDeque;
use std::io::{IsTerminal, Read, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Path, documents};
use crate::error::Result;
use crate::json::Value;
use crate::{progress, terminal};

/// The call of a build that is to be told by its steps.
pub(crate) fn asked(path: Path) -> Path {
    path.with("progress", "steps")
}

/// How often the clock is seen to go on.
const TICK: Duration = Duration::from_millis(100);
/// Lines that a command's step shows of what it writes.
const SHOWN: usize = 4;
/// Lines that are kept of a step, for the case that it fails.
const KEPT: usize = 200;

const PLAIN: &str = "\x1b[0m";
const DIM: &str = "\x1b[2m";
const BLUE: &str = "\x1b[34m";
const RED: &str = "\x1b[31m";

/// Draws a build to its end. `aux` records that are about no step go to `on_aux`. A daemon that tells no steps is shown as it
/// tells them.
///
/// # Errors
/// What the daemon says in the stream.
pub(crate) fn show(
    reader: impl Read + Send,
    out: &mut (impl Write + IsTerminal),
    mut on_aux: impl FnMut(&Value),
) -> Result<()> {
    let mut screen = Screen { drawn: 0, board: Board::new(Instant::now()) };
    let (sender, receiver) = mpsc::sync_channel(64);
    thread::scope(|scope| {
        scope.spawn(move || {
            // Nobody hears what comes after a failure.
            let _ = documents(reader).try_for_each(|document| sender.send(document));
        });
        let mut drawn_at = Instant::now();
        loop {
            let document = match receiver.recv_timeout(TICK) {
                Ok(document) => document?,
                Err(RecvTimeoutError::Timeout) => {
                    screen.draw(out)?;
                    drawn_at = Instant::now();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return screen.draw(out);
                }
            };
            if let Some(failure) = progress::failure_of(&document) {
                screen.draw(out)?;
                screen.board.write_failed(out)?;
                return Err(failure);
            }
            match document.member("aux") {
                Some(aux) if screen.board.take(aux, Instant::now()) => {}
                Some(aux) => on_aux(aux),
                None => write!(out, "{}", document["stream"].text())?,
            }
            // What comes all at once is drawn once.
            if drawn_at.elapsed() >= TICK {
                screen.draw(out)?;
                drawn_at = Instant::now();
            }
        }
    })
}

/// What was drawn last is drawn over.
struct Screen {
    /// Lines.
    drawn: usize,
    board: Board,
}

impl Screen {
    fn draw(&mut self, out: &mut impl Write) -> Result<()> {
        if self.board.steps.is_empty() {
            return Ok(());
        }
        let (rows, columns) = terminal::size().unwrap_or((24, 80));
        let lines = self.board.lines(Instant::now(), rows.into(), columns.into());
        let mut text = match self.drawn {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}A\r"),
        };
        for line in &lines {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        if lines.len() < self.drawn {
            text.push_str("\x1b[J");
        }
        self.drawn = lines.len();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }
}

struct Board {
    began: Instant,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running(Instant),
    Cached,
    Done(Duration),
    Failed(Duration),
}

struct Step {
    name: String,
    state: State,
    /// The last lines that it wrote. Of the last of them the end may be still to come.
    written: VecDeque<String>,
}

impl Board {
    fn new(began: Instant) -> Self {
        Self { began, steps: Vec::new() }
    }

    /// False for what is about no step.
    fn take(&mut self, aux: &Value, now: Instant) -> bool {
        if let Some(steps) = aux.member("Steps") {
            self.steps = steps.items().iter().map(Step::new).collect();
            return true;
        }
        let Some(number) = aux.member("Step") else { return false };
        let Some(step) =
            usize::try_from(number.integer()).ok().and_then(|at| self.steps.get_mut(at))
        else {
            return true;
        };
        step.write(aux["Output"].text());
        let took = match step.state {
            State::Running(since) => now.saturating_duration_since(since),
            State::Waiting | State::Cached | State::Done(_) | State::Failed(_) => Duration::ZERO,
        };
        step.state = match aux["State"].text() {
            "started" => State::Running(now),
            "cached" => State::Cached,
            // What was there already is done as well.
            "done" if step.state != State::Cached => State::Done(took),
            "failed" => State::Failed(took),
            _ => step.state,
        };
        true
    }

    /// For a terminal of this size: no more than fit on it, and of those rather what goes on than what is over.
    fn lines(&self, now: Instant, rows: usize, columns: usize) -> Vec<String> {
        // One that reaches the margin may be wrapped.
        let columns = columns.saturating_sub(1);
        let over = self.steps.iter().filter(|it| it.is_over()).count();
        let count = self.steps.len();
        let took = seconds(now.saturating_duration_since(self.began));
        let is_over = over == count;
        let head = format!(
            "[+] Building {took} ({over}/{count}){}",
            if is_over { " FINISHED" } else { "" }
        );
        let mut lines = vec![cut(&head, columns)];
        // The cursor's own line, too.
        let room = rows.saturating_sub(lines.len() + 1);
        let begun = self.steps.iter().filter(|it| it.state != State::Waiting);
        let going = begun.clone().filter(|it| !it.is_over()).count();
        let mut to_skip = over.saturating_sub(room.saturating_sub(going));
        let shown = begun.filter(|it| {
            let is_skipped = it.is_over() && to_skip > 0;
            to_skip -= usize::from(is_skipped);
            !is_skipped
        });
        let shown: Vec<&Step> = shown.take(room).collect();
        let mut leaves = room - shown.len();
        for step in shown {
            lines.push(step.line(now, columns));
            if !step.is_over() {
                let last =
                    step.written.iter().rev().filter(|it| !it.is_empty()).take(SHOWN.min(leaves));
                let last: Vec<&String> = last.collect();
                leaves -= last.len();
                let shown = last.into_iter().rev();
                lines.extend(
                    shown.map(|it| {
                        format!("{DIM}{}{PLAIN}", cut(&format!(" => => # {it}"), columns))
                    }),
                );
            }
        }
        lines
    }

    /// All that is kept of what failed.
    fn write_failed(&self, out: &mut impl Write) -> Result<()> {
        for step in self.steps.iter().filter(|it| matches!(it.state, State::Failed(_))) {
            writeln!(out, "------\n > {}:", step.name)?;
            for line in &step.written {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "------")?;
        }
        Ok(())
    }
}

impl Step {
    fn new(described: &Value) -> Self {
        let text = plain(described["Text"].text());
        let place = match (described["Stage"].text(), described["Number"].integer()) {
            ("", 0) => String::new(),
            (stage, 0) => format!("[{stage}] "),
            ("", number) => format!("[{number}/{}] ", described["Count"].integer()),
            (stage, number) => format!("[{stage} {number}/{}] ", described["Count"].integer()),
        };
        Self { name: format!("{place}{text}"), state: State::Waiting, written: VecDeque::new() }
    }

    fn is_over(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Running(_))
    }

    fn write(&mut self, text: &str) {
        for (at, piece) in text.split('\n').enumerate() {
            if at > 0 || self.written.is_empty() {
                self.written.push_back(String::new());
            }
            if let Some(line) = self.written.back_mut() {
                // A line that is written over is what stands there last.
                let piece = piece.strip_suffix('\r').unwrap_or(piece);
                if let Some((_, last)) = piece.rsplit_once('\r') {
                    *line = plain(last);
                } else {
                    line.push_str(&plain(piece));
                }
            }
        }
        while self.written.len() > KEPT {
            self.written.pop_front();
        }
    }

    fn line(&self, now: Instant, columns: usize) -> String {
        let (color, mark, took) = match self.state {
            State::Waiting => ("", "", None),
            State::Running(since) => ("", "", Some(now.saturating_duration_since(since))),
            State::Cached => (BLUE, "CACHED ", None),
            State::Done(took) => (BLUE, "", Some(took)),
            State::Failed(took) => (RED, "ERROR ", Some(took)),
        };
        let took = took.map(seconds).unwrap_or_default();
        let room = columns.saturating_sub(took.len());
        let text = cut(&format!(" => {mark}{}", self.name), room);
        let gap = room.saturating_sub(text.chars().count());
        format!("{color}{text}{}{took}{PLAIN}", " ".repeat(gap))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// One line without what moves the cursor or colours it.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            // A control sequence ends with a letter (ECMA-48).
            '\x1b' => {
                if chars.next() == Some('[') {
                    let _ = chars.by_ref().find(|it| ('@'..='~').contains(it));
                }
            }
            '\t' | '\n' => plain.push(' '),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// No wider than there is room for.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::parse(text.as_bytes()).unwrap()
    }

    /// A board after these records, which come a second after each other, and the time then.
    fn board(records: &[&str]) -> (Board, Instant) {
        let began = Instant::now();
        let mut board = Board::new(began);
        let mut now = began;
        for record in records {
            now += Duration::from_secs(1);
            assert!(board.take(&value(record), now), "{record}");
        }
        (board, now)
    }

    const STEPS: &str = r#"{"Steps": [
        {"Text": "FROM busybox", "Stage": "base", "Number": 1, "Count": 2},
        {"Text": "RUN make", "Stage": "base", "Number": 2, "Count": 2},
        {"Text": "COPY --from=base a b", "Stage": "", "Number": 2, "Count": 2},
        {"Text": "ENV a=b", "Stage": ""}]}"#;

    fn drawn((board, now): &(Board, Instant), rows: usize, columns: usize) -> Vec<String> {
        board.lines(*now, rows, columns).iter().map(|it| plain(it)).collect()
    }

    #[test]
    fn what_goes_on_is_shown_with_its_last_lines() {
        let board = board(&[
            STEPS,
            r#"{"Step": 0, "State": "started"}"#,
            r#"{"Step": 0, "State": "cached"}"#,
            r#"{"Step": 0, "State": "done"}"#,
            r#"{"Step": 1, "State": "started"}"#,
            r#"{"Step": 1, "Output": "one\ntw"}"#,
            r#"{"Step": 1, "Output": "o\n\u001b[31mred\u001b[0m\r\n10%\r20%"}"#,
        ]);
        assert_eq!(
            drawn(&board, 24, 40),
            [
                "[+] Building 7.0s (1/4)",
                " => CACHED [base 1/2] FROM busybox     ",
                " => [base 2/2] RUN make            2.0s",
                " => => # one",
                " => => # two",
                " => => # red",
                " => => # 20%",
            ]
        );
    }

    #[test]
    fn a_small_terminal_shows_rather_what_goes_on() {
        let board = board(&[
            STEPS,
            r#"{"Step": 0, "State": "started"}"#,
            r#"{"Step": 0, "State": "done"}"#,
            r#"{"Step": 1, "State": "started"}"#,
            r#"{"Step": 1, "Output": "one\ntwo\n"}"#,
            r#"{"Step": 3, "State": "started"}"#,
            r#"{"Step": 3, "State": "done"}"#,
        ]);
        let lines = drawn(&board, 4, 24);
        assert_eq!(
            lines,
            ["[+] Building 7.0s (2/4)", " => [base 2/2] RUN…3.0s", " => ENV a=b        1.0s"]
        );
        assert_eq!(drawn(&board, 3, 80).len(), 2);
        assert!(drawn(&board, 0, 0).len() < 2);
    }

    #[test]
    fn a_failure_has_what_was_written() {
        let (board, now) = board(&[
            STEPS,
            r#"{"Step": 1, "State": "started"}"#,
            r#"{"Step": 1, "Output": "no rule\n"}"#,
            r#"{"Step": 1, "State": "failed"}"#,
        ]);
        let lines = board.lines(now, 24, 80);
        assert!(lines.last().unwrap().contains("ERROR [base 2/2] RUN make"), "{lines:?}");
        let mut out = Vec::new();
        board.write_failed(&mut out).unwrap();
        assert_eq!(out, b"------\n > [base 2/2] RUN make:\nno rule\n\n------\n");
    }

    #[test]
    fn other_records_are_about_no_step() {
        let mut board = Board::new(Instant::now());
        assert!(!board.take(&value(r#"{"ID": "sha256:1"}"#), Instant::now()));
        assert!(board.take(&value(r#"{"Step": 9, "State": "done"}"#), Instant::now()));
    }
}
