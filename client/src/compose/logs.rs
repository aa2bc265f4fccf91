//! `compose logs`: the lines of several containers, each with the name of its own before it.

use std::io::{self, Read};
use std::thread;

use clap::Args;

use super::lines::{Look, Voice, Voices};
use super::{Files, others};
use crate::Cais;
use crate::attached::copy_to;
use crate::client::{Client, Path};
use crate::commands::logs::point;
use crate::error::{Failure, Result};

/// View output from containers
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value = "0", hide_default_value = true)]
    index: i64,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, default_value = "", hide_default_value = true)]
    since: String,
    /// Number of lines to show from the end of the logs for each container
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, default_value = "", hide_default_value = true)]
    until: String,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Logs {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let since = point("since", &self.since)?;
        let until = point("until", &self.until)?;
        let mut containers = others::chosen(cais, files, &self.service)?;
        containers.retain(|it| self.index == 0 || it.number == self.index);
        let look = Look::new(self.no_log_prefix, self.no_color);
        let mut voices = Voices::new(look, containers.iter().map(|it| it.short_name()));
        let mut outcomes = Vec::new();
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for container in &containers {
                let voice = voices.voice(container.short_name());
                let path = Path::new(&["containers", &container.id, "logs"])
                    .with("stdout", "1")
                    .with("stderr", "1")
                    .with_flag("follow", self.follow)
                    .with_flag("timestamps", self.timestamps)
                    .with_text("since", &since)
                    .with_text("until", &until)
                    .with("tail", &self.tail);
                readers.push(scope.spawn(move || {
                    let has_tty = has_tty(&cais.client, &container.id)?;
                    copy(cais.client.get(path)?.body, !has_tty, &voice)
                }));
            }
            outcomes.extend(readers.into_iter().map(|it| it.join().unwrap_or(Ok(()))));
        });
        outcomes.into_iter().collect()
    }
}

/// Whether a container's output is one stream, without frames.
fn has_tty(client: &Client, id: &str) -> Result<bool> {
    let shown = client.read(Path::new(&["containers", id, "json"]))?;
    Ok(shown["Config"]["Tty"].is_true())
}

/// Writes what a container has to say, to the end.
pub(super) fn copy(mut reader: impl Read, has_frames: bool, voice: &Voice) -> Result<()> {
    let (mut out, mut err) = (voice.lines(io::stdout()), voice.lines(io::stderr()));
    let copied = if has_frames {
        copy_to(&mut reader, &mut out, &mut err)
    } else {
        io::copy(&mut reader, &mut out).map(drop)
    };
    copied.and_then(|()| out.end()).and_then(|()| err.end()).map_err(Failure::from)
}
