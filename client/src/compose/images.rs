//! The images of services: there before their containers are made.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use cais_compose::{Node, Project};

use super::build::Builder;
use super::containers::at_once;
use super::making::Making;
use super::registry::{self, Known};
use super::resources::text;
use crate::Cais;
use crate::client::IMAGINED;
use crate::error::{Failure, Result};
use crate::{output, units};

pub(super) struct Images<'a> {
    pub(super) cais: &'a Cais,
    pub(super) project: &'a Project,
    pub(super) making: &'a Making,
}

/// What was asked of images: many services have the same one.
struct Here<'a> {
    cais: &'a Cais,
    images: BTreeMap<String, Option<Known>>,
}

impl Here<'_> {
    fn id_of(&mut self, image: &str) -> Result<Option<&str>> {
        Ok(self.look(image)?.map(|it| it.id.as_str()))
    }

    fn look(&mut self, image: &str) -> Result<Option<&Known>> {
        if !self.images.contains_key(image) {
            self.images.insert(image.to_owned(), registry::known(self.cais, image)?);
        }
        Ok(self.images.get(image).and_then(Option::as_ref))
    }

    /// Whether it is not here, or got its name more than these seconds ago.
    fn is_due(&mut self, image: &str, age: i64) -> Result<bool> {
        let now = units::now();
        Ok(self.look(image)?.is_none_or(|it| now >= it.tagged_at.saturating_add(age)))
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
        let mut here = Here { cais: self.cais, images: BTreeMap::new() };
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
            built: RefCell::default(),
        };
        to_build.iter().try_for_each(|name| builder.build(name, &mut io::stderr()))?;
        if !all_are_here {
            here.images.clear();
        }
        let mut ids = BTreeMap::new();
        for name in services {
            let image = self.project.image(name, "-");
            let missing = || Failure::new(format!("services.{name}: no image {image}"));
            let id = match here.id_of(&image)? {
                // It would have been pulled or built.
                None if self.cais.client.is_dry() => IMAGINED,
                id => id.ok_or_else(missing)?,
            };
            ids.insert(*name, id.to_owned());
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
        let age = age_of(policy).map_err(|why| {
            Failure::new(format!("services.{name}.pull_policy: {policy:?}: {why}"))
        })?;
        // A name that only a build gives is in no registry.
        let is_named = service.get("image").is_some();
        let policy = match age {
            Some(age) if is_named && here.is_due(image, age)? => "always",
            Some(_) => "missing",
            None => policy,
        };
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

/// The seconds after which a policy has an image pulled again; `None` for one that does not ask for its age.
fn age_of(policy: &str) -> std::result::Result<Option<i64>, String> {
    const DAY: i64 = 24 * 60 * 60;
    let mut rest = match policy {
        "daily" => return Ok(Some(DAY)),
        "weekly" => return Ok(Some(7 * DAY)),
        other => match other.strip_prefix("every_") {
            Some(span) => span,
            None => return Ok(None),
        },
    };
    let refuse = || "a span is numbers with their units, as 1w2d12h: w, d, h, m and s".to_owned();
    if rest.is_empty() {
        return Err(refuse());
    }
    let mut seconds = 0_i64;
    while !rest.is_empty() {
        let at = rest.find(|it: char| !it.is_ascii_digit()).ok_or_else(refuse)?;
        let number: i64 = rest[..at].parse().map_err(|_| refuse())?;
        let unit = match rest.as_bytes()[at] {
            b'w' => 7 * DAY,
            b'd' => DAY,
            b'h' => 60 * 60,
            b'm' => 60,
            b's' => 1,
            _ => return Err(refuse()),
        };
        let more = number.checked_mul(unit).and_then(|it| it.checked_add(seconds));
        seconds = more.ok_or_else(refuse)?;
        rest = &rest[at + 1..];
    }
    Ok(Some(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_may_say_how_old_an_image_may_be() {
        for (policy, expected) in [
            ("daily", Some(86_400)),
            ("weekly", Some(604_800)),
            ("every_12h", Some(43_200)),
            ("every_1w2d3h4m5s", Some(604_800 + 172_800 + 10_800 + 240 + 5)),
            ("every_0s", Some(0)),
            ("missing", None),
            ("refresh", None),
            ("", None),
        ] {
            assert_eq!(age_of(policy), Ok(expected), "{policy}");
        }
        for wrong in
            ["every_", "every_5", "every_h", "every_5y", "every_-1d", "every_99999999999999w"]
        {
            assert!(age_of(wrong).unwrap_err().contains("numbers with their units"), "{wrong}");
        }
    }
}
