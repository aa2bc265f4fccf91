//! `logs`.

use std::io::{self, Write};

use clap::Args;

use crate::Cais;
use crate::attached::copy_frames;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::units;

/// Fetch the logs of a container
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, default_value = "")]
    since: String,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, default_value = "")]
    until: String,
    container: String,
}

impl Logs {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let container = cais.client.read(Path::new(&["containers", &self.container, "json"]))?;
        let path = Path::new(&["containers", container["Id"].text(), "logs"])
            .with("stdout", "1")
            .with("stderr", "1")
            .with_flag("details", self.details)
            .with_flag("follow", self.follow)
            .with_flag("timestamps", self.timestamps)
            .with_text("since", &point("since", &self.since)?)
            .with_text("until", &point("until", &self.until)?)
            .with("tail", &self.tail);
        let mut reply = cais.client.get(path)?;
        if container["Config"]["Tty"].is_true() {
            let mut out = io::stdout().lock();
            io::copy(&mut reply.body, &mut out)?;
            out.flush()?;
        } else {
            copy_frames(&mut reply.body)?;
        }
        Ok(())
    }
}

/// A time in a flag as the daemon reads it.
pub(crate) fn point(flag: &str, text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    units::point_in_time(text)
        .map_err(|it| Failure::new(format!("invalid value for {flag:?}: {it}")))
}
