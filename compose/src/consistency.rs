//! Whether what a project's services name is there, and whether what they say fits together.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::node::{Map, Node};
use crate::project::Project;

/// Checks the services that are on.
pub(crate) fn check(project: &Project) -> Result<()> {
    for (name, service) in project.services() {
        Service { project, name, node: service }.check()?;
    }
    for (name, secret) in project.resources("secrets") {
        let says = |key: &str| secret.get(key).is_some();
        if !says("external") && !says("file") && !says("environment") {
            let path = ["secrets".to_owned(), name.clone()];
            return Err(Error::at(secret, &path, "must declare either `file` or `environment`"));
        }
    }
    cycles(project)
}

struct Service<'p> {
    project: &'p Project,
    name: &'p str,
    node: &'p Node,
}

impl Service<'_> {
    fn check(&self) -> Result<()> {
        if ["build", "image", "provider"].iter().all(|key| self.node.get(key).is_none()) {
            return self.fail("", "has neither an image nor a build context specified");
        }
        self.build()?;
        self.names()?;
        self.health()?;
        self.limits()?;
        self.scale()?;
        self.watches()?;
        self.mounts()
    }

    fn fail<T>(&self, key: &str, message: impl Into<String>) -> Result<T> {
        let mut path = vec!["services".to_owned(), self.name.to_owned()];
        let mut node = self.node;
        for key in key.split('.').filter(|it| !it.is_empty()) {
            path.push(key.to_owned());
            node = node.get(key).unwrap_or(node);
        }
        Err(Error::at(node, &path, message))
    }

    fn text(&self, key: &str) -> &str {
        self.node.get(key).and_then(Node::as_text).unwrap_or_default()
    }

    fn list(&self, key: &str) -> &[Node] {
        self.node.get(key).and_then(Node::as_list).unwrap_or_default()
    }

    fn build(&self) -> Result<()> {
        let Some(build) = self.node.get("build") else { return Ok(()) };
        if build.get("dockerfile_inline").is_some() && build.get("dockerfile").is_some() {
            return self.fail("build", "dockerfile and dockerfile_inline are mutually exclusive");
        }
        let contexts = build.get("additional_contexts").and_then(Node::as_map);
        for (name, context) in contexts.into_iter().flatten() {
            let Some(target) = context.as_text().and_then(|it| it.strip_prefix("service:")) else {
                continue;
            };
            match self.project.service(target) {
                Some(service) if service.get("build").is_some() => {}
                Some(_) => {
                    let message = format!("{name} names service {target:?}, which is not built");
                    return self.fail("build.additional_contexts", message);
                }
                None => {
                    let message = format!("{name} names the unknown service {target:?}");
                    return self.fail("build.additional_contexts", message);
                }
            }
        }
        let platforms = build.get("platforms").and_then(Node::as_list).unwrap_or_default();
        let platform = self.text("platform");
        let has = platforms.iter().any(|it| it.as_text() == Some(platform));
        if !platforms.is_empty() && !platform.is_empty() && !has {
            return self.fail("build.platforms", format!("must include platform {platform:?}"));
        }
        for secret in build.get("secrets").and_then(Node::as_list).unwrap_or_default() {
            self.known(secret, "build.secrets", "secrets", "build secret")?;
        }
        Ok(())
    }

    fn names(&self) -> Result<()> {
        let networks = self.node.get("networks").and_then(Node::as_map);
        let mode = self.text("network_mode");
        if !mode.is_empty() && networks.is_some() {
            return self
                .fail("network_mode", "`network_mode` and `networks` are mutually exclusive");
        }
        for network in networks.into_iter().flat_map(Map::keys) {
            if !self.project.has_resource("networks", network) {
                return self.fail("networks", format!("refers to undefined network {network}"));
            }
        }
        let depends_on = self.node.get("depends_on").and_then(Node::as_map);
        for (name, dependency) in depends_on.into_iter().flatten() {
            let is_required = dependency.get("required").and_then(Node::as_bool) == Some(true);
            if self.project.service(name).is_none()
                && (is_required || self.project.disabled_service(name).is_none())
            {
                return self.fail("depends_on", format!("depends on undefined service {name:?}"));
            }
        }
        if let Some(name) = mode.strip_prefix("service:")
            && self.project.service(name).is_none()
        {
            return self.fail("network_mode", format!("service {name:?} not found"));
        }
        for volume in self.list("volumes") {
            let source = volume.get("source").and_then(Node::as_text);
            let is_volume = volume.get("type").and_then(Node::as_text) == Some("volume");
            if let Some(source) = source
                && is_volume
                && !self.project.has_resource("volumes", source)
            {
                return self.fail("volumes", format!("refers to undefined volume {source}"));
            }
        }
        for config in self.list("configs") {
            self.known(config, "configs", "configs", "config")?;
        }
        for model in self.node.get("models").and_then(Node::as_map).into_iter().flat_map(Map::keys)
        {
            if !self.project.has_resource("models", model) {
                return self.fail("models", format!("refers to undefined model {model}"));
            }
        }
        for secret in self.list("secrets") {
            self.known(secret, "secrets", "secrets", "secret")?;
        }
        Ok(())
    }

    fn known(&self, file: &Node, key: &str, kind: &str, what: &str) -> Result<()> {
        let source = file.get("source").and_then(Node::as_text).unwrap_or_default();
        if self.project.has_resource(kind, source) {
            return Ok(());
        }
        self.fail(key, format!("refers to undefined {what} {source}"))
    }

    fn health(&self) -> Result<()> {
        let test = self.node.get("healthcheck").and_then(|it| it.get("test")?.as_list());
        match test.and_then(|it| it.first()?.as_text()) {
            None | Some("CMD" | "CMD-SHELL" | "NONE") => Ok(()),
            Some(_) => self.fail(
                "healthcheck.test",
                "must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"",
            ),
        }
    }

    /// The same limit may be given twice, once in each way, and must then be the same.
    fn limits(&self) -> Result<()> {
        let resources = self.node.get("deploy").and_then(|it| it.get("resources"));
        for (key, group, member) in [
            ("cpus", "limits", "cpus"),
            ("mem_limit", "limits", "memory"),
            ("mem_reservation", "reservations", "memory"),
            ("pids_limit", "limits", "pids"),
        ] {
            let Some(own) = self.node.get(key) else { continue };
            if let Some(group_node) = resources.and_then(|it| it.get(group))
                && group_node.get(member) != Some(own)
            {
                return self.fail(
                    key,
                    format!("can't set distinct values on '{key}' and 'deploy.resources.{group}.{member}'"),
                );
            }
        }
        Ok(())
    }

    fn scale(&self) -> Result<()> {
        let scale = self.node.get("scale").and_then(Node::as_int);
        let replicas = self.node.get("deploy").and_then(|it| it.get("replicas")?.as_int());
        if let (Some(scale), Some(replicas)) = (scale, replicas)
            && scale != replicas
        {
            return self
                .fail("scale", "can't set distinct values on 'scale' and 'deploy.replicas'");
        }
        let (key, count) = match scale {
            Some(scale) => ("scale", scale),
            None => ("deploy.replicas", replicas.unwrap_or(1)),
        };
        if count < 0 {
            return self.fail(key, "must be greater than or equal to 0");
        }
        if count > 1 && !self.text("container_name").is_empty() {
            let message =
                format!("can't set container_name and {key} as container name must be unique");
            return self.fail("container_name", message);
        }
        Ok(())
    }

    fn watches(&self) -> Result<()> {
        let watches = self.node.get("develop").and_then(|it| it.get("watch")?.as_list());
        for watch in watches.unwrap_or_default() {
            let action = watch.get("action").and_then(Node::as_text);
            if watch.get("target").is_none() && !matches!(action, Some("rebuild" | "restart")) {
                return self.fail("develop.watch", "target is required for non-rebuild actions");
            }
        }
        Ok(())
    }

    fn mounts(&self) -> Result<()> {
        let mut mounted: BTreeMap<&str, String> = BTreeMap::new();
        let tmpfs = self.list("tmpfs").iter().enumerate().map(|(index, it)| {
            let text = it.as_text().unwrap_or_default();
            (text.split(':').next().unwrap_or_default(), format!("tmpfs[{index}]"))
        });
        let volumes = self.list("volumes").iter().enumerate().map(|(index, it)| {
            let target = it.get("target").and_then(Node::as_text).unwrap_or_default();
            (target, format!("volumes[{index}]"))
        });
        for (target, place) in tmpfs.chain(volumes) {
            if let Some(other) = mounted.insert(target, place.clone()) {
                let key = place.split('[').next().unwrap_or_default().to_owned();
                return self
                    .fail(&key, format!("{place}: target {target} already mounted as {other}"));
            }
        }
        Ok(())
    }
}

/// Services must not wait for each other.
fn cycles(project: &Project) -> Result<()> {
    fn visit<'p>(
        project: &'p Project,
        name: &'p str,
        open: &mut Vec<&'p str>,
        done: &mut Vec<&'p str>,
    ) -> Result<()> {
        if done.contains(&name) {
            return Ok(());
        }
        if open.contains(&name) {
            let chain = open.iter().chain([&name]).copied().collect::<Vec<_>>();
            return Err(Error::new(format!("dependency cycle detected: {}", chain.join(" -> "))));
        }
        open.push(name);
        for (dependency, is_required) in project.dependencies(name) {
            if project.service(dependency).is_some() {
                visit(project, dependency, open, done)?;
            } else if is_required {
                let message =
                    format!("service {dependency:?} is required by {name:?} but is disabled");
                return Err(Error::new(message));
            }
        }
        open.pop();
        done.push(name);
        Ok(())
    }
    let mut done = Vec::new();
    for (name, _) in project.services() {
        visit(project, name, &mut Vec::new(), &mut done)?;
    }
    Ok(())
}
