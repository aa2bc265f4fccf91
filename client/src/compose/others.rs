//! Verbs about containers that are there: down, start, stop and their like. They need labels, not files.

use std::collections::BTreeSet;

use cais_compose::Project;

use clap::Args;

use super::containers::{self, Container, at_once};
use super::{Files, hooks, labels, resources};
use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::output;

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
    /// All of a project, as after `--down-project`.
    pub(super) fn with_orphans() -> Self {
        Self { remove_orphans: true, rmi: None, timeout: None, volumes: false }
    }

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

/// The containers of these services, or of all.
pub(super) fn chosen(cais: &Cais, files: &Files, services: &[String]) -> Result<Vec<Container>> {
    let (name, project) = files.named()?;
    chosen_in(cais, (&name, project.as_ref()), services)
}

fn chosen_in(
    cais: &Cais,
    (name, project): (&str, Option<&Project>),
    services: &[String],
) -> Result<Vec<Container>> {
    let mut all = chosen_of_all_in(cais, (name, project), services)?;
    all.retain(|it| it.label(labels::ONE_OFF) == "False");
    Ok(all)
}

/// The same, with those of single commands.
pub(super) fn chosen_of_all(
    cais: &Cais,
    files: &Files,
    services: &[String],
) -> Result<Vec<Container>> {
    let (name, project) = files.named()?;
    chosen_of_all_in(cais, (&name, project.as_ref()), services)
}

fn chosen_of_all_in(
    cais: &Cais,
    (name, project): (&str, Option<&Project>),
    services: &[String],
) -> Result<Vec<Container>> {
    let mut all = containers::all_of_project(cais, name)?;
    check_known(project, services)?;
    all.retain(|it| services.is_empty() || services.contains(&it.service));
    Ok(all)
}

fn check_known(project: Option<&Project>, services: &[String]) -> Result<()> {
    let is_known = |service: &String| {
        project
            .is_none_or(|it| it.service(service).or_else(|| it.disabled_service(service)).is_some())
    };
    match services.iter().find(|it| !is_known(it)) {
        Some(service) => Err(Failure::new(format!("no such service: {service}"))),
        None => Ok(()),
    }
}

/// A verb for containers of services
#[derive(Debug, Args)]
pub(super) struct Each {
    /// Seconds to wait for what stops
    #[arg(short, long)]
    timeout: Option<i64>,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

/// Restart service containers
#[derive(Debug, Args)]
pub(super) struct Restart {
    /// Don't restart dependent services
    #[arg(long)]
    no_deps: bool,
    #[command(flatten)]
    each: Each,
}

/// Force stop service containers
#[derive(Debug, Args)]
pub(super) struct Kill {
    /// Kill the containers of services, too, that the files do not have
    #[arg(long)]
    remove_orphans: bool,
    /// The signal to send
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Each {
    /// Does what the verb says to those containers that it is about.
    pub(super) fn run(&self, cais: &Cais, files: &Files, verb: &str, done: &str) -> Result<()> {
        let (name, project) = files.named()?;
        let all = chosen_in(cais, (&name, project.as_ref()), &self.service)?;
        self.run_on(cais, project.as_ref(), all, (verb, done))
    }

    fn run_on(
        &self,
        cais: &Cais,
        project: Option<&Project>,
        mut all: Vec<Container>,
        (verb, done): (&str, &str),
    ) -> Result<()> {
        all.retain(|it| match verb {
            "start" => !it.is_running(),
            "restart" => true,
            "unpause" => it.state() == "paused",
            _ => it.is_running(),
        });
        let mut groups = backwards(all);
        if verb != "stop" {
            groups.reverse();
        }
        groups.iter().try_for_each(|group| {
            at_once(group, |container| {
                let path = timed(container, verb, self.timeout);
                if matches!(verb, "stop" | "restart") && container.is_running() {
                    hooks::run(cais, project, container, "pre_stop")?;
                }
                cais.client.post(path)?;
                if matches!(verb, "start" | "restart") {
                    hooks::run(cais, project, container, "post_start")?;
                }
                output::notice(&format!(" Container {}  {done}", container.name));
                Ok(())
            })
        })
    }
}

impl Restart {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let (name, project) = files.named()?;
        let mut all = chosen_in(cais, (&name, project.as_ref()), &[])?;
        let mut services = self.each.service.clone();
        if !services.is_empty() {
            check_known(project.as_ref(), &services)?;
            if !self.no_deps {
                add_dependents(&all, &mut services);
            }
            all.retain(|it| services.contains(&it.service));
        }
        self.each.run_on(cais, project.as_ref(), all, ("restart", "Restarted"))
    }
}

/// Services that are to start again with one that they depend on (`depends_on.restart`), and those that are with these.
fn add_dependents(all: &[Container], services: &mut Vec<String>) {
    let depends = |it: &Container, services: &[String]| {
        it.label(labels::DEPENDS_ON).split(',').any(|dependency| {
            let mut parts = dependency.split(':');
            let name = parts.next().unwrap_or_default();
            parts.nth(1) == Some("true") && services.iter().any(|it| it == name)
        })
    };
    while let Some(dependent) =
        all.iter().find(|it| !services.contains(&it.service) && depends(it, services))
    {
        services.push(dependent.service.clone());
    }
}

impl Kill {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let (name, project) = files.named()?;
        let mut all = chosen_in(cais, (&name, project.as_ref()), &self.service)?;
        all.retain(Container::is_running);
        if let Some(project) = project.filter(|_| !self.remove_orphans) {
            all.retain(|it| project.service(&it.service).is_some());
        }
        at_once(&all, |container| {
            let path = Path::new(&["containers", &container.id, "kill"]);
            cais.client.post(path.with("signal", &self.signal))?;
            output::notice(&format!(" Container {}  Killed", container.name));
            Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependents_that_ask_for_it_restart_too() {
        let container = |service: &str, depends_on: &str| Container {
            service: service.to_owned(),
            listed: crate::json::Value::parse(
                serde_json::json!({ "Labels": { labels::DEPENDS_ON: depends_on } })
                    .to_string()
                    .as_bytes(),
            )
            .unwrap(),
            ..Container::default()
        };
        let all = [
            container("web", "app:service_started:true"),
            container("app", "db:service_healthy:true,cache:service_started:false"),
            container("log", "db:service_started:false"),
            container("db", ""),
            container("cache", ""),
        ];
        let with = |service: &str| {
            let mut services = vec![service.to_owned()];
            add_dependents(&all, &mut services);
            services
        };
        assert_eq!(with("db"), ["db", "app", "web"]);
        assert_eq!(with("cache"), ["cache"]);
    }
}
