//! `compose pull` and `push`.

use std::collections::BTreeSet;

use cais_compose::{Node, Project};
use clap::Args;

use super::containers::at_once;
use super::resources::text;
use super::{Files, order};
use crate::Cais;
use crate::client::Path;
use crate::commands::pull::{Pulling, Pushing};
use crate::error::{Failure, Result};
use crate::{output, progress, units};

/// Pull service images
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Pull {
    /// Ignore images that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Pull what it can and ignores images with pull failures
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Also pull services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Apply pull policy ("missing"|"always")
    #[arg(long, default_value = "", hide_default_value = true)]
    policy: String,
    /// Pull without printing progress information; nothing is printed but that it was pulled
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Pull {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        if !matches!(self.policy.as_str(), "" | "missing" | "always") {
            return Err(Failure::new(format!("invalid --policy option {:?}", self.policy)));
        }
        let project = files.project(&files.options()?, &self.service)?;
        let only = if self.include_deps { &[] } else { self.service.as_slice() };
        let mut wanted = Vec::new();
        let mut images = BTreeSet::new();
        for name in order::order(&project, only) {
            let Some(service) = project.service(name) else { continue };
            let can_build = service.get("build").is_some();
            let Some(image) = service.get("image").and_then(Node::as_text) else { continue };
            let policy = match self.policy.as_str() {
                "" => text(service, "pull_policy"),
                flag => flag,
            };
            let is_left_out = can_build && self.ignore_buildable
                || matches!(policy, "never" | "build")
                || policy == "missing" && known(cais, image)?.is_some();
            if !is_left_out && images.insert(image) {
                wanted.push((name, image, text(service, "platform"), can_build));
            }
        }
        at_once(&wanted, |(name, image, platform, can_build)| {
            match pull(cais, name, image, platform) {
                Err(failure) if *can_build || self.ignore_pull_failures => {
                    output::notice(&format!("warning: {name}: {failure}"));
                    Ok(())
                }
                other => other,
            }
        })
    }
}

/// An image that is here.
pub(super) struct Known {
    pub(super) id: String,
    /// When it got a name last, in seconds since the epoch; 0 if that is not known.
    pub(super) tagged_at: i64,
}

pub(super) fn known(cais: &Cais, image: &str) -> Result<Option<Known>> {
    match cais.client.read(Path::new(&["images", image, "json"])) {
        Ok(known) => Ok(Some(Known {
            id: known["Id"].text().to_owned(),
            tagged_at: units::unix_seconds(known["Metadata"]["LastTagTime"].text()).max(0),
        })),
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}

pub(super) fn pull(cais: &Cais, name: &str, image: &str, platform: &str) -> Result<()> {
    let pulling = Pulling { image, platform, all_tags: false };
    progress::quietly(pulling.begin(cais)?.body)?;
    output::notice(&format!(" {name}  Pulled"));
    Ok(())
}

/// Push service images
#[derive(Debug, Args)]
pub(super) struct Push {
    /// Push what it can and ignores images with push failures
    #[arg(long)]
    ignore_push_failures: bool,
    /// Also push images of services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Push without printing progress information; nothing is printed but that it was pushed
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Push {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let project = files.project(&files.options()?, &self.service)?;
        let only = if self.include_deps { &[] } else { self.service.as_slice() };
        for name in order::order(&project, only) {
            match push(cais, &project, name) {
                Err(failure) if self.ignore_push_failures => {
                    output::notice(&format!("warning: {name}: {failure}"));
                }
                other => other?,
            }
        }
        Ok(())
    }
}

/// Pushes what was built for a service under the name that it has in the files, and its other tags.
pub(super) fn push(cais: &Cais, project: &Project, name: &str) -> Result<()> {
    let service = project.service(name);
    let (Some(build), Some(image)) =
        (service.and_then(|it| it.get("build")), service.and_then(|it| it.get("image")?.as_text()))
    else {
        return Ok(());
    };
    let tags = build.get("tags").and_then(Node::as_list).unwrap_or_default();
    for image in [image].into_iter().chain(tags.iter().filter_map(Node::as_text)) {
        let pushing = Pushing { image, platform: "", all_tags: false };
        progress::quietly(pushing.begin(cais)?.body)?;
        output::notice(&format!(" {name}  Pushed {image}"));
    }
    Ok(())
}
