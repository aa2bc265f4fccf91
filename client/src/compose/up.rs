//! `compose up`: what the files say is made so, and what is so already is left alone.
//!
//! A container is made anew when the hash of its service, its image or what it is connected to is another one. Services are
//! made in the order in which they depend on each other, then started in it, each when those it waits for are ready.

use std::collections::BTreeMap;

use cais_compose::{Node, Project};
use clap::Args;

use super::body::{self, Which};
use super::containers::{self, Container};
use super::resources::{self, text};
use super::{Files, labels, order, wait};
use crate::Cais;
use crate::client::Path;
use crate::commands::pull::Pulling;
use crate::error::{Failure, Result};
use crate::output;
use crate::progress;

/// Create and start containers
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Up {
    /// Detached mode: Run containers in the background
    #[arg(short, long)]
    detach: bool,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long)]
    force_recreate: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// If containers already exist, don't recreate them
    #[arg(long)]
    no_recreate: bool,
    /// Don't start the services after creating them
    #[arg(long)]
    no_start: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Scale SERVICE to NUM instances
    #[arg(long)]
    scale: Vec<String>,
    /// Use this timeout in seconds for container shutdown
    #[arg(short, long)]
    timeout: Option<i64>,
    /// Wait for services to be running|healthy. Implies detached mode.
    #[arg(long)]
    wait: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Up {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        if !(self.detach || self.wait || self.no_start) {
            return Err(Failure::new(
                "cais compose up runs in the background only, for now: add --detach",
            ));
        }
        let project = files.project(&files.options()?, &self.service)?;
        let scale = self.scales(&project)?;
        let order = order::order(&project, if self.no_deps { &self.service } else { &[] });
        for (name, service) in order.iter().filter_map(|it| Some((*it, project.service(it)?))) {
            check_ports(name, service, scale[name])?;
            body::check(&project, name, service)?;
        }
        let act = Act { cais, project: &project, up: self, order: &order };
        let images = act.images()?;
        resources::ensure(cais, &project, &order)?;
        let existing = containers::of_project(cais, &project.name)?;
        act.orphans(&existing)?;
        for name in &order {
            act.converge(name, scale[*name], &images[*name], &existing)?;
        }
        if self.no_start {
            return Ok(());
        }
        for name in &order {
            act.start(name)?;
        }
        if self.wait {
            act.wait_for_all()?;
        }
        Ok(())
    }

    fn scales<'p>(&self, project: &'p Project) -> Result<BTreeMap<&'p str, i64>> {
        let mut scales: BTreeMap<&str, i64> = project
            .services()
            .map(|(name, service)| {
                let replicas = || service.get("deploy")?.get("replicas")?.as_int();
                let scale = service.get("scale").and_then(Node::as_int).or_else(replicas);
                (name.as_str(), scale.unwrap_or(1))
            })
            .collect();
        for word in &self.scale {
            let (name, count) = word.split_once('=').unwrap_or((word, ""));
            let wrong =
                || Failure::new(format!("invalid --scale option {word:?}. Should be SERVICE=NUM"));
            let count = count.parse().map_err(|_| wrong())?;
            match scales.get_mut(name) {
                Some(scale) => *scale = count,
                None => return Err(Failure::new(format!("no such service: {name}"))),
            }
        }
        Ok(scales)
    }
}

/// One port of the host is one container's.
fn check_ports(name: &str, service: &Node, scale: i64) -> Result<()> {
    if scale < 2 {
        return Ok(());
    }
    if service.get("container_name").is_some() {
        return Err(Failure::new(format!(
            "services.{name}: container_name is one name, and there are to be {scale} containers: leave it out"
        )));
    }
    for port in service.get("ports").and_then(Node::as_list).unwrap_or_default() {
        let published = text(port, "published");
        let target = port.get("target").and_then(Node::as_int).unwrap_or(0);
        if let Ok(first) = published.parse::<i64>()
            && first != 0
        {
            let last = first + scale - 1;
            return Err(Failure::new(format!(
                "services.{name}.ports: {scale} containers cannot share port {first} of the host: write \"{first}-{last}:{target}\", or \"{target}\" for ports of the daemon's choice"
            )));
        }
    }
    Ok(())
}

struct Act<'a> {
    cais: &'a Cais,
    project: &'a Project,
    up: &'a Up,
    /// The services that this is about.
    order: &'a [&'a str],
}

impl Act<'_> {
    /// The id of every service's image, which is pulled when it is not there.
    fn images(&self) -> Result<BTreeMap<&str, String>> {
        let mut images = BTreeMap::new();
        let services = self.order.iter().filter_map(|it| Some((*it, self.project.service(it)?)));
        for (name, service) in services {
            let image = self.project.image(name, "-");
            let policy = text(service, "pull_policy");
            let path = || Path::new(&["images", &image, "json"]);
            let known = match self.cais.client.read(path()) {
                Ok(known) => Some(known),
                Err(failure) if failure.is_not_found() => None,
                Err(failure) => return Err(failure),
            };
            let known = match known {
                Some(known) if policy != "always" => known,
                _ if service.get("build").is_some() => {
                    return Err(Failure::new(format!(
                        "services.{name}: there is no image {image}, and cais compose cannot build yet: build it first"
                    )));
                }
                _ if policy == "never" => {
                    return Err(Failure::new(format!(
                        "services.{name}: no image {image}, and pull_policy is never"
                    )));
                }
                _ => {
                    let pulling = Pulling {
                        image: &image,
                        platform: text(service, "platform"),
                        all_tags: false,
                    };
                    progress::quietly(pulling.begin(self.cais)?.body)?;
                    output::notice(&format!(" {name}  Pulled"));
                    self.cais.client.read(path())?
                }
            };
            images.insert(name, known["Id"].text().to_owned());
        }
        Ok(images)
    }

    /// Containers of services that the files do not have.
    fn orphans(&self, existing: &[Container]) -> Result<()> {
        let is_known = |name: &str| {
            self.project.service(name).is_some() || self.project.disabled_service(name).is_some()
        };
        let orphans: Vec<&Container> =
            existing.iter().filter(|it| !is_known(&it.service)).collect();
        if self.up.remove_orphans {
            return orphans.iter().try_for_each(|it| self.remove(it));
        }
        if !orphans.is_empty() {
            let names: Vec<&str> = orphans.iter().map(|it| it.name.as_str()).collect();
            output::notice(&format!(
                "warning: Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.",
                names.join(" ")
            ));
        }
        Ok(())
    }

    fn converge(&self, name: &str, scale: i64, image: &str, existing: &[Container]) -> Result<()> {
        let Some(service) = self.project.service(name) else { return Ok(()) };
        let hash = cais_compose::service_hash(service);
        let own = || existing.iter().filter(|it| it.service == name);
        let mut kept: Vec<(bool, &Container)> = Vec::new();
        for container in own() {
            kept.push((self.is_outdated(service, container, (&hash, image))?, container));
        }
        // What is outdated goes first, then what came last.
        kept.sort_by_key(|(is_outdated, it)| (*is_outdated, it.number));
        let most = usize::try_from(scale).unwrap_or(0);
        for (_, container) in kept.split_off(most.min(kept.len())) {
            self.remove(container)?;
        }
        for (is_outdated, container) in &kept {
            if *is_outdated {
                self.recreate(service, container, (&hash, image))?;
            }
        }
        let mut last = own().map(|it| it.number).max().unwrap_or(0);
        for _ in kept.len()..most {
            last += 1;
            let fixed = text(service, "container_name");
            let own_name = match fixed {
                "" => format!("{}-{name}-{last}", self.project.name),
                fixed => fixed.to_owned(),
            };
            let which = Which {
                service: name,
                number: last,
                image: &self.project.image(name, "-"),
                image_id: image,
                hash: &hash,
                inherited: &[],
                replaces: None,
            };
            self.create(&own_name, service, &which)?;
            output::notice(&format!(" Container {own_name}  Created"));
        }
        Ok(())
    }

    fn create(&self, name: &str, service: &Node, which: &Which<'_>) -> Result<()> {
        let path = Path::new(&["containers", "create"])
            .with("name", name)
            .with_text("platform", text(service, "platform"));
        self.cais.client.post_json(path, &body::body(self.project, service, which)?).map(drop)
    }

    fn is_outdated(
        &self,
        service: &Node,
        container: &Container,
        (hash, image): (&str, &str),
    ) -> Result<bool> {
        if self.up.no_recreate {
            return Ok(false);
        }
        if self.up.force_recreate
            || container.label(labels::HASH) != hash
            || container.label(labels::IMAGE) != image
        {
            return Ok(true);
        }
        let named = |kind: &str, key: &str| {
            self.project.resource(kind, key).map_or("", |it| text(it, "name")).to_owned()
        };
        let connected = container.listed["NetworkSettings"]["Networks"].members();
        let networks = service.get("networks").and_then(Node::as_map);
        for key in
            networks.into_iter().flatten().map(|(key, _)| key).filter(|_| container.is_running())
        {
            let network =
                self.cais.client.read(Path::new(&["networks", &named("networks", key)]))?;
            let is_there = |it: &(String, crate::json::Value)| it.1["NetworkID"] == network["Id"];
            if !connected.iter().any(is_there) {
                return Ok(true);
            }
        }
        let mounts = container.listed["Mounts"].items();
        for volume in service.get("volumes").and_then(Node::as_list).unwrap_or_default() {
            let name = named("volumes", text(volume, "source"));
            if !name.is_empty() && !mounts.iter().any(|it| it["Name"].text() == name) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts a new container in the place of one, with its name, number and volumes.
    fn recreate(&self, service: &Node, old: &Container, (hash, image): (&str, &str)) -> Result<()> {
        let volumes =
            old.listed["Mounts"].items().iter().filter(|it| it["Type"].text() == "volume");
        let is_unnamed =
            |name: &str| name.len() == 64 && name.bytes().all(|it| it.is_ascii_hexdigit());
        let inherited: Vec<(String, String)> = volumes
            .map(|it| (it["Destination"].text().to_owned(), it["Name"].text().to_owned()))
            .filter(|(_, name)| is_unnamed(name))
            .collect();
        let short = old.id.get(..12).unwrap_or(&old.id);
        let name = format!("{short}_{}", old.name);
        let which = Which {
            service: &old.service,
            number: old.number,
            image: &self.project.image(&old.service, "-"),
            image_id: image,
            hash,
            inherited: &inherited,
            replaces: Some(&old.id),
        };
        self.create(&name, service, &which)?;
        self.stop(&old.id)?;
        self.cais.client.delete(Path::new(&["containers", &old.id]))?;
        self.cais
            .client
            .post(Path::new(&["containers", &name, "rename"]).with("name", &old.name))?;
        output::notice(&format!(" Container {}  Recreated", old.name));
        Ok(())
    }

    fn stop(&self, id: &str) -> Result<()> {
        let mut path = Path::new(&["containers", id, "stop"]);
        if let Some(timeout) = self.up.timeout {
            path = path.with("t", &timeout.to_string());
        }
        self.cais.client.post(path)
    }

    fn remove(&self, container: &Container) -> Result<()> {
        self.stop(&container.id)?;
        self.cais.client.delete(Path::new(&["containers", &container.id]))?;
        output::notice(&format!(" Container {}  Removed", container.name));
        Ok(())
    }

    /// Starts a service's containers, once what it waits for is ready.
    fn start(&self, name: &str) -> Result<()> {
        let all = containers::of_project(self.cais, &self.project.name)?;
        let mut to_start =
            all.iter().filter(|it| it.service == name && !it.is_running()).peekable();
        if to_start.peek().is_none() {
            return Ok(());
        }
        let depends_on = self.project.service(name).and_then(|it| it.get("depends_on")?.as_map());
        let about = |it: &String| self.order.contains(&it.as_str());
        for (dependency, how) in depends_on.into_iter().flatten().filter(|(it, _)| about(it)) {
            let is_required = how.get("required").and_then(Node::as_bool) != Some(false);
            for container in all.iter().filter(|it| it.service == *dependency) {
                let ready = match text(how, "condition") {
                    "service_healthy" => wait::healthy(self.cais, container),
                    "service_completed_successfully" => wait::completed(self.cais, container),
                    _ => Ok(()),
                };
                match ready {
                    Err(failure) if !is_required => {
                        output::notice(&format!(
                            "warning: optional dependency {dependency}: {failure}"
                        ));
                    }
                    ready => ready?,
                }
            }
        }
        for container in to_start {
            self.cais.client.post(Path::new(&["containers", &container.id, "start"]))?;
            output::notice(&format!(" Container {}  Started", container.name));
        }
        Ok(())
    }

    fn wait_for_all(&self) -> Result<()> {
        for container in containers::of_project(self.cais, &self.project.name)? {
            if self.order.contains(&container.service.as_str()) {
                wait::running(self.cais, &container)?;
            }
        }
        Ok(())
    }
}
