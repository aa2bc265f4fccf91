//! RUN as a step.

use std::sync::Arc;

use cais_dockerfile::instruction::{Network, Run, Security};
use cais_dockerfile::{PROXIES, Source};
use tokio::sync::mpsc;

use super::Options;
use super::blocking;
use super::key::Key;
use super::mounts::{Lent, Mounts};
use super::plan::runs_here;
use super::progress::{Failure, Progress};
use super::stage::{Stage, words};
use super::stubs::Stubs;
use crate::engine::cells::{Cell, CellNetwork, Confinement, Output, Run as Command};
use crate::engine::container::phase::End;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{Site, StackedLayer};

/// What a command wrote and nobody has read yet.
const BACKLOG: usize = 64;

impl Stage {
    pub(super) async fn run(
        &mut self,
        run: &Run,
        sources: &[Source],
        created_by: &str,
    ) -> Result<(), Failure> {
        // One of a trigger was not seen before.
        runs_here(&self.platform)?;
        let confinement = confinement(run, &self.build.options)?;
        let mut mounts = Mounts::read(self, run, sources).await?;
        let (command, script) = self.command(run);
        let (own, proxies) = self.variables();
        let key = Key::new("run")
            .with("below", self.key.hex())
            .with_all("command", &command)
            .with("script", script.as_deref().unwrap_or_default())
            .with_all("env", &own)
            .with("user", self.settings.user())
            .with("working dir", self.settings.working_dir())
            .with("network", format!("{:?}", confinement.network))
            .with(
                "mounts",
                mounts.key(self.build.store(), &self.build.builder.contents).await?.hex(),
            );
        // What a sandboxed command makes is the same with and without users of its own.
        let key = match confinement.is_privileged {
            true => key.with("security", "insecure").finish(),
            false => key.finish(),
        };
        let layer = match self.find(&key).await {
            Some(layer) => layer,
            None => {
                // A layer that is there needs no secret.
                let lent = mounts.lent(self, &own).await?;
                let env = [own, proxies, lent.variables.clone()].concat();
                let mounts = (mounts, lent);
                let layer = self.execute(confinement, mounts, (&command, script, env)).await?;
                self.keep(&key, &layer, created_by);
                layer
            }
        };
        self.take(key, layer, created_by);
        Ok(())
    }

    /// The words of the command, and the text of a script that one of them names.
    fn command(&self, run: &Run) -> (Vec<String>, Option<String>) {
        if let Some(script) = run.script() {
            if script.starts_with("#!") {
                return (vec![super::mounts::SCRIPT.to_owned()], Some(script));
            }
            return ([self.settings.shell(), vec![script]].concat(), None);
        }
        if run.heredocs.is_empty() || !run.command.is_shell {
            return (words(&self.settings, &run.command), None);
        }
        ([self.settings.shell(), vec![run.command_with_heredocs()]].concat(), None)
    }

    /// Of the command: the stage's variables, and the proxies that the client has and the Dockerfile
    /// does not mention. The latter are no part of what a layer is made from.
    fn variables(&self) -> (Vec<String>, Vec<String>) {
        let own = self.scope.env.pairs();
        let line = |name: &str, value: &str| format!("{name}={value}");
        let is_own = |name: &str| own.iter().any(|(own, _)| *own == name);
        let given = PROXIES.into_iter().filter(|name| !is_own(name));
        let proxies = given
            .filter_map(|name| Some(line(name, self.build.plan.build_args.get(name)?)))
            .collect();
        (own.iter().map(|(name, value)| line(name, value)).collect(), proxies)
    }

    async fn execute(
        &mut self,
        confinement: Confinement,
        (mounts, lent): (Mounts, Lent),
        (command, script, env): (&[String], Option<String>, Vec<String>),
    ) -> Result<StackedLayer, Failure> {
        let cell = self.cell(confinement).await?;
        let users = cell.users();
        let latest = self.build.latest;
        let site = self.build.store().begin_site(&self.stack, latest, users.as_deref())?;
        let mut opened = mounts.open(self, lent, users).await?;
        if let Some(script) = script {
            opened.add_script(self.build.store(), &script)?;
        }
        let stubs = Stubs::before(site.mount(), opened.targets())?;
        let run = Command {
            rootfs: site.mount().try_clone_to_owned().context("pass the files on")?,
            mounts: opened.take(),
            command: command.to_vec(),
            env,
            working_dir: self.settings.working_dir(),
            user: self.settings.user(),
        };
        let ended = self.in_cell(&cell, run).await;
        drop(opened);
        stubs.remove()?;
        if self.build.cancel.is_cancelled() {
            return Err(Failure::cancelled());
        }
        done(&ended?, command, site).await
    }

    async fn in_cell(&self, cell: &Cell, run: Command) -> Result<End> {
        let (output, mut written) = mpsc::channel::<Output>(BACKLOG);
        self.tell(Progress::Running(crate::id::random_hex()?)).await;
        let running = async {
            let output = output;
            Box::pin(cell.run(run, &output, &self.build.cancel)).await
        };
        let telling = async {
            while let Some(piece) = written.recv().await {
                self.tell(Progress::Output(piece)).await;
            }
        };
        let (ended, ()) = tokio::join!(running, telling);
        ended
    }

    /// The stage's own; commands of one stage are in one.
    async fn cell(&mut self, confinement: Confinement) -> Result<Arc<Cell>> {
        if let Some(cell) = self.cells.get(&confinement) {
            return Ok(cell.clone());
        }
        let cell = self.build.open_cell(confinement).await?;
        self.cells.insert(confinement, cell.clone());
        Ok(cell)
    }
}

async fn done(end: &End, command: &[String], site: Site) -> Result<StackedLayer, Failure> {
    if end.code == 0 {
        return Ok(blocking(move || site.finish()).await?);
    }
    let (command, code) = (command.join(" "), end.code);
    let text = format!("The command '{command}' returned a non-zero code: {code}");
    let error = Error::new(Kind::InvalidArgument, text);
    Err(Failure { code: Some(code), command, ..error.into() })
}

/// What the command asks for, where the build allows it.
fn confinement(run: &Run, options: &Options) -> Result<Confinement> {
    let is_privileged = run.security == Security::Insecure;
    if is_privileged && !options.allows_insecure {
        return Err(Error::new(Kind::Forbidden, "security.insecure is not allowed"));
    }
    Ok(Confinement { network: network(run, options.network)?, is_privileged })
}

/// A command may have less than the build, and not more.
fn network(run: &Run, of_build: CellNetwork) -> Result<CellNetwork> {
    let not_allowed = |what: &str| {
        Err(Error::new(
            Kind::Forbidden,
            format!("granting entitlement {what} is not allowed by build daemon configuration"),
        ))
    };
    if let Some(device) = run.devices.first() {
        let name = &device.name;
        let text = format!("RUN --device={name} is not supported yet");
        return Err(Error::new(Kind::Unsupported, text));
    }
    match (run.network, of_build) {
        (Network::Default, of_build) => Ok(of_build),
        (Network::None, _) => Ok(CellNetwork::None),
        (Network::Host, CellNetwork::Host) => Ok(CellNetwork::Host),
        (Network::Host, CellNetwork::Default | CellNetwork::None) => not_allowed("network.host"),
    }
}
