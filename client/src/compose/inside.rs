//! `compose exec`, `attach`, `cp` and `port`: verbs of one container, found by its service.

use std::io::{self, IsTerminal};

use clap::Args;

use super::{Files, others};
use crate::Cais;
use crate::commands::{archive, commit, cp, exec, ports, start};
use crate::error::{Failure, Result};

/// Execute a command in a running container
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Exec {
    /// Detached mode: Run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Set environment variables
    #[arg(short, long)]
    env: Vec<String>,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value = "0", hide_default_value = true)]
    index: i64,
    /// Disable pseudo-TTY allocation. By default a TTY is allocated on a terminal.
    #[arg(short = 'T', long = "no-tty", alias = "no-TTY")]
    no_tty: bool,
    /// Give extended privileges to the process
    #[arg(long)]
    privileged: bool,
    /// Run the command as this user
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Path to workdir directory for this command
    #[arg(short, long, default_value = "", hide_default_value = true)]
    workdir: String,
    /// Standard input and a terminal are there by default
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["SERVICE", "COMMAND"])]
    words: Vec<String>,
}

impl Exec {
    pub(super) fn run(self, cais: &Cais, files: &Files) -> Result<()> {
        let mut words = self.words;
        let Some(service) = words.first_mut() else {
            return Err(Failure::new("a service is needed"));
        };
        *service = container(cais, files, service, self.index)?;
        let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        exec::Exec {
            detach: self.detach,
            detach_keys: String::new(),
            env: self.env,
            env_file: Vec::new(),
            interactive: !self.detach,
            privileged: self.privileged,
            tty: is_terminal && !self.no_tty,
            user: self.user,
            workdir: self.workdir,
            words,
        }
        .run(cais)
    }
}

/// Print the public port for a port binding
#[derive(Debug, Args)]
pub(super) struct Port {
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value = "0", hide_default_value = true)]
    index: i64,
    /// tcp or udp
    #[arg(long, default_value = "tcp")]
    protocol: String,
    service: String,
    #[arg(value_name = "PRIVATE_PORT")]
    port: String,
}

impl Port {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let container = container(cais, files, &self.service, self.index)?;
        let port = Some(format!("{}/{}", self.port, self.protocol));
        ports::PortOf { container, port }.run(cais)
    }
}

/// Create a new image from a service container's changes
#[derive(Debug, Args)]
#[group(id = "commit-of-service")]
pub(super) struct Commit {
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value = "0", hide_default_value = true)]
    index: i64,
    /// The service, and the image's name
    #[command(flatten)]
    commit: commit::Commit,
}

impl Commit {
    pub(super) fn run(mut self, cais: &Cais, files: &Files) -> Result<()> {
        self.commit.container = container(cais, files, &self.commit.container, self.index)?;
        self.commit.run(cais)
    }
}

/// Export a service container's filesystem as a tar archive
#[derive(Debug, Args)]
#[group(id = "export-of-service")]
pub(super) struct Export {
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value = "0", hide_default_value = true)]
    index: i64,
    #[command(flatten)]
    export: archive::Export,
}

impl Export {
    pub(super) fn run(mut self, cais: &Cais, files: &Files) -> Result<()> {
        self.export.container = container(cais, files, &self.export.container, self.index)?;
        self.export.run(cais)
    }
}

/// Attach local standard input, output, and error streams to a service's running container
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// Override the key sequence for detaching from a container.
    #[arg(long, default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value = "0", hide_default_value = true)]
    index: i64,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    service: String,
}

impl Attach {
    pub(super) fn run(self, cais: &Cais, files: &Files) -> Result<()> {
        start::Attach {
            container: container(cais, files, &self.service, self.index)?,
            detach_keys: self.detach_keys,
            no_stdin: self.no_stdin,
            sig_proxy: self.sig_proxy,
        }
        .run(cais)
    }
}

/// Copy files/folders between a service container and the local filesystem
#[derive(Debug, Args)]
pub(super) struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value = "0", hide_default_value = true)]
    index: i64,
    /// SERVICE:PATH, a path, or '-' for an archive on standard input
    #[arg(value_name = "SRC_PATH")]
    source: String,
    /// SERVICE:PATH, a path, or '-' for an archive on standard output
    #[arg(value_name = "DEST_PATH")]
    target: String,
}

impl Cp {
    pub(super) fn run(self, cais: &Cais, files: &Files) -> Result<()> {
        let (from, to) = (cp::inside(&self.source), cp::inside(&self.target));
        let service = match (from, to) {
            (Some(_), Some(_)) => {
                return Err(Failure::new("copying between services is not supported"));
            }
            (None, None) => return Err(Failure::new("unknown copy direction")),
            (Some((service, _)), None) | (None, Some((service, _))) => service.to_owned(),
        };
        let mut all = others::chosen(cais, files, std::slice::from_ref(&service))?;
        all.retain(|it| self.index == 0 || it.number == self.index);
        if all.is_empty() {
            return Err(Failure::new(format!("no container found for service {service:?}")));
        }
        // What comes from one of several comes from the first; what goes to them goes to all.
        if from.is_some() {
            all.truncate(1);
        }
        let of = |text: &str, id: &str| match cp::inside(text) {
            Some((_, path)) => format!("{id}:{path}"),
            None => text.to_owned(),
        };
        all.iter().try_for_each(|it| {
            cp::Cp {
                archive: self.archive,
                follow_link: self.follow_link,
                quiet: true,
                source: of(&self.source, &it.id),
                target: of(&self.target, &it.id),
            }
            .run(cais)
        })
    }
}

/// The running container of a service with this number, or the first.
fn container(cais: &Cais, files: &Files, service: &str, index: i64) -> Result<String> {
    let all = others::chosen(cais, files, &[service.to_owned()])?;
    let fits =
        |it: &&super::containers::Container| it.is_running() && (index == 0 || it.number == index);
    match all.iter().find(fits) {
        Some(container) => Ok(container.id.clone()),
        None => Err(Failure::new(format!("service {service:?} is not running"))),
    }
}
