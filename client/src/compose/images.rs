//! The images of services: there before their containers are made.

use std::collections::BTreeMap;
use std::io;

use cais_compose::{Node, Project};

use super::build::Builder;
use super::containers::at_once;
use super::making::Making;
use super::registry;
use super::resources::text;
use crate::Cais;
use crate::error::{Failure, Result};
use crate::output;

pub(super) struct Images<'a> {
    pub(super) cais: &'a Cais,
    pub(super) project: &'a Project,
    pub(super) making: &'a Making,
}

/// What was asked of images: many services have the same one.
struct Here<'a> {
    cais: &'a Cais,
    ids: BTreeMap<String, Option<String>>,
}

impl Here<'_> {
    fn id_of(&mut self, image: &str) -> Result<Option<&str>> {
        if !self.ids.contains_key(image) {
            self.ids.insert(image.to_owned(), registry::id_of(self.cais, image)?);
        }
        Ok(self.ids.get(image).and_then(Option::as_deref))
    }
}

/// Where an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Here,
    Registry,
    /// From a registry if one has it, else it is built.
    RegistryOrBuild,
    Build,
}

impl Images<'_> {
    /// The id of every service's image. What is not there is pulled, all at once, or built, one after the other.
    pub(super) fn ensure<'s>(&self, services: &[&'s str]) -> Result<BTreeMap<&'s str, String>> {
        let (mut to_pull, mut to_build) = (Vec::new(), Vec::new());
        let mut all_are_here = true;
        let mut here = Here { cais: self.cais, ids: BTreeMap::new() };
        for name in services {
            let Some(service) = self.project.service(name) else { continue };
            let image = self.project.image(name, "-");
            let source = self.source(name, service, &image, &mut here)?;
            all_are_here &= source == Source::Here;
            match source {
                Source::Here => {}
                Source::Build => to_build.push(*name),
                Source::RegistryOrBuild => {
                    if let Err(failure) = registry::pull(self.cais, name, &image, "") {
                        output::notice(&format!("warning: {name}: {failure}: it is built"));
                        to_build.push(*name);
                    }
                }
                Source::Registry => {
                    if !to_pull.iter().any(|(_, it, _)| *it == image) {
                        to_pull.push((*name, image, text(service, "platform")));
                    }
                }
            }
        }
        at_once(&to_pull, |(name, image, platform)| {
            registry::pull(self.cais, name, image, platform)
        })?;
        let builder = Builder {
            cais: self.cais,
            project: self.project,
            arguments: BTreeMap::new(),
            is_without_cache: false,
            pulls: false,
            is_quiet: self.making.quiet_build,
        };
        to_build.iter().try_for_each(|name| builder.build(name, &mut io::stderr()))?;
        if !all_are_here {
            here.ids.clear();
        }
        let mut ids = BTreeMap::new();
        for name in services {
            let image = self.project.image(name, "-");
            let missing = || Failure::new(format!("services.{name}: no image {image}"));
            ids.insert(*name, here.id_of(&image)?.ok_or_else(missing)?.to_owned());
        }
        Ok(ids)
    }

    fn source(
        &self,
        name: &str,
        service: &Node,
        image: &str,
        here: &mut Here<'_>,
    ) -> Result<Source> {
        let policy = match self.making.pull.as_str() {
            "" | "policy" => text(service, "pull_policy"),
            flag => flag,
        };
        if policy == "daily" || policy == "weekly" || policy.starts_with("every_") {
            return Err(Failure::new(format!(
                "services.{name}.pull_policy: cais compose does not look at the age of images yet: {policy} is not done"
            )));
        }
        let mut is_there = || here.id_of(image).map(|id| id.is_some());
        if service.get("build").is_none() {
            return match policy {
                "always" => Ok(Source::Registry),
                _ if is_there()? => Ok(Source::Here),
                "never" => Err(Failure::new(format!(
                    "services.{name}: no image {image}, and pull_policy is never"
                ))),
                _ => Ok(Source::Registry),
            };
        }
        let is_named = service.get("image").is_some();
        if !self.making.no_build && (self.making.build || policy == "build") {
            return Ok(Source::Build);
        }
        match (policy, self.making.no_build) {
            ("always", false) if is_named => Ok(Source::RegistryOrBuild),
            ("always", true) if is_named => Ok(Source::Registry),
            _ if is_there()? => Ok(Source::Here),
            (_, true) => Err(Failure::new(format!(
                "services.{name}: no image {image}, and it is not to be built"
            ))),
            ("never", false) => Ok(Source::Build),
            _ if is_named => Ok(Source::RegistryOrBuild),
            _ => Ok(Source::Build),
        }
    }
}
