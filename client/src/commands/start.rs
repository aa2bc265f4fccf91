//! `start` and `attach`.

use std::io::{self, IsTerminal};

use clap::Args;

use super::lifecycle::Waiting;
use super::run::ended;
use crate::Cais;
use crate::attached::{self, Blocked, End, Streams, Target};
use crate::client::Path;
use crate::create::Attached;
use crate::error::{Failure, Result};
use crate::output;

/// Start one or more stopped containers
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    pub(crate) detach_keys: String,
    /// Attach container's STDIN
    #[arg(short, long)]
    pub(crate) interactive: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

impl Start {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        if !self.attach && !self.interactive {
            return self.start_all(cais);
        }
        let [name] = self.containers.as_slice() else {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        };
        let container = cais.client.read(Path::new(&["containers", name, "json"]))?;
        let (id, config) = (container["Id"].text(), &container["Config"]);
        let is_terminal = config["Tty"].is_true();
        let takes_stdin = self.interactive && config["OpenStdin"].is_true();
        let keys = cais.detach_keys(&self.detach_keys)?;
        let blocked = Blocked::block(is_terminal && io::stdout().is_terminal(), !is_terminal);
        let attached = Attached { stdin: takes_stdin, stdout: true, stderr: true };
        let connection = cais.client.upgrade(attached.path(id, &self.detach_keys), None)?;
        let removes = container["HostConfig"]["AutoRemove"].is_true();
        let waiting = Waiting::begin(cais, id, if removes { "removed" } else { "next-exit" })?;
        cais.client.post(Path::new(&["containers", id, "start"]))?;
        blocked.serve(&cais.client, Target::Container(id.to_owned()));
        match attached::copy(connection, Streams { takes_stdin, is_terminal, keys })? {
            End::Detached => Ok(()),
            End::Closed => ended(waiting.status()?),
        }
    }

    fn start_all(&self, cais: &Cais) -> Result<()> {
        let mut failed = Vec::new();
        for name in &self.containers {
            match cais.client.post(Path::new(&["containers", name, "start"])) {
                Ok(()) => output::line(name)?,
                Err(failure) => {
                    output::notice(&failure.message);
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("Error: failed to start containers: {}", failed.join(", "))))
    }
}

/// Attach local standard input, output, and error streams to a running container
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    pub(crate) detach_keys: String,
    /// Do not attach STDIN
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, default_value = "true")]
    pub(crate) sig_proxy: bool,
    pub(crate) container: String,
}

impl Attach {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let name = self.container.as_str();
        // Asked for first: the process may end before the streams are here.
        let waiting = Waiting::begin(cais, name, "")?;
        let container = cais.client.read(Path::new(&["containers", name, "json"]))?;
        let state = &container["State"];
        if !state["Running"].is_true() {
            return Err(Failure::new("You cannot attach to a stopped container, start it first"));
        }
        if state["Paused"].is_true() {
            return Err(Failure::new("You cannot attach to a paused container, unpause it first"));
        }
        if state["Restarting"].is_true() {
            return Err(Failure::new(
                "You cannot attach to a restarting container, wait until it is running",
            ));
        }
        let config = &container["Config"];
        let is_terminal = config["Tty"].is_true();
        let takes_stdin = !self.no_stdin && config["OpenStdin"].is_true();
        if takes_stdin && is_terminal && !io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let keys = cais.detach_keys(&self.detach_keys)?;
        let blocked = Blocked::block(
            is_terminal && io::stdout().is_terminal(),
            self.sig_proxy && !is_terminal,
        );
        let attached = Attached { stdin: takes_stdin, stdout: true, stderr: true };
        let connection = cais.client.upgrade(attached.path(name, &self.detach_keys), None)?;
        blocked.serve(&cais.client, Target::Container(container["Id"].text().to_owned()));
        match attached::copy(connection, Streams { takes_stdin, is_terminal, keys })? {
            End::Detached => Err(Failure::new("read escape sequence")),
            End::Closed => ended(waiting.status()?),
        }
    }
}
