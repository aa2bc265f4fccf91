//! A project: services and what they need, in the types of the tables.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::decode;
use crate::dotenv::Variables;
use crate::error::{Error, Result};
use crate::keys::{Kind, NETWORK, PROJECT, SERVICE, Struct, VOLUME};
use crate::load::{SECRET_VALUE, Warnings};
use crate::node::{Map, Node, Value};
use crate::print::{self, Format, Out, json, yaml};
use crate::service_files;

/// Where docker compose binds the daemon's socket to, and has it from.
pub const API_SOCKET: &str = "/var/run/docker.sock";
/// The configuration beside it: its name among `configs`, which no file can give, its directory, and the variable that names it.
const API_CONFIG: &str = "#apisocket";
const API_DIRECTORY: &str = "/run/secrets/docker";
const API_VARIABLE: &str = "DOCKER_CONFIG";

/// What compose files describe, with the services of the active profiles.
///
/// Values have one form each: sizes are bytes, durations nanoseconds, commands lists, environments and labels mappings. A
/// key that says nothing more than its absence is absent.
#[derive(Debug, Clone)]
pub struct Project {
    pub name: String,
    /// Absolute, as all paths of the project.
    pub working_dir: String,
    pub files: Vec<String>,
    /// What variables stand for in the files.
    pub environment: Variables,
    pub warnings: Vec<String>,
    model: Map,
    disabled: Map,
    profiles: Vec<String>,
}

/// What is no part of the model.
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) working_dir: String,
    pub(crate) files: Vec<String>,
    pub(crate) environment: Variables,
    pub(crate) profiles: Vec<String>,
}

impl Project {
    pub(crate) fn new(mut model: Node, setting: Setting) -> Result<Self> {
        if let Some(map) = model.as_map_mut() {
            map.remove("name");
        }
        let decoded = decode::decode(Kind::One(&PROJECT), &model, &mut Vec::new())?;
        let Some(Node { value: Value::Map(model), .. }) = decoded else {
            return Err(Error::new("empty compose file"));
        };
        let Setting { name, working_dir, files, environment, profiles } = setting;
        let disabled = Map::new();
        let warnings = Vec::new();
        let mut model = model;
        let secrets = model.get_mut("secrets").and_then(Node::as_map_mut);
        for secret in secrets.into_iter().flat_map(Map::values_mut).filter_map(Node::as_map_mut) {
            if let Some(value) = secret.remove(SECRET_VALUE) {
                secret.insert("content".to_owned(), value);
            }
        }
        let mut project =
            Self { name, working_dir, files, environment, warnings, model, disabled, profiles };
        project.switch();
        Ok(project)
    }

    /// Moves services by the active profiles.
    fn switch(&mut self) {
        let mut all = std::mem::take(&mut self.disabled);
        all.append(self.services_mut());
        let profiles = &self.profiles;
        let is_on = |service: &Node| {
            let own = service.get("profiles").and_then(Node::as_list).unwrap_or_default();
            let wanted = |it: &Node| {
                profiles.iter().any(|active| active == "*" || it.as_text() == Some(active))
            };
            own.is_empty() || own.iter().any(wanted)
        };
        let (on, off): (Map, Map) = all.into_iter().partition(|(_, service)| is_on(service));
        *self.services_mut() = on;
        self.disabled = off;
    }

    fn services_mut(&mut self) -> &mut Map {
        self.map_mut("services")
    }

    fn map_mut(&mut self, kind: &str) -> &mut Map {
        let node =
            self.model.entry(kind.to_owned()).or_insert_with(|| Value::Map(Map::new()).into());
        if node.as_map().is_none() {
            node.value = Value::Map(Map::new());
        }
        match &mut node.value {
            Value::Map(map) => map,
            _ => unreachable!("it was just made a mapping"),
        }
    }

    /// Gives services that have `use_api_socket` the daemon's socket and a client's configuration with this text, in the words
    /// that docker compose has for it, so that hashes are its. Whether there are any.
    pub fn give_api_socket(&mut self, configuration: impl FnOnce() -> String) -> bool {
        let text = |it: &str| Node::text(it.to_owned());
        let map = |members: &[(&str, &str)]| -> Node {
            let members = members.iter().map(|(key, it)| ((*key).to_owned(), text(it)));
            Value::Map(members.collect()).into()
        };
        let push = |service: &mut Map, key: &str, item: Node| {
            let node =
                service.entry(key.to_owned()).or_insert_with(|| Value::List(Vec::new()).into());
            match &mut node.value {
                Value::List(list) => list.push(item),
                other => *other = Value::List(vec![item]),
            }
        };
        let mut is_given = false;
        let services = self.services_mut().values_mut().filter_map(Node::as_map_mut);
        for service in services {
            if service.get("use_api_socket").and_then(Node::as_bool) != Some(true) {
                continue;
            }
            is_given = true;
            let bind = [("type", "bind"), ("source", API_SOCKET), ("target", API_SOCKET)];
            push(service, "volumes", map(&bind));
            let file = format!("{API_DIRECTORY}/config.json");
            push(service, "configs", map(&[("source", API_CONFIG), ("target", &file)]));
            let environment = service
                .entry("environment".to_owned())
                .or_insert_with(|| Value::Map(Map::new()).into());
            if let Some(environment) = environment.as_map_mut() {
                environment.entry(API_VARIABLE.to_owned()).or_insert_with(|| text(API_DIRECTORY));
            }
        }
        if is_given {
            let config = map(&[("content", &configuration())]);
            self.map_mut("configs").insert(API_CONFIG.to_owned(), config);
        }
        is_given
    }

    /// The services of the active profiles, by name.
    pub fn services(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.resources("services")
    }

    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Node> {
        self.model.get("services")?.get(name)
    }

    #[must_use]
    pub fn disabled_service(&self, name: &str) -> Option<&Node> {
        self.disabled.get(name)
    }

    /// One that is on, or else one that is not.
    #[must_use]
    pub fn any_service(&self, name: &str) -> Option<&Node> {
        self.service(name).or_else(|| self.disabled_service(name))
    }

    /// The services, on or not, whose images the build of this one is made from (`additional_contexts`), by its names for them.
    pub fn build_contexts(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let build = self.any_service(name).and_then(|it| it.get("build"));
        let contexts = build.and_then(|it| it.get("additional_contexts")?.as_map());
        contexts
            .into_iter()
            .flatten()
            .filter_map(|(name, it)| Some((name.as_str(), it.as_text()?.strip_prefix("service:")?)))
    }

    /// Networks, volumes, secrets, configs or models, by the names that the files have for them.
    pub fn resources(&self, kind: &str) -> impl Iterator<Item = (&String, &Node)> {
        self.model.get(kind).and_then(Node::as_map).into_iter().flatten()
    }

    pub(crate) fn has_resource(&self, kind: &str, name: &str) -> bool {
        self.resource(kind, name).is_some()
    }

    #[must_use]
    pub fn resource(&self, kind: &str, name: &str) -> Option<&Node> {
        self.model.get(kind)?.get(name)
    }

    /// What a service depends on, and whether it cannot be without it.
    pub fn dependencies(&self, name: &str) -> impl Iterator<Item = (&str, bool)> {
        let depends_on = self.service(name).and_then(|it| it.get("depends_on")?.as_map());
        depends_on.into_iter().flatten().map(|(name, it)| {
            (name.as_str(), it.get("required").and_then(Node::as_bool) == Some(true))
        })
    }

    /// All profiles that services have, also inactive ones.
    #[must_use]
    pub fn all_profiles(&self) -> BTreeSet<&str> {
        let all = self.services().chain(&self.disabled);
        all.filter_map(|(_, it)| it.get("profiles")?.as_list())
            .flatten()
            .filter_map(Node::as_text)
            .collect()
    }

    /// The image of a service: the one it names, or the one that is built for it.
    #[must_use]
    pub fn image(&self, name: &str, separator: &str) -> String {
        let image = self.any_service(name).and_then(|it| it.get("image")?.as_text());
        image.map_or_else(|| format!("{}{separator}{name}", self.name), str::to_owned)
    }

    /// Keeps these services and what they depend on, with their profiles active. None at all keeps everything.
    pub fn select(&mut self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let own = |name: &String| {
            let profiles = self.disabled.get(name).and_then(|it| it.get("profiles")?.as_list());
            profiles.unwrap_or_default().iter().filter_map(|it| it.as_text().map(str::to_owned))
        };
        let more: Vec<String> = names.iter().flat_map(own).collect();
        self.profiles.extend(more);
        self.switch();
        let mut kept: BTreeSet<String> = BTreeSet::new();
        let mut open: Vec<(String, bool)> = names.iter().map(|it| (it.clone(), true)).collect();
        while let Some((name, is_required)) = open.pop() {
            if self.service(&name).is_none() {
                if is_required {
                    return Err(Error::new(format!("no such service: {name}")));
                }
                continue;
            }
            let more = self.dependencies(&name).map(|(it, required)| (it.to_owned(), required));
            let more: Vec<_> = more.collect();
            if kept.insert(name) {
                open.extend(more);
            }
        }
        let all = std::mem::take(self.services_mut());
        let (mut on, off): (Map, Map) = all.into_iter().partition(|(name, _)| kept.contains(name));
        for service in on.values_mut().filter_map(Node::as_map_mut) {
            let Some(depends_on) = service.get_mut("depends_on").and_then(Node::as_map_mut) else {
                continue;
            };
            depends_on.retain(|name, _| kept.contains(name));
            if depends_on.is_empty() {
                service.remove("depends_on");
            }
        }
        *self.services_mut() = on;
        self.disabled.extend(off);
        Ok(())
    }

    /// Services that are off, and whose images are built for those that are on.
    fn off_that_builds_need(&self) -> Vec<&Node> {
        let mut open: Vec<&str> = self.services().map(|(name, _)| name.as_str()).collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        while let Some(name) = open.pop() {
            let more = self.build_contexts(name).map(|(_, other)| other);
            open.extend(more.filter(|other| seen.insert(other)));
        }
        seen.into_iter().filter_map(|name| self.disabled_service(name)).collect()
    }

    /// Drops networks, volumes, secrets, configs and models that no service uses.
    pub fn drop_unused(&mut self) {
        for (kind, member) in [
            ("networks", ""),
            ("volumes", "source"),
            ("secrets", "source"),
            ("configs", "source"),
            ("models", ""),
        ] {
            let mut used: BTreeSet<String> = BTreeSet::new();
            let services = || self.services().map(|(_, it)| it);
            // Only secrets are had by builds.
            let builds = services().chain(self.off_that_builds_need());
            let builds = builds
                .filter(|_| kind == "secrets")
                .filter_map(|it| it.get("build")?.get("secrets"));
            for node in services().filter_map(|it| it.get(kind)).chain(builds) {
                match &node.value {
                    Value::Map(map) => used.extend(map.keys().cloned()),
                    Value::List(list) => {
                        let mounts = list.iter().filter(|it| {
                            kind != "volumes"
                                || it.get("type").and_then(Node::as_text) == Some("volume")
                        });
                        used.extend(
                            mounts.filter_map(|it| it.get(member)?.as_text().map(str::to_owned)),
                        );
                    }
                    _ => {}
                }
            }
            self.map_mut(kind).retain(|name, _| used.contains(name));
            if self.map_mut(kind).is_empty() {
                self.model.remove(kind);
            }
        }
    }

    /// `scale` is what `deploy.replicas` says, too.
    pub(crate) fn unify_scale(&mut self) {
        for service in self.services_mut().values_mut().filter_map(Node::as_map_mut) {
            let scale = service.get("scale").cloned();
            if let (Some(scale), Some(deploy)) =
                (scale, service.get_mut("deploy").and_then(Node::as_map_mut))
            {
                deploy.insert("replicas".to_owned(), scale);
            }
        }
    }

    /// No two containers of the project may have one name.
    pub fn check_container_names(&self) -> Result<()> {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        for (service, node) in self.services() {
            let Some(name) = node.get("container_name") else { continue };
            if let Some(other) = names.insert(name.as_text().unwrap_or_default(), service) {
                let path = ["services", service, "container_name"].map(str::to_owned);
                return Err(Error::at(
                    name,
                    &path,
                    format!("is already in use by service {other}"),
                ));
            }
        }
        Ok(())
    }

    /// Reads the files of variables and of labels into the services that name them, and forgets their names.
    pub(crate) fn resolve_files(&mut self, variables: bool, warnings: &mut Warnings) -> Result<()> {
        let environment = self.environment.clone();
        for (name, service) in self.services_mut() {
            let Some(service) = service.as_map_mut() else { continue };
            let path = ["services".to_owned(), name.clone()];
            if variables {
                service_files::environment(service, &environment, &path, warnings)?;
            }
            service_files::labels(service, &path, warnings)?;
        }
        Ok(())
    }

    /// As `docker compose config` prints it.
    #[must_use]
    pub fn print(&self, format: Format) -> String {
        let mut model = self.model.clone();
        model.insert("name".to_owned(), Node::text(self.name.clone()));
        for (kind, hides) in [("secrets", true), ("configs", false)] {
            // What a secret holds is not for print, nor what a variable gave a configuration.
            for object in
                model.get_mut(kind).and_then(Node::as_map_mut).into_iter().flat_map(Map::values_mut)
            {
                if let Some(object) = object.as_map_mut()
                    && (hides || object.contains_key("environment"))
                {
                    object.remove("content");
                }
            }
        }
        let out = print::structure(&PROJECT, Some(&model), format);
        match (format, out) {
            (Format::Json, Out::Map(mut members)) => {
                members.retain(|(key, _)| key != "models");
                let extensions = self.model.iter().filter(|(key, _)| key.starts_with("x-"));
                members.extend(extensions.map(|(key, it)| (key.clone(), print::plain(it, format))));
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                json::indented(&Out::Map(members))
            }
            (_, out) => yaml::document(&out),
        }
    }

    /// The label `com.docker.compose.config-hash` of a service's containers: they are made anew when it changes.
    #[must_use]
    pub fn service_hash(&self, name: &str) -> Option<String> {
        self.service(name).map(service_hash)
    }

    /// The same label of a network.
    #[must_use]
    pub fn network_hash(&self, name: &str) -> Option<String> {
        Some(hash(&NETWORK, self.resource("networks", name)?.as_map()?))
    }

    /// The same label of a volume.
    #[must_use]
    pub fn volume_hash(&self, name: &str) -> Option<String> {
        let mut volume = self.resource("volumes", name)?.as_map()?.clone();
        volume.entry("driver".to_owned()).or_insert_with(|| Node::text("local"));
        Some(hash(&VOLUME, &volume))
    }
}

/// The hash of a service's configuration, without what changes nothing about its containers.
#[must_use]
pub fn service_hash(service: &Node) -> String {
    let mut service = service.as_map().cloned().unwrap_or_default();
    for key in ["build", "pull_policy", "scale", "depends_on", "profiles"] {
        service.remove(key);
    }
    if let Some(deploy) = service.get_mut("deploy").and_then(Node::as_map_mut) {
        deploy.remove("replicas");
    }
    hash(&SERVICE, &service)
}

fn hash(keys: &Struct, map: &Map) -> String {
    let text = json::compact(&print::structure(keys, Some(map), Format::Json));
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
