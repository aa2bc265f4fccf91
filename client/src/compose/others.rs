//! Verbs about containers that are there: down, ps, ls, start, stop and their like. They need labels, not files.

use std::collections::{BTreeMap, BTreeSet};

use cais_compose::Project;

use clap::{ArgAction, Args, ValueEnum};

use super::containers::{self, Container, at_once};
use super::{Files, hooks, labels, resources};
use crate::Cais;
use crate::client::Path;
use crate::commands::ports;
use crate::error::{Failure, Result};
use crate::output;
use crate::table;
use crate::units;

/// Stop and remove containers, networks
#[derive(Debug, Args)]
pub(super) struct Down {
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Remove images used by services. "local" remove only images that don't have a custom tag ("local"|"all")
    #[arg(long)]
    rmi: Option<String>,
    /// Specify a shutdown timeout in seconds
    #[arg(short, long)]
    timeout: Option<i64>,
    /// Remove named volumes declared in the "volumes" section of the Compose file and anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
}

impl Down {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        if let Some(rmi) = self.rmi.as_deref().filter(|it| !matches!(*it, "local" | "all")) {
            return Err(Failure::new(format!("invalid value for --rmi: {rmi:?}")));
        }
        let (name, project) = files.named()?;
        let mut all = containers::all_of_project(cais, &name)?;
        if let Some(project) = project.as_ref().filter(|_| !self.remove_orphans) {
            all.retain(|it| {
                project
                    .service(&it.service)
                    .or_else(|| project.disabled_service(&it.service))
                    .is_some()
            });
        }
        let images = self.images(&name, project.as_ref(), &all);
        for group in backwards(all) {
            at_once(&group, |container| self.remove(cais, project.as_ref(), container))?;
        }
        resources::remove(cais, &name, project.as_ref(), self.volumes)?;
        for image in images {
            let word = match cais.client.delete(Path::new(&["images", &image])) {
                Ok(_) => "Removed",
                Err(failure) if failure.is_not_found() => continue,
                Err(failure) if failure.status == Some(409) => "Resource is still in use",
                Err(failure) => return Err(failure),
            };
            output::notice(&format!(" Image {image}  {word}"));
        }
        Ok(())
    }

    /// The images that go too: of services, or of containers where there are no files. One that was built and has no name in
    /// the files has the project's.
    fn images(&self, name: &str, project: Option<&Project>, all: &[Container]) -> BTreeSet<String> {
        let own = |service: &str| format!("{name}-{service}");
        let (services, containers) = match project {
            Some(project) => (project.services().map(|(it, _)| it).collect(), &[][..]),
            None => (Vec::new(), all),
        };
        let of_services = services
            .into_iter()
            .filter_map(|service| Some((own(service), project.map(|it| it.image(service, "-"))?)));
        let of_containers =
            containers.iter().map(|it| (own(&it.service), it.listed["Image"].text().to_owned()));
        let is_wanted = |(own, image): &(String, String)| match self.rmi.as_deref() {
            Some("all") => true,
            Some(_) => own == image,
            None => false,
        };
        let images = of_services.chain(of_containers).filter(is_wanted);
        images.map(|(_, image)| image).collect()
    }

    fn remove(&self, cais: &Cais, project: Option<&Project>, container: &Container) -> Result<()> {
        if container.is_running() {
            hooks::run(cais, project, container, "pre_stop")?;
        }
        if container.is_running() || container.state() == "paused" {
            cais.client.post(timed(container, "stop", self.timeout))?;
        }
        let path = Path::new(&["containers", &container.id]).with_flag("v", self.volumes);
        cais.client.delete(path.with("force", "1"))?;
        output::notice(&format!(" Container {}  Removed", container.name));
        Ok(())
    }
}

/// A verb that may stop the container, with the time that it has for it.
pub(super) fn timed(container: &Container, verb: &str, timeout: Option<i64>) -> Path {
    let path = Path::new(&["containers", &container.id, verb]);
    match timeout {
        Some(timeout) => path.with("t", &timeout.to_string()),
        None => path,
    }
}

/// In groups, those that others depend on behind them.
pub(super) fn backwards(mut containers: Vec<Container>) -> Vec<Vec<Container>> {
    let needs = |it: &Container| -> Vec<String> {
        let list = it.label(labels::DEPENDS_ON).split(',');
        list.map(|it| it.split(':').next().unwrap_or_default().to_owned()).collect()
    };
    let mut groups = Vec::new();
    while !containers.is_empty() {
        let needed: Vec<String> = containers.iter().flat_map(needs).collect();
        let (later, now): (Vec<_>, Vec<_>) =
            containers.into_iter().partition(|it| needed.contains(&it.service));
        // A circle has no last one.
        let (later, now) = if now.is_empty() { (now, later) } else { (later, now) };
        groups.push(now);
        containers = later;
    }
    groups
}

/// List containers
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Show all stopped containers
    #[arg(short, long)]
    all: bool,
    /// Filter services by a property: status=STATE
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Include containers of services that the files do not have; --orphans=false leaves them out
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    orphans: bool,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display services
    #[arg(long)]
    services: bool,
    /// Filter services by status: created, dead, exited, paused, removing, restarting or running
    #[arg(long)]
    status: Vec<String>,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Ps {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let mut wanted = self.status.clone();
        match self.filter.split_once('=') {
            None if self.filter.is_empty() => {}
            Some(("status", state)) => wanted.push(state.to_owned()),
            _ => {
                return Err(Failure::new(format!(
                    "invalid filter {:?}: it is status=STATE",
                    self.filter
                )));
            }
        }
        let shows_all = self.all || !wanted.is_empty();
        let mut shown = chosen_of_all(cais, files, &self.service)?;
        if !self.orphans && self.service.is_empty() {
            let (_, project) = files.named()?;
            shown.retain(|it| project.as_ref().is_none_or(|of| of.service(&it.service).is_some()));
        }
        shown.retain(|it| shows_all || it.label(labels::ONE_OFF) == "False");
        shown.retain(|it| shows_all || matches!(it.state(), "running" | "paused" | "restarting"));
        shown.retain(|it| wanted.is_empty() || wanted.iter().any(|state| state == it.state()));
        if self.quiet {
            return shown.iter().try_for_each(|it| output::line(&it.id));
        }
        if self.services {
            let mut names: Vec<&str> = shown.iter().map(|it| it.service.as_str()).collect();
            names.dedup();
            return names.into_iter().try_for_each(output::line);
        }
        let mut lines = vec!["NAME\tIMAGE\tCOMMAND\tSERVICE\tCREATED\tSTATUS\tPORTS".to_owned()];
        lines.extend(shown.iter().map(|it| {
            let listed = &it.listed;
            let cells = [
                it.name.clone(),
                listed["Image"].text().to_owned(),
                match listed["Command"].text() {
                    whole if self.no_trunc => format!("{whole:?}"),
                    long => format!("{:?}", table::ellipsis(long, 20)),
                },
                it.service.clone(),
                units::ago(listed["Created"].integer()),
                listed["Status"].text().to_owned(),
                ports::cell(&listed["Ports"]),
            ];
            cells.join("\t")
        }));
        output::raw(&table::aligned(&lines))
    }
}

/// The containers of these services, or of all.
pub(super) fn chosen(cais: &Cais, files: &Files, services: &[String]) -> Result<Vec<Container>> {
    let mut all = chosen_of_all(cais, files, services)?;
    all.retain(|it| it.label(labels::ONE_OFF) == "False");
    Ok(all)
}

/// The same, with those of single commands.
fn chosen_of_all(cais: &Cais, files: &Files, services: &[String]) -> Result<Vec<Container>> {
    let (name, project) = files.named()?;
    let mut all = containers::all_of_project(cais, &name)?;
    for service in services {
        let is_known = project.as_ref().is_none_or(|it| {
            it.service(service).or_else(|| it.disabled_service(service)).is_some()
        });
        if !is_known {
            return Err(Failure::new(format!("no such service: {service}")));
        }
    }
    all.retain(|it| services.is_empty() || services.contains(&it.service));
    Ok(all)
}

/// A verb for containers of services
#[derive(Debug, Args)]
pub(super) struct Each {
    /// Seconds to wait for what stops
    #[arg(short, long)]
    timeout: Option<i64>,
    /// The signal that kill sends
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Each {
    /// Does what the verb says to those containers that it is about.
    pub(super) fn run(&self, cais: &Cais, files: &Files, verb: &str, done: &str) -> Result<()> {
        let (_, project) = files.named()?;
        let mut all = chosen(cais, files, &self.service)?;
        all.retain(|it| match verb {
            "start" => !it.is_running(),
            "restart" => true,
            "unpause" => it.state() == "paused",
            _ => it.is_running(),
        });
        let mut groups = backwards(all);
        if !matches!(verb, "stop" | "restart" | "kill") {
            groups.reverse();
        }
        groups.iter().try_for_each(|group| {
            at_once(group, |container| {
                let path = timed(container, verb, self.timeout);
                let path = if verb == "kill" { path.with("signal", &self.signal) } else { path };
                if matches!(verb, "stop" | "restart") && container.is_running() {
                    hooks::run(cais, project.as_ref(), container, "pre_stop")?;
                }
                cais.client.post(path)?;
                if matches!(verb, "start" | "restart") {
                    hooks::run(cais, project.as_ref(), container, "post_start")?;
                }
                output::notice(&format!(" Container {}  {done}", container.name));
                Ok(())
            })
        })
    }
}

/// Removes stopped service containers
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// Don't ask to confirm removal
    #[arg(short, long)]
    force: bool,
    /// Stop the containers, if required, before removing
    #[arg(short, long)]
    stop: bool,
    /// Remove any anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Rm {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let mut all = chosen(cais, files, &self.service)?;
        all.retain(|it| self.stop || !it.is_running());
        if !self.force && !all.is_empty() {
            let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
            return Err(Failure::new(format!(
                "going to remove {}: say so with --force",
                names.join(", ")
            )));
        }
        for container in backwards(all).into_iter().flatten() {
            if container.is_running() {
                cais.client.post(timed(&container, "stop", None))?;
            }
            cais.client
                .delete(Path::new(&["containers", &container.id]).with_flag("v", self.volumes))?;
            output::notice(&format!(" Container {}  Removed", container.name));
        }
        Ok(())
    }
}

/// List running compose projects
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Show all stopped Compose projects
    #[arg(short, long)]
    all: bool,
    /// Format the output. Values: [table | json]
    #[arg(long, default_value = "table")]
    format: Shape,
    /// Only display project names
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    pub(super) fn run(&self, cais: &Cais) -> Result<()> {
        let filters = serde_json::json!({ "label": [labels::PROJECT] }).to_string();
        let path = Path::new(&["containers", "json"]).with("all", "1").with("filters", &filters);
        let listed = cais.client.read(path)?;
        let mut projects: BTreeMap<&str, (BTreeMap<&str, usize>, &str)> = BTreeMap::new();
        for container in listed.items() {
            let labels = &container["Labels"];
            let (states, files) = projects.entry(labels[labels::PROJECT].text()).or_default();
            *states.entry(container["State"].text()).or_default() += 1;
            *files = labels[labels::FILES].text();
        }
        projects.retain(|_, (states, _)| self.all || states.contains_key("running"));
        if self.quiet {
            return projects.keys().try_for_each(|name| output::line(name));
        }
        let rows = projects.iter().map(|(name, (states, files))| {
            let states: Vec<String> =
                states.iter().map(|(state, count)| format!("{state}({count})")).collect();
            (name, states.join(", "), files)
        });
        if self.format == Shape::Json {
            let row = |(name, status, files)| serde_json::json!({ "Name": name, "Status": status, "ConfigFiles": files });
            return output::line(&serde_json::Value::from_iter(rows.map(row)).to_string());
        }
        let mut lines = vec!["NAME\tSTATUS\tCONFIG FILES".to_owned()];
        lines.extend(rows.map(|(name, status, files)| format!("{name}\t{status}\t{files}")));
        output::raw(&table::aligned(&lines))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    Table,
    Json,
}
