//! Verbs that move containers through their life: stop, restart, kill, rm, pause, unpause, wait, rename.

use clap::Args;

use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result, each};

/// Stop one or more running containers
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Signal to send to the container
    #[arg(short, long, default_value = "")]
    signal: String,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time")]
    timeout: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Stop {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        self.call(cais, "stop")
    }

    fn call(&self, cais: &Cais, verb: &str) -> Result<()> {
        each(&self.containers, |name| {
            let mut path = Path::new(&["containers", name, verb]).with_text("signal", &self.signal);
            if let Some(timeout) = self.timeout {
                path = path.with("t", &timeout.to_string());
            }
            cais.client.post(path)?;
            Ok(name.to_owned())
        })
    }
}

/// Restart one or more containers
#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    stop: Stop,
}

impl Restart {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        self.stop.call(cais, "restart")
    }
}

/// Kill one or more running containers
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Signal to send to the container
    #[arg(short, long, default_value = "")]
    signal: String,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Kill {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        each(&self.containers, |name| {
            let path = Path::new(&["containers", name, "kill"]).with_text("signal", &self.signal);
            cais.client.post(path)?;
            Ok(name.to_owned())
        })
    }
}

/// Remove one or more containers
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        each(&self.containers, |name| {
            let name = name.trim_matches('/');
            if name.is_empty() {
                return Err(Failure::new("Container name cannot be empty"));
            }
            let path = Path::new(&["containers", name])
                .with_flag("v", self.volumes)
                .with_flag("link", self.link)
                .with_flag("force", self.force);
            match cais.client.delete(path) {
                Ok(_) => Ok(name.to_owned()),
                // What is to go is gone.
                Err(failure) if self.force && failure.is_not_found() => {
                    crate::output::notice(&failure.message);
                    Ok(String::new())
                }
                Err(failure) => Err(failure),
            }
        })
    }
}

/// Pause or unpause all processes within one or more containers
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Pause {
    /// `pause` or `unpause`.
    pub(crate) fn run(&self, cais: &Cais, verb: &str) -> Result<()> {
        each(&self.containers, |name| {
            cais.client.post(Path::new(&["containers", name, verb]))?;
            Ok(name.to_owned())
        })
    }
}

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Wait {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        each(&self.containers, |name| {
            let waiting = Waiting::begin(cais, name, "")?;
            waiting.status().map(|status| status.to_string())
        })
    }
}

/// A wait that the daemon has taken note of. What ends from now on is not missed.
pub(crate) struct Waiting(crate::http::Response);

impl Waiting {
    /// # Errors
    /// What the daemon says.
    pub(crate) fn begin(cais: &Cais, name: &str, condition: &str) -> Result<Self> {
        let path = Path::new(&["containers", name, "wait"]).with_text("condition", condition);
        cais.client.call("POST", path, crate::http::Payload::None, Vec::new()).map(Self)
    }

    /// The exit code, once there is one.
    pub(crate) fn status(self) -> Result<i64> {
        let reply = crate::json::Value::parse(&self.0.bytes()?)?;
        let error = reply["Error"]["Message"].text();
        if error.is_empty() {
            Ok(reply["StatusCode"].integer())
        } else {
            Err(Failure::new(error).with_code(125))
        }
    }
}

/// Rename a container
#[derive(Debug, Args)]
pub(crate) struct Rename {
    container: String,
    new_name: String,
}

impl Rename {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let (old, new) = (self.container.trim(), self.new_name.trim());
        if old.is_empty() || new.is_empty() {
            return Err(Failure::new("Error: Neither old nor new names may be empty"));
        }
        let path = Path::new(&["containers", old, "rename"]).with("name", new);
        cais.client.post(path).map_err(|it| Failure {
            message: format!("{}\nError: failed to rename container named {old}", it.message),
            ..it
        })
    }
}
