//! `compose up --rolling`: a container that runs goes when its successor, beside it, is fit to take its place.
//!
//! ```text
//!   make successor ─▶ start aside ─▶ healthy ─▶ take over ─▶ old: connections end, stop, remove ─▶ rename
//!                         └──────── fails: it is removed, and the old one goes on ────────┘
//! ```
//! Aside, a container has neither the published ports nor the names of its service; that these change hands at once is the
//! daemon's part.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use cais_compose::{Node, Project};

use super::containers::{self, Container, at_once};
use super::converge::Act;
use super::lines::{Look, Voices};
use super::resources::text;
use super::{hooks, labels, logs, mounts, order, others, references, wait};
use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::output;

/// Of what a container wrote that was not fit.
const LAST_LINES: &str = "20";

/// In seconds, as for a stop.
const PATIENCE: i64 = 10;

/// A container that is outdated and serves, and its service's image by now.
pub(super) struct Later {
    container: Container,
    image: String,
}

/// Whether the daemon can hand ports and names over.
pub(super) fn check(cais: &Cais) -> Result<()> {
    check_daemon(
        cais,
        "--rolling",
        "hands ports and names over from one running container to another",
    )
}

/// Whether the daemon does what a flag of `up` needs, which is ours alone.
pub(super) fn check_daemon(cais: &Cais, flag: &str, does: &str) -> Result<()> {
    let version = cais.client.read(Path::new(&["version"]))?;
    match version["Platform"]["Name"].text() {
        "Cais" => Ok(()),
        other => Err(Failure::new(format!(
            "up {flag} needs the daemon of Cais, which {does}: here is {other:?}"
        ))),
    }
}

impl Act<'_> {
    /// Leaves a container for [`Act::roll`].
    pub(super) fn put_off(&self, service: &Node, container: &Container, image: &str) -> Result<()> {
        if !stops_first(service, container) {
            check_two(self.project, &container.service, service)?;
        }
        let later = Later { container: container.clone(), image: image.to_owned() };
        self.later.lock().unwrap_or_else(PoisonError::into_inner).push(later);
        Ok(())
    }

    /// Replaces what was put off: of each service one after the other, services behind those they depend on. Those that are
    /// to start again with what they depend on (`depends_on.restart`) go on until then.
    pub(super) fn roll(&self) -> Result<()> {
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        if later.is_empty() {
            return Ok(());
        }
        let mut levels = order::levels(self.project, &self.order).into_iter();
        let rolled = levels.try_for_each(|level| {
            at_once(&level, |name| {
                let mut own = later.iter().filter(|it| it.container.service == *name);
                own.try_for_each(|it| self.replace(it))
            })
        });
        rolled.and(self.restart_dependents(&later))
    }

    /// What was replaced itself came behind what it depends on.
    fn restart_dependents(&self, later: &[Later]) -> Result<()> {
        let all = containers::of_project(self.cais, &self.project.name)?;
        let gone = later.iter().filter(|it| all.iter().all(|other| other.id != it.container.id));
        let replaced: BTreeSet<&str> = gone.map(|it| it.container.service.as_str()).collect();
        let mut were_stopped = false;
        for service in &replaced {
            were_stopped |= self.stop_dependents(service, &replaced)?;
        }
        if were_stopped { self.start_all(&|| true) } else { Ok(()) }
    }

    fn replace(&self, Later { container: old, image }: &Later) -> Result<()> {
        let Some(service) = self.project.service(&old.service) else { return Ok(()) };
        let service = &references::resolved(self.cais, self.project, service)?;
        let hash = cais_compose::service_hash(service);
        let all = containers::of_project(self.cais, &self.project.name)?;
        self.wait_for_dependencies(&old.service, &all, &|| true)?;
        if stops_first(service, old) {
            self.exchange(service, old, (&hash, image))?;
            self.start(&old.service, &|| true)?;
            let all = containers::of_project(self.cais, &self.project.name)?;
            let new = all.iter().find(|it| it.name == old.name);
            return new.map_or(Ok(()), |it| wait::ready(&self.cais.client, it));
        }
        let made = self.make_successor(service, old, (&hash, image))?;
        let all = containers::of_project(self.cais, &self.project.name)?;
        let new = all.iter().find(|it| it.id == made);
        let new =
            new.ok_or_else(|| Failure::new(format!("the successor of {} is gone", old.name)))?;
        if let Err(failure) = self.take_over(service, new, old) {
            // The answer alone may be what is missing.
            let has_changed = self.is_aside(old).map_err(|_| {
                Failure::new(format!(
                    "services.{}: whether {} has taken the place of {} is not known, the next up will see: {failure}",
                    old.service, new.name, old.name
                ))
            })?;
            if has_changed {
                return self.succeed(new, old);
            }
            self.show_last_lines(new);
            containers::discard(self.cais, &new.id);
            return Err(Failure::new(format!(
                "services.{}: {} goes on as it was, for its successor is not fit to take its place: {failure}",
                old.service, old.name
            )));
        }
        self.succeed(new, old)
    }

    fn take_over(&self, service: &Node, new: &Container, old: &Container) -> Result<()> {
        let client = &self.cais.client;
        client.post(Path::new(&["containers", &new.id, "start"]).with("aside", "1"))?;
        hooks::run(self.cais, Some(self.project), new, "post_start")?;
        wait::ready(client, new)?;
        let grace = service.get("stop_grace_period").and_then(Node::as_int);
        let grace = self.making.timeout.or(grace.map(|it| it / 1_000_000_000)).unwrap_or(PATIENCE);
        let path = Path::new(&["containers", &new.id, "takeover"]).with("from", &old.id);
        client.post(path.with("t", &grace.max(0).to_string()))
    }

    /// What is left to do once a container has taken another one's place.
    fn succeed(&self, new: &Container, old: &Container) -> Result<()> {
        self.clear(old)?;
        self.rename(&new.id, &old.name)?;
        output::notice(&format!(" Container {}  Replaced", old.name));
        Ok(())
    }

    /// Ends what an earlier client began and broke off: where the successor serves already, the other one goes. One that is
    /// aside without another is brought back. Whether there was such a one.
    pub(super) fn finish_left(&self, all: &[Container]) -> Result<bool> {
        let find = |id: &str| all.iter().find(|it| it.id == id);
        let is_aside = |it: &&Container| it.is_running() && it.listed["Aside"].is_true();
        let mut aside: Vec<&str> = all.iter().filter(is_aside).map(|it| it.id.as_str()).collect();
        let mut was_left = false;
        for new in all.iter().filter(|it| it.is_running()) {
            if let Some(old) =
                find(new.label(labels::REPLACES)).filter(|it| aside.contains(&it.id.as_str()))
            {
                self.succeed(new, old)?;
                self.stop_dependents(&old.service, &BTreeSet::new())?;
                aside.retain(|it| *it != old.id);
                was_left = true;
            }
        }
        for new in all.iter().filter(|it| find(it.label(labels::REPLACES)).is_none()) {
            // Its own name is what follows the mark of the one that is gone.
            let mark = new.label(labels::REPLACES).get(..12).map(|it| format!("{it}_"));
            if let Some(name) = mark.and_then(|it| new.name.strip_prefix(&it)) {
                self.rename(&new.id, name)?;
                was_left = true;
            }
            if aside.contains(&new.id.as_str()) {
                self.cais.client.post(others::timed(new, "restart", self.making.timeout))?;
                output::notice(&format!(" Container {}  Restarted", new.name));
                was_left = true;
            }
        }
        Ok(was_left)
    }

    fn is_aside(&self, container: &Container) -> Result<bool> {
        let path = Path::new(&["containers", &container.id, "json"]);
        Ok(self.cais.client.read(path)?["State"]["Aside"].is_true())
    }

    /// With the container its log goes, too.
    fn show_last_lines(&self, container: &Container) {
        let client = &self.cais.client;
        let shown = client.read(Path::new(&["containers", &container.id, "json"]));
        let path = Path::new(&["containers", &container.id, "logs"]);
        let path = path.with("stdout", "1").with("stderr", "1").with("tail", LAST_LINES);
        let copied = shown.and_then(|shown| {
            let voice = Voices::new(Look::new(false, false), []).voice(&container.name);
            logs::copy(client.get(path)?.body, !shown["Config"]["Tty"].is_true(), &voice)
        });
        if let Err(failure) = copied {
            output::notice(&format!("warning: the output of {}: {failure}", container.name));
        }
    }
}

/// Whether a container ends before its successor begins: as the file says (`deploy.update_config.order`), or else where both
/// would write to one volume.
fn stops_first(service: &Node, old: &Container) -> bool {
    let update = service.get("deploy").and_then(|it| it.get("update_config"));
    match update.map_or("", |it| text(it, "order")) {
        "" => {
            // Those of the image are inherited.
            let mut mounts = old.listed["Mounts"].items().iter();
            mounts.any(|it| it["Type"].text() == "volume" && it["RW"].is_true())
                || mounts::written(service).next().is_some()
        }
        order => order == "stop-first",
    }
}

/// What is one container's alone, two cannot have for a while.
fn check_two(project: &Project, name: &str, service: &Node) -> Result<()> {
    let networks = service.get("networks").and_then(Node::as_map);
    let is_fixed = |network: &Node| {
        ["ipv4_address", "ipv6_address", "mac_address"]
            .into_iter()
            .find(|key| !text(network, key).is_empty())
    };
    let fixed = networks.into_iter().flatten().find_map(|(_, it)| is_fixed(it));
    let own = (!text(service, "mac_address").is_empty()).then_some("mac_address");
    let named = format!("service:{name}");
    let shares = |it: &Node| {
        let from = it.get("volumes_from").and_then(Node::as_list).unwrap_or_default();
        let from = from.iter().filter_map(Node::as_text);
        ["network_mode", "ipc", "pid"].iter().any(|key| text(it, key) == named)
            || from.map(|it| it.split(':').next().unwrap_or(it)).any(|it| it == name)
    };
    let has_ports = service.get("ports").and_then(Node::as_list).is_some_and(|it| !it.is_empty());
    let why = match fixed.or(own) {
        Some(key) => format!("its {key} is one container's"),
        None if has_ports && matches!(text(service, "network_mode"), "bridge" | "default") => {
            "ports are not handed over in the network bridge".to_owned()
        }
        None => match project.services().find(|(_, it)| shares(it)) {
            Some((other, _)) => format!("{other} shares what one container has"),
            None => return Ok(()),
        },
    };
    Err(Failure::new(format!(
        "services.{name}: up --rolling has two containers for a while, and {why}: let deploy.update_config.order be stop-first, or leave out --rolling"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;
    use crate::json::Value;

    #[test]
    fn what_is_one_containers_is_not_rolled() {
        let project = project(
            "
services:
  web: {image: a, ports: ['80:80'], deploy: {update_config: {order: start-first}}}
  db: {image: a, deploy: {update_config: {order: stop-first}}}
  kept: {image: a, volumes: ['data:/data']}
  bold: {image: a, volumes: ['data:/data'], deploy: {update_config: {order: start-first}}}
  reader: {image: a, volumes: ['data:/data:ro', '/:/host']}
  fixed: {image: a, networks: {back: {ipv4_address: 10.0.0.2}}}
  bridged: {image: a, ports: ['80'], network_mode: bridge}
  shared: {image: a}
  side: {image: a, network_mode: 'service:shared'}
networks: {back: }
volumes: {data: }
",
        );
        let service = |name: &str| project.service(name).unwrap();
        let old = |mounts: &str| {
            let listed = Value::parse(format!("{{\"Mounts\": [{mounts}]}}").as_bytes()).unwrap();
            Container { listed, ..Container::default() }
        };
        for (name, expected) in
            [("web", false), ("db", true), ("kept", true), ("bold", false), ("reader", false)]
        {
            assert_eq!(stops_first(service(name), &old("")), expected, "{name}");
        }
        let inherited = old(r#"{"Type": "volume", "RW": true}"#);
        assert!(stops_first(service("shared"), &inherited));
        assert!(!stops_first(service("web"), &inherited));
        let refused = |name: &str| {
            let checked = check_two(&project, name, service(name));
            checked.map_or_else(|it| it.message, |()| String::new())
        };
        assert_eq!(refused("web"), "");
        assert!(refused("bridged").contains("not handed over in the network bridge"));
        assert!(refused("fixed").contains("its ipv4_address is one container's"));
        assert!(refused("shared").contains("side shares what one container has"));
    }
}
