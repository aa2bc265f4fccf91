//! `compose logs`: the lines of several containers, each with the name of its own before it.

use std::io::{self, Write};
use std::thread;

use clap::Args;

use super::containers::Container;
use super::{Files, others};
use crate::Cais;
use crate::attached::copy_to;
use crate::client::{Client, Path};
use crate::error::{Failure, Result};

/// View output from containers
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Number of lines to show from the end of the logs for each container
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Logs {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let containers = others::chosen(cais, files, &self.service)?;
        let short = |it: &Container| format!("{}-{}", it.service, it.number);
        let width = containers.iter().map(|it| short(it).len()).max().unwrap_or(0);
        let prefix = |it: &Container| match self.no_log_prefix {
            true => String::new(),
            false => format!("{:width$}  | ", short(it)),
        };
        let mut outcomes = Vec::new();
        thread::scope(|scope| {
            let readers: Vec<_> = containers
                .iter()
                .map(|it| scope.spawn(move || self.copy(&cais.client, it, &prefix(it))))
                .collect();
            outcomes.extend(readers.into_iter().map(|it| it.join().unwrap_or(Ok(()))));
        });
        outcomes.into_iter().collect()
    }

    fn copy(&self, client: &Client, container: &Container, prefix: &str) -> Result<()> {
        let path = |verb| Path::new(&["containers", &container.id, verb]);
        let shown = client.read(path("json"))?;
        let logs = path("logs")
            .with("stdout", "1")
            .with("stderr", "1")
            .with_flag("follow", self.follow)
            .with_flag("timestamps", self.timestamps)
            .with("tail", &self.tail);
        let mut reply = client.get(logs)?;
        let (mut out, mut err) =
            (Lines::new(prefix, io::stdout()), Lines::new(prefix, io::stderr()));
        let copied = if shown["Config"]["Tty"].is_true() {
            io::copy(&mut reply.body, &mut out).map(drop)
        } else {
            copy_to(&mut reply.body, &mut out, &mut err)
        };
        copied.and_then(|()| out.end()).and_then(|()| err.end()).map_err(Failure::from)
    }
}

/// Writes whole lines, so that those of several containers do not mix.
struct Lines<'a, W> {
    prefix: &'a str,
    line: Vec<u8>,
    out: W,
}

impl<'a, W: Write> Lines<'a, W> {
    fn new(prefix: &'a str, out: W) -> Self {
        Self { prefix, line: prefix.as_bytes().to_vec(), out }
    }

    /// A last line may have no end.
    fn end(&mut self) -> io::Result<()> {
        if self.line.len() > self.prefix.len() { self.write_all(b"\n") } else { Ok(()) }
    }
}

impl<W: Write> Write for Lines<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.out.write_all(&self.line)?;
                self.line.truncate(self.prefix.len());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_have_their_prefix() {
        let mut out = Vec::new();
        let mut lines = Lines::new("a-1  | ", &mut out);
        lines.write_all(b"one\ntw").unwrap();
        lines.write_all(b"o\n\nlast").unwrap();
        lines.end().unwrap();
        lines.end().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a-1  | one\na-1  | two\na-1  | \na-1  | last\n"
        );
    }
}
