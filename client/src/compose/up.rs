//! `compose up` and `create`: what the files say is made so, in the background or with its output here.

use clap::Args;

use super::converge::Act;
use super::foreground::{Attaching, Foreground};
use super::making::Making;
use super::{Files, api_socket, rolling, watch};
use crate::Cais;
use crate::error::{Failure, Result};

/// Create and start containers
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags, and one more")]
pub(super) struct Up {
    #[command(flatten)]
    attaching: Attaching,
    /// Detached mode: Run containers in the background
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    making: Making,
    /// Shortcuts while attached: there are none, and only --menu=false is taken
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    menu: Option<bool>,
    /// Don't start the services after creating them
    #[arg(long)]
    no_start: bool,
    /// Wait for services to be running|healthy. Implies detached mode.
    #[arg(long)]
    wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long)]
    wait_timeout: Option<u64>,
    /// Replace running containers one by one, each once its successor is healthy. Implies detached mode.
    #[arg(long, conflicts_with = "no_start")]
    rolling: bool,
    /// Watch source code and rebuild/refresh containers when files are updated
    #[arg(short, long, conflicts_with_all = ["detach", "no_start", "rolling", "wait"])]
    watch: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Up {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let is_dry = cais.client.is_dry();
        if is_dry && (self.rolling || self.watch) {
            let flag = if self.rolling { "--rolling" } else { "--watch" };
            return Err(Failure::new(format!(
                "--dry-run: cais compose up {flag} cannot tell what it would do"
            )));
        }
        let is_detached = self.detach || self.wait || self.rolling;
        if is_detached && self.attaching.is_asked_for() {
            let flag = match (self.rolling, self.wait) {
                (true, _) => "--rolling",
                (false, true) => "--wait",
                (false, false) => "--detach",
            };
            return Err(Failure::new(format!(
                "{flag} cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach or --attach-dependencies"
            )));
        }
        if self.menu == Some(true) {
            return Err(Failure::new(
                "--menu: cais compose has no shortcuts while attached; --watch watches",
            ));
        }
        let project = api_socket::project(cais, files, &self.service)?;
        if self.watch {
            watch::check(&project, &self.service)?;
        }
        let mut act = Act::new(cais, &project, &self.making, &self.service)?;
        if self.rolling {
            rolling::check(cais)?;
            act.is_rolling = true;
        }
        act.starts_nothing = self.no_start;
        let foreground = Foreground::new(&act, &self.attaching)?;
        act.make()?;
        if self.no_start {
            return act.start_again();
        }
        if !is_detached && !is_dry {
            let watch = || watch::follow_beside(cais, &project, &self.service);
            return foreground.run(self.watch.then_some(&watch));
        }
        act.start_all(&|| true)?;
        act.roll()?;
        if self.wait && !is_dry { act.wait_for_all(self.wait_timeout) } else { Ok(()) }
    }
}

/// Creates containers for a service
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    making: Making,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Create {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let project = api_socket::project(cais, files, &self.service)?;
        let mut act = Act::new(cais, &project, &self.making, &self.service)?;
        act.starts_nothing = true;
        act.make()?;
        act.start_again()
    }
}

/// Scale services
#[derive(Debug, Args)]
pub(super) struct Scale {
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    #[arg(required = true, value_name = "SERVICE=REPLICAS")]
    scale: Vec<String>,
}

impl Scale {
    pub(super) fn run(self, cais: &Cais, files: &Files) -> Result<()> {
        let service = |it: &String| it.split('=').next().unwrap_or_default().to_owned();
        let services: Vec<String> = self.scale.iter().map(service).collect();
        let making = Making { no_deps: self.no_deps, scale: self.scale, ..Making::default() };
        let project = api_socket::project(cais, files, &services)?;
        let act = Act::new(cais, &project, &making, &services)?;
        act.make()?;
        act.start_all(&|| true)
    }
}
