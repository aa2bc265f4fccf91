//! A network whose declaration has changed is made anew, and whoever was in it is in it again.
//!
//! ```text
//!   stop the project's ─▶ disconnect all ─▶ remove ─▶ create ─▶ connect ─▶ start again
//!                                                      └─ fails: the former one again ─▶ …
//! ```
//! Containers of the project stop meanwhile, as with docker compose, and so does what shares their network namespaces. Others
//! that somebody has connected go on.

use std::sync::PoisonError;

use serde_json::{Map, Value as Json, json};

use super::containers::{self, Container, at_once};
use super::converge::Act;
use super::stopping::is_to_stop;
use super::{hooks, labels, others, pods, references};
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::output;

/// What the daemon says of an endpoint that was asked for, and takes again.
const ASKED: &[&str] =
    &["Aliases", "DriverOpts", "GwPriority", "IPAMConfig", "Links", "MacAddress"];

/// A container in the network, and how.
struct Member<'a> {
    container: &'a Container,
    endpoint: Json,
}

impl Act<'_> {
    /// # Errors
    /// When containers are to go on without a pause.
    pub(super) fn check_renewal(&self, changed: &[(Value, Json)]) -> Result<()> {
        match changed {
            [(network, _), ..] if self.is_rolling => Err(Failure::new(format!(
                "network {} is to be made anew, and all of the project's containers in it are to stop meanwhile: leave out --rolling",
                network["Name"].text()
            ))),
            _ => Ok(()),
        }
    }

    /// Makes a network of the project anew. What was stopped for it is started with the others, or by [`Act::start_again`].
    pub(super) fn renew(&self, former: &Value, body: &Json) -> Result<()> {
        let name = former["Name"].text();
        let all = containers::of_node(self.cais)?;
        let inside: Vec<&Container> = all.iter().filter(|it| is_in(it, former)).collect();
        self.pause(&all, &inside)?;
        let members: Vec<Member<'_>> = inside
            .into_iter()
            .map(|container| Ok(Member { container, endpoint: self.endpoint(container, name)? }))
            .collect::<Result<_>>()?;
        for member in &members {
            let body = json!({ "Container": member.container.id, "Force": true });
            self.at(name, "disconnect", &body)?;
        }
        match self.cais.client.delete(Path::new(&["networks", name])) {
            Err(failure) if !failure.is_not_found() => {
                return Err(self.restore(former, &members, &failure));
            }
            _ => output::notice(&format!(" Network {name}  Removed")),
        }
        if let Err(failure) = self.cais.client.post_json(Path::new(&["networks", "create"]), body) {
            return Err(self.restore(former, &members, &failure));
        }
        output::notice(&format!(" Network {name}  Created"));
        let stay: Vec<&Member<'_>> =
            members.iter().filter(|it| !self.is_to_be_replaced(it.container)).collect();
        self.connect(name, &stay)
    }

    /// Starts what was stopped and does not run yet, each behind those whose network it shares.
    pub(super) fn start_again(&self) -> Result<()> {
        let mut waiting =
            std::mem::take(&mut *self.stopped.lock().unwrap_or_else(PoisonError::into_inner));
        while !waiting.is_empty() {
            let all = containers::of_node(self.cais)?;
            let runs = |it: &Container| it.is_running();
            waiting.retain(|it| all.iter().any(|other| other.id == it.id && !runs(other)));
            let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|it| {
                it.shares_with()
                    .is_none_or(|id| all.iter().any(|other| is(other, id) && runs(other)))
            });
            if ready.is_empty() {
                for container in rest {
                    output::notice(&format!(
                        "warning: container {} stays stopped: whose network it shares does not run",
                        container.name
                    ));
                }
                return Ok(());
            }
            let groups = others::backwards(ready);
            groups.iter().rev().try_for_each(|group| at_once(group, |it| self.start_one(it)))?;
            waiting = rest;
        }
        Ok(())
    }

    fn start_one(&self, container: &Container) -> Result<()> {
        self.cais.client.post(Path::new(&["containers", &container.id, "start"]))?;
        if self.is_own(container) {
            hooks::run(self.cais, Some(self.project), container, "post_start")?;
        }
        output::notice(&format!(" Container {}  Started", container.name));
        Ok(())
    }

    /// Stops the project's containers of these, and what shares their network namespaces.
    fn pause(&self, all: &[Container], inside: &[&Container]) -> Result<()> {
        let mut paused: Vec<&Container> =
            inside.iter().copied().filter(|it| self.is_own(it) && is_to_stop(it)).collect();
        loop {
            let shares = |it: &&Container| {
                it.shares_with().is_some_and(|id| paused.iter().any(|owner| is(owner, id)))
            };
            let is_new = |it: &&Container| paused.iter().all(|known| known.id != it.id);
            let more: Vec<&Container> =
                all.iter().filter(|it| is_to_stop(it) && is_new(it) && shares(it)).collect();
            if more.is_empty() {
                break;
            }
            paused.extend(more);
        }
        {
            let is_left = |it: &&&Container| {
                self.starts_nothing && self.is_own(it) && self.order.contains(&it.service.as_str())
            };
            let again = paused.iter().filter(|it| !is_left(it)).map(|it| (*it).clone());
            self.stopped.lock().unwrap_or_else(PoisonError::into_inner).extend(again);
        }
        for group in others::backwards(paused.into_iter().cloned().collect()) {
            at_once(&group, |it| {
                if self.is_own(it) {
                    self.stop(it)?;
                } else {
                    self.cais.client.post(others::timed(it, "stop", self.making.timeout))?;
                }
                output::notice(&format!(" Container {}  Stopped", it.name));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// One of the project's services, not of a single command.
    fn is_own(&self, container: &Container) -> bool {
        container.label(labels::PROJECT) == self.project.name
            && container.label(labels::ONE_OFF) == "False"
    }

    /// Whether its service has changed as well: the container that comes after it is connected when it is made.
    fn is_to_be_replaced(&self, container: &Container) -> bool {
        if !self.is_own(container) || self.making.no_recreate {
            return false;
        }
        let mut about = self.order.iter().filter(|it| **it == container.service);
        let Some(service) = about.next().and_then(|it| self.project.service(it)) else {
            return false;
        };
        let hash = references::resolved(self.cais, self.project, service)
            .map(|it| cais_compose::service_hash(&it));
        self.is_forced(&container.service)
            || pods::is_to_change(self.project, container, self.making.cri)
            || hash.map_or(true, |it| it != container.label(labels::HASH))
    }

    /// What a container asked for in a network.
    fn endpoint(&self, container: &Container, network: &str) -> Result<Json> {
        let path = Path::new(&["containers", &container.id, "json"]);
        let shown = self.cais.client.read(path)?;
        Ok(asked(&shown["NetworkSettings"]["Networks"][network]))
    }

    fn at(&self, network: &str, verb: &str, body: &Json) -> Result<()> {
        self.cais.client.post_json(Path::new(&["networks", network, verb]), body).map(drop)
    }

    /// Brings containers back. One of somebody else's that does not fit any more is told of.
    fn connect(&self, name: &str, members: &[&Member<'_>]) -> Result<()> {
        let mut outcome = Ok(());
        for Member { container, endpoint } in members {
            let body = json!({ "Container": container.id, "EndpointConfig": endpoint });
            let Err(failure) = self.at(name, "connect", &body) else { continue };
            let failure = Failure::new(format!(
                "container {} is no longer in network {name}: {failure}",
                container.name
            ));
            if self.is_own(container) {
                outcome = outcome.and(Err(failure));
            } else {
                output::notice(&format!("warning: {failure}"));
            }
        }
        outcome
    }

    /// After a failure: the network as it was, with everybody in it who was, and running.
    fn restore(&self, former: &Value, members: &[Member<'_>], why: &Failure) -> Failure {
        let name = former["Name"].text();
        let restored = match self.cais.client.read(Path::new(&["networks", name])) {
            Ok(_) => Ok(()),
            Err(_) => {
                let body = again(former);
                self.cais.client.post_json(Path::new(&["networks", "create"]), &body).map(drop)
            }
        };
        let all: Vec<&Member<'_>> = members.iter().collect();
        let restored =
            restored.and_then(|()| self.connect(name, &all)).and_then(|()| self.start_again());
        Failure::new(match restored {
            Ok(()) => format!("network {name} is as it was, for it cannot be made anew: {why}"),
            Err(failure) => {
                format!("network {name} cannot be made anew: {why}; nor be as it was: {failure}")
            }
        })
    }
}

fn is(container: &Container, name_or_id: &str) -> bool {
    container.id == name_or_id || container.name == name_or_id
}

/// By the network's id. What has never run may have none yet, and its name alone.
fn is_in(container: &Container, network: &Value) -> bool {
    let (name, id) = (network["Name"].text(), network["Id"].text());
    container.listed["NetworkSettings"]["Networks"].members().iter().any(|(key, it)| {
        match it["NetworkID"].text() {
            "" => key == name,
            other => other == id,
        }
    })
}

fn asked(endpoint: &Value) -> Json {
    let member = |key: &&str| {
        let value = endpoint.member(key).filter(|it| !it.is_null())?;
        Some(((*key).to_owned(), serde_json::to_value(value).ok()?))
    };
    ASKED.iter().filter_map(member).collect::<Map<_, _>>().into()
}

/// The body that makes a network as it is.
fn again(network: &Value) -> Json {
    let keys =
        ["Name", "Driver", "Options", "Internal", "Attachable", "EnableIPv6", "IPAM", "Labels"];
    let member = |key: &str| {
        let value = serde_json::to_value(&network[key]).unwrap_or_default();
        (key.to_owned(), value)
    };
    keys.map(member).into_iter().collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_endpoint_is_asked_for_again_as_it_was() {
        let endpoint = value(
            r#"{"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "Links": null, "Aliases": ["web", "shop-web-1"],
                "MacAddress": "02:00:00:00:00:01", "NetworkID": "7", "IPAddress": "10.0.0.9",
                "DNSNames": ["shop-web-1", "0123456789ab"], "GwPriority": 3}"#,
        );
        let expected = json!({
            "IPAMConfig": {"IPv4Address": "10.0.0.9"}, "Aliases": ["web", "shop-web-1"],
            "MacAddress": "02:00:00:00:00:01", "GwPriority": 3,
        });
        assert_eq!(asked(&endpoint), expected);
        assert_eq!(asked(&Value::Null), json!({}));
    }

    #[test]
    fn a_container_is_in_a_network_by_its_id() {
        let network = value(r#"{"Name": "shop_back", "Id": "77"}"#);
        let container = |networks: &str| Container {
            listed: value(&format!(r#"{{"NetworkSettings": {{"Networks": {networks}}}}}"#)),
            ..Container::default()
        };
        assert!(is_in(&container(r#"{"shop_back": {"NetworkID": "77"}}"#), &network));
        assert!(is_in(&container(r#"{"shop_back": {"NetworkID": ""}}"#), &network));
        // One of the same name that is gone.
        assert!(!is_in(&container(r#"{"shop_back": {"NetworkID": "66"}}"#), &network));
        assert!(!is_in(&container(r#"{"other": {"NetworkID": "66"}}"#), &network));
    }
}
