//! `exec`.

use std::io::{self, IsTerminal};

use clap::Args;
use serde_json::json;

use super::run::ended;
use crate::Cais;
use crate::attached::{self, Blocked, End, Streams, Target};
use crate::client::Path;
use crate::create::{Members, values};
use crate::error::{Failure, Result};
use crate::terminal;

/// Execute a command in a running container
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    pub(crate) detach_keys: String,
    /// Set environment variables
    #[arg(short, long)]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long)]
    pub(crate) env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, default_value = "")]
    pub(crate) user: String,
    /// Working directory inside the container
    #[arg(short, long, default_value = "")]
    pub(crate) workdir: String,
    /// Everything behind the container belongs to the command
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    pub(crate) words: Vec<String>,
}

impl Exec {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let [name, command @ ..] = self.words.as_slice() else {
            return Err(Failure::new("a container is needed"));
        };
        if self.interactive && self.tty && !self.detach && !io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let keys = cais.detach_keys(&self.detach_keys)?;
        let blocked = Blocked::block(self.tty && !self.detach && io::stdout().is_terminal(), false);
        let body = self.body(command)?;
        let made = cais.client.post_json(Path::new(&["containers", name, "exec"]), &body)?;
        let id = made["Id"].text();
        let start = Path::new(&["exec", id, "start"]);
        if self.detach {
            cais.client.post_json(start, &json!({ "Detach": true, "Tty": self.tty }))?;
            return Ok(());
        }
        let mut body = json!({ "Detach": false, "Tty": self.tty });
        if let (true, Some((rows, columns))) = (self.tty, terminal::size()) {
            body["ConsoleSize"] = json!([rows, columns]);
        }
        let connection = cais.client.upgrade(start, Some(&body))?;
        blocked.serve(&cais.client, Target::Exec(id.to_owned()));
        let streams = Streams { takes_stdin: self.interactive, is_terminal: self.tty, keys };
        match attached::copy(connection, streams)? {
            End::Detached => Err(Failure::new("read escape sequence")),
            End::Closed => {
                let state = cais.client.read(Path::new(&["exec", id, "json"]))?;
                ended(state["ExitCode"].integer())
            }
        }
    }

    fn body(&self, command: &[String]) -> Result<serde_json::Value> {
        let mut body = Members::default();
        body.set("Cmd", command.to_vec());
        body.set("Tty", self.tty);
        body.set("Privileged", self.privileged);
        body.set("User", self.user.as_str());
        body.set("WorkingDir", self.workdir.as_str());
        body.set("DetachKeys", self.detach_keys.as_str());
        body.set("Env", values::environment(&self.env, &self.env_file).map_err(Failure::new)?);
        body.set("AttachStdin", self.interactive && !self.detach);
        body.set("AttachStdout", !self.detach);
        body.set("AttachStderr", !self.detach);
        if let (true, Some((rows, columns))) = (self.tty, terminal::size()) {
            body.set("ConsoleSize", json!([rows, columns]));
        }
        Ok(body.into_value())
    }
}
