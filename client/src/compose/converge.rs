//! What is there becomes what the files say, and what is so already is left alone.
//!
//! A container is made anew when the hash of its service, its image or what it is connected to is another one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use cais_compose::{Node, Project};

use super::body::{self, Which};
use super::containers::{self, Container, at_once};
use super::images::Images;
use super::making::{Making, check_sharing};
use super::resources::{self, text};
use super::rolling::Later;
use super::{api_socket, copied, hooks, labels, order, pods, references};
use crate::Cais;
use crate::client::Path;
use crate::error::Result;
use crate::json::Value;
use crate::output;

/// Services of a project, on the way to what the files say.
pub(super) struct Act<'a> {
    pub(super) cais: &'a Cais,
    pub(super) project: &'a Project,
    pub(super) making: &'a Making,
    /// The services that were named, or none.
    pub(super) named: &'a [String],
    /// The services that this is about: those that others depend on come first.
    pub(super) order: Vec<&'a str>,
    pub(super) tells_of_orphans: bool,
    /// Containers that run are not made anew at once, but put into `later`.
    pub(super) is_rolling: bool,
    pub(super) later: Mutex<Vec<Later>>,
    /// What it makes is not started: `create`, `up --no-start`.
    pub(super) starts_nothing: bool,
    /// Stopped while a network was made anew, to be started again.
    pub(super) stopped: Mutex<Vec<Container>>,
    scales: BTreeMap<&'a str, i64>,
    /// Whether CRI's clients see its containers as pods, once that is known.
    is_of_pods: OnceLock<bool>,
    /// Ids of the node's networks by their names, once they were asked for.
    networks: OnceLock<BTreeMap<String, String>>,
    /// Services and names of containers that would be made now.
    pub(super) imagined: Mutex<Vec<(String, String)>>,
    /// The containers, as they were found a moment ago, if all stayed as they were.
    pub(super) unchanged: OnceLock<Vec<Container>>,
}

impl<'a> Act<'a> {
    /// # Errors
    /// What of the files or the flags cannot be.
    pub(super) fn new(
        cais: &'a Cais,
        project: &'a Project,
        making: &'a Making,
        named: &'a [String],
    ) -> Result<Self> {
        making.check()?;
        if making.cri == Some(true) {
            pods::check(cais)?;
        }
        let scales = making.scales(project)?;
        let order = order::order(project, if making.no_deps { named } else { &[] });
        for (name, service) in order.iter().filter_map(|it| Some((*it, project.service(it)?))) {
            check_sharing(name, service, scales[name])?;
            body::check(project, name, service)?;
        }
        Ok(Self {
            cais,
            project,
            making,
            named,
            order,
            tells_of_orphans: true,
            is_rolling: false,
            later: Mutex::default(),
            starts_nothing: false,
            stopped: Mutex::default(),
            scales,
            is_of_pods: OnceLock::new(),
            networks: OnceLock::new(),
            imagined: Mutex::default(),
            unchanged: OnceLock::new(),
        })
    }

    /// Makes all containers, and starts none.
    pub(super) fn make(&self) -> Result<()> {
        self.make_all().inspect_err(|_| {
            // What was stopped on the way would stay so.
            let _ = self.start_again();
        })
    }

    fn make_all(&self) -> Result<()> {
        let images = Images { cais: self.cais, project: self.project, making: self.making };
        let images = images.ensure(&self.order)?;
        resources::ensure(self, &self.order)?;
        let mut existing = containers::of_project(self.cais, &self.project.name)?;
        if self.finish_left(&existing)? {
            existing = containers::of_project(self.cais, &self.project.name)?;
        }
        let were_pods = || existing.iter().any(|it| pods::is_shown(self.project, it));
        self.is_of_pods.get_or_init(|| self.making.cri.unwrap_or_else(were_pods));
        self.orphans(&existing)?;
        if !existing.is_empty() {
            // Asked once, before many do at once.
            self.networks()?;
        }
        let mut has_changed = false;
        for level in order::levels(self.project, &self.order) {
            // What stays as it is needs no thread, which costs more than to see that it does.
            let changes = level.into_iter().filter_map(|name| {
                let image = &images[name];
                self.change(name, image, &existing).transpose()
            });
            let changes: Vec<Change<'_>> = changes.collect::<Result<_>>()?;
            has_changed |= !changes.is_empty();
            at_once(&changes, |change| self.converge(change))?;
        }
        if !has_changed {
            let _ = self.unchanged.set(existing);
        }
        Ok(())
    }

    /// Containers of services that the files do not have.
    fn orphans(&self, existing: &[Container]) -> Result<()> {
        let is_known = |name: &str| {
            self.project.service(name).is_some() || self.project.disabled_service(name).is_some()
        };
        let orphans: Vec<&Container> =
            existing.iter().filter(|it| !is_known(&it.service)).collect();
        if self.making.remove_orphans {
            return orphans.iter().try_for_each(|it| self.remove(it));
        }
        if self.tells_of_orphans && !orphans.is_empty() {
            let names: Vec<&str> = orphans.iter().map(|it| it.name.as_str()).collect();
            output::notice(&format!(
                "warning: Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.",
                names.join(" ")
            ));
        }
        Ok(())
    }

    /// What is to become of a service's containers; `None`: they stay as they are.
    fn change<'c>(
        &'c self,
        name: &'c str,
        image: &'c str,
        existing: &'c [Container],
    ) -> Result<Option<Change<'c>>> {
        let Some(service) = self.project.service(name) else { return Ok(None) };
        let service = references::resolved(self.cais, self.project, service)?;
        let hash = cais_compose::service_hash(&service);
        let own = existing.iter().filter(|it| it.service == name);
        let (left, own): (Vec<&Container>, Vec<_>) = own.partition(|it| is_left(it, existing));
        let mut kept: Vec<(bool, &Container)> = Vec::new();
        for container in &own {
            kept.push((self.is_outdated(&service, container, (&hash, image))?, container));
        }
        // What is outdated goes first, then what came last.
        kept.sort_by_key(|(is_outdated, it)| (*is_outdated, it.number));
        let most = usize::try_from(self.scales[name]).unwrap_or(0);
        let more = kept.split_off(most.min(kept.len())).into_iter().map(|(_, it)| it);
        let superfluous: Vec<&Container> = left.into_iter().chain(more).collect();
        let missing = most - kept.len();
        let last = own.iter().map(|it| it.number).max().unwrap_or(0);
        let outdated: Vec<&Container> =
            kept.into_iter().filter(|(is_outdated, _)| *is_outdated).map(|(_, it)| it).collect();
        let is_nothing = superfluous.is_empty() && outdated.is_empty() && missing == 0;
        let change = Change { name, service, hash, image, superfluous, outdated, last, missing };
        Ok((!is_nothing).then_some(change))
    }

    fn converge(&self, change: &Change<'_>) -> Result<()> {
        let Change { name, service, hash, image, .. } = change;
        change.superfluous.iter().try_for_each(|it| self.remove(it))?;
        for container in &change.outdated {
            if self.is_rolling && container.is_running() {
                self.put_off(service, container, image)?;
            } else {
                self.recreate(service, container, (hash, image))?;
            }
        }
        for number in (change.last + 1..).take(change.missing) {
            let own_name = body::own_name(self.project, service, name, number);
            let which = Which {
                service: name,
                number,
                image: &self.project.image(name, "-"),
                image_id: image,
                hash,
                inherited: &[],
                replaces: None,
                is_pod: self.is_of_pods(),
            };
            self.create(&own_name, service, &which)?;
            self.imagine(name, &own_name);
            output::notice(&format!(" Container {own_name}  Created"));
        }
        Ok(())
    }

    fn imagine(&self, service: &str, name: &str) {
        if self.cais.client.is_dry() {
            let mut imagined = self.imagined.lock().unwrap_or_else(PoisonError::into_inner);
            imagined.push((service.to_owned(), name.to_owned()));
        }
    }

    /// Whether containers of a service are made anew in any case. A dependency's are when it was asked for.
    pub(super) fn is_forced(&self, service: &str) -> bool {
        let is_named = self.named.is_empty() || self.named.iter().any(|it| it == service);
        if is_named { self.making.force_recreate } else { self.making.always_recreate_deps }
    }

    fn is_of_pods(&self) -> bool {
        self.is_of_pods.get() == Some(&true)
    }

    fn create(&self, name: &str, service: &Node, which: &Which<'_>) -> Result<String> {
        let path = Path::new(&["containers", "create"])
            .with("name", name)
            .with_text("platform", text(service, "platform"));
        let mut body = body::body(self.project, service, which)?;
        references::link(self.cais, self.project, service, &mut body)?;
        api_socket::place(self.cais, service, &mut body);
        copied::create(self.cais, self.project, which.service, path, &body)
    }

    fn is_outdated(
        &self,
        service: &Node,
        container: &Container,
        (hash, image): (&str, &str),
    ) -> Result<bool> {
        if self.making.no_recreate {
            return Ok(false);
        }
        if self.is_forced(&container.service)
            || container.label(labels::HASH) != hash
            || container.label(labels::IMAGE) != image
            || pods::is_to_change(self.project, container, self.making.cri)
        {
            return Ok(true);
        }
        let named = |kind: &str, key: &str| {
            self.project.resource(kind, key).map_or("", |it| text(it, "name")).to_owned()
        };
        let connected = container.listed["NetworkSettings"]["Networks"].members();
        let networks = service.get("networks").and_then(Node::as_map);
        for (key, _) in networks.into_iter().flatten() {
            let name = named("networks", key);
            let Some(id) = self.networks()?.get(&name) else { return Ok(true) };
            // What does not run is in a network by its name; in none is who was taken out and not brought back.
            let by_name = |other: &str| other == name && !container.is_running();
            if !connected.iter().any(|(it, at)| at["NetworkID"].text() == id || by_name(it)) {
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

    fn networks(&self) -> Result<&BTreeMap<String, String>> {
        if let Some(networks) = self.networks.get() {
            return Ok(networks);
        }
        let listed = self.cais.client.read(Path::new(&["networks"]))?;
        Ok(self.learn_networks(&listed))
    }

    /// From a list of all that is not about to change.
    pub(super) fn learn_networks(&self, listed: &Value) -> &BTreeMap<String, String> {
        // An external one may be named by its id.
        let names = |it: &Value| {
            ["Name", "Id"].map(|key| (it[key].text().to_owned(), it["Id"].text().to_owned()))
        };
        self.networks.get_or_init(|| listed.items().iter().flat_map(names).collect())
    }

    /// Puts a new container in the place of one, with its name, number and volumes.
    fn recreate(&self, service: &Node, old: &Container, of: (&str, &str)) -> Result<()> {
        self.stop_dependents(&old.service, &BTreeSet::new())?;
        self.exchange(service, old, of)
    }

    /// The same while what depends on it goes on.
    pub(super) fn exchange(&self, service: &Node, old: &Container, of: (&str, &str)) -> Result<()> {
        let made = self.make_successor(service, old, of)?;
        // Beside the one that could not be removed it would pass for the service's container.
        self.clear(old).inspect_err(|_| containers::discard(self.cais, &made))?;
        self.rename(&made, &old.name)?;
        self.imagine(&old.service, &old.name);
        output::notice(&format!(" Container {}  Recreated", old.name));
        Ok(())
    }

    /// Makes the container that is to come after one, under a name of its own.
    pub(super) fn make_successor(
        &self,
        service: &Node,
        old: &Container,
        (hash, image): (&str, &str),
    ) -> Result<String> {
        let volumes =
            old.listed["Mounts"].items().iter().filter(|it| it["Type"].text() == "volume");
        let is_unnamed =
            |name: &str| name.len() == 64 && name.bytes().all(|it| it.is_ascii_hexdigit());
        let inherited: Vec<(String, String)> = volumes
            .map(|it| (it["Destination"].text().to_owned(), it["Name"].text().to_owned()))
            .filter(|(_, name)| !self.making.renew_anon_volumes && is_unnamed(name))
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
            is_pod: self.is_of_pods(),
        };
        self.create(&name, service, &which)
    }

    pub(super) fn rename(&self, id: &str, name: &str) -> Result<()> {
        self.cais.client.post(Path::new(&["containers", id, "rename"]).with("name", name))
    }

    /// Removes a container that another takes the place of.
    pub(super) fn clear(&self, old: &Container) -> Result<()> {
        self.stop(old)?;
        self.cais.client.delete(Path::new(&["containers", &old.id])).map(drop)
    }

    /// Services that ask for it (`depends_on.restart`) do not run while what they depend on is made anew. They are started
    /// with all others. Whether there were any, but for those of `except`.
    pub(super) fn stop_dependents(&self, service: &str, except: &BTreeSet<&str>) -> Result<bool> {
        let restarts = |name: &&str| {
            let depends_on = self.project.service(name).and_then(|it| it.get("depends_on"));
            let how = depends_on.and_then(|it| it.get(service)?.get("restart"));
            how.and_then(Node::as_bool) == Some(true)
        };
        let mut dependents: Vec<&str> = self.order.iter().copied().filter(restarts).collect();
        dependents.retain(|it| !except.contains(it));
        if dependents.is_empty() {
            return Ok(false);
        }
        let mut all = containers::of_project(self.cais, &self.project.name)?;
        all.retain(|it| it.is_running() && dependents.contains(&it.service.as_str()));
        at_once(&all, |it| self.stop(it))?;
        Ok(!all.is_empty())
    }

    pub(super) fn stop(&self, container: &Container) -> Result<()> {
        if container.is_running() {
            hooks::run(self.cais, Some(self.project), container, "pre_stop")?;
        }
        let mut path = Path::new(&["containers", &container.id, "stop"]);
        if let Some(timeout) = self.making.timeout {
            path = path.with("t", &timeout.to_string());
        }
        self.cais.client.post(path)
    }

    fn remove(&self, container: &Container) -> Result<()> {
        self.stop(container)?;
        self.cais.client.delete(Path::new(&["containers", &container.id]))?;
        output::notice(&format!(" Container {}  Removed", container.name));
        Ok(())
    }
}

/// What is to become of the containers of a service.
struct Change<'c> {
    name: &'c str,
    service: Cow<'c, Node>,
    /// Of the service and of its image.
    hash: String,
    image: &'c str,
    /// They go.
    superfluous: Vec<&'c Container>,
    /// Others come in their place.
    outdated: Vec<&'c Container>,
    /// The highest number that a container has.
    last: i64,
    /// How many come besides.
    missing: usize,
}

/// Whether it was to replace another one, which is there still: who made it broke off.
fn is_left(container: &Container, existing: &[Container]) -> bool {
    existing.iter().any(|it| it.id == container.label(labels::REPLACES))
}
