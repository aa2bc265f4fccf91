//! What is to be done: the Dockerfile, which of its stages the target needs, and what each is made
//! from.

use std::collections::BTreeMap;
use std::path::Path;

use cais_dockerfile::dockerignore::{self, Matcher};
use cais_dockerfile::{
    Base, Command, Dockerfile, Env, Expander, Graph, Instruction, ParseError, Platform,
};

use super::progress::{Failure, Step};
use super::{Context, Options};
use crate::error::{Error, Kind, Result};
use crate::image::platform::Platform as ImagePlatform;

pub(super) struct Plan {
    pub(super) dockerfile: Dockerfile,
    pub(super) globals: Env,
    pub(super) graph: Graph,
    pub(super) target: usize,
    /// In the order of the file.
    pub(super) needed: Vec<usize>,
    /// What the target is for, and the images that are copied from.
    pub(super) platform: Platform,
    /// What each needed stage is for.
    pub(super) platforms: BTreeMap<usize, Platform>,
    /// The number of each needed stage's first step.
    pub(super) first_steps: BTreeMap<usize, usize>,
    pub(super) build_args: BTreeMap<String, String>,
}

/// What is wrong with a Dockerfile, in the language's own words, and where.
pub(super) fn refused(error: &ParseError) -> Failure {
    Failure::from(Error::invalid(error.to_string())).at(error.range)
}

/// The text of a Dockerfile that was sent with the context; blocks. What is to be ignored of the two
/// files that clients send all the same is hidden.
pub(super) fn dockerfile_of(context: &Context, name: &str) -> Result<String> {
    let missing = || Error::invalid(format!("Cannot locate specified Dockerfile: {name}"));
    let text = context.text(name)?.ok_or_else(missing)?;
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("the Dockerfile ({name}) cannot be empty")));
    }
    if let Some(ignored) = context.ignore_text()? {
        let matcher = Matcher::new(&dockerignore::parse(ignored.as_bytes()));
        let matcher = matcher.map_err(Error::invalid)?;
        let is_ignored = |path: &Path| matcher.is_ignored(&path.to_string_lossy());
        context.hide(name, &is_ignored)?;
    }
    Ok(text)
}

impl Plan {
    pub(super) fn of(text: &str, options: &Options) -> Result<Self, Failure> {
        let mut dockerfile = Dockerfile::parse(text.as_bytes()).map_err(|error| refused(&error))?;
        let build_args = options.given_args();
        let host = Platform::host();
        let platform = Platform::or_host(&options.platform).map_err(Error::invalid)?;
        let target_name = Some(options.target.as_str()).filter(|name| !name.is_empty());
        let target = dockerfile.target(target_name);
        let target = target.map_err(|fault| Error::invalid(fault.message))?;
        let globals = dockerfile.globals(&host, &platform, target_name, &build_args);
        let globals = globals.map_err(|error| refused(&error))?;
        let mut graph = dockerfile.graph(&globals).map_err(|error| refused(&error))?;
        replace_stages(&mut dockerfile, &mut graph, options, &platform);
        let needed = graph.needed_by(target);
        let mut platforms: BTreeMap<usize, Platform> = BTreeMap::new();
        let (mut first_steps, mut steps) = (BTreeMap::new(), 0);
        for index in &needed {
            first_steps.insert(*index, steps);
            let stage = dockerfile.stages.get(*index);
            steps += 1 + stage.map_or(0, |stage| stage.instructions.len());
            // A flag of FROM says which image is taken, and nothing of what is no image.
            let own = match graph.bases.get(*index) {
                Some(Base::Image(_)) => graph.platforms.get(*index).cloned().flatten(),
                Some(Base::Stage(base)) => platforms.get(base).cloned(),
                Some(Base::Scratch) | None => None,
            };
            let own = own.unwrap_or_else(|| platform.clone());
            let instructions = stage.map(|stage| stage.instructions.as_slice()).unwrap_or_default();
            let is_run = |it: &&Instruction| matches!(it.command, Command::Run(_));
            check_system(&own)?;
            if let Some(run) = instructions.iter().find(is_run) {
                runs_here(&own).map_err(|error| Failure::from(error).at(run.range))?;
            }
            platforms.insert(*index, own);
        }
        Ok(Self {
            dockerfile,
            globals,
            graph,
            target,
            needed,
            platform,
            platforms,
            first_steps,
            build_args,
        })
    }

    pub(super) fn expander(&self) -> Expander {
        self.dockerfile.expander()
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.needed.iter().flat_map(|index| self.steps_of(*index)).collect()
    }

    /// As FROM has it, or by its place.
    pub(super) fn stage_name(&self, index: usize) -> String {
        let stage = self.dockerfile.stages.get(index);
        stage.and_then(|stage| stage.name.clone()).unwrap_or_else(|| format!("stage-{index}"))
    }

    /// BuildKit counts the steps that make something: an image that is taken, and a layer.
    fn steps_of(&self, index: usize) -> Vec<Step> {
        let Some(stage) = self.dockerfile.stages.get(index) else { return Vec::new() };
        let takes_image = matches!(self.graph.bases.get(index), Some(Base::Image(_)));
        let made = stage.instructions.iter().map(|instruction| {
            let makes_layer = matches!(
                instruction.command,
                Command::Add(_) | Command::Copy(_) | Command::Run(_) | Command::Workdir(_)
            );
            (instruction.code.trim().to_owned(), makes_layer)
        });
        let all: Vec<(String, bool)> =
            std::iter::once((stage.code.trim().to_owned(), takes_image)).chain(made).collect();
        let name = match self.dockerfile.stages.len() {
            1 => String::new(),
            _ => self.stage_name(index),
        };
        let count = all.iter().filter(|(_, counts)| *counts).count();
        let mut number = 0;
        let step = |(text, counts): (String, bool)| {
            number += usize::from(counts);
            Step { text, stage: name.clone(), place: counts.then_some((number, count)) }
        };
        all.into_iter().map(step).collect()
    }
}

/// A stage whose name means something of the client's is that, and nothing that the Dockerfile says of it.
fn replace_stages(
    dockerfile: &mut Dockerfile,
    graph: &mut Graph,
    options: &Options,
    platform: &Platform,
) {
    let parts = graph.bases.iter_mut().zip(&mut graph.sources).zip(&graph.platforms);
    for (stage, ((base, sources), own)) in dockerfile.stages.iter_mut().zip(parts) {
        let Some(name) = &stage.name else { continue };
        if options.named.find(name, own.as_ref().unwrap_or(platform)).is_some() {
            *base = Base::Image(name.clone());
            sources.clear();
            stage.instructions.clear();
        }
    }
}

/// As images name it.
pub(crate) fn image_platform(platform: &Platform) -> ImagePlatform {
    let variant = Some(platform.variant.as_str()).filter(|variant| !variant.is_empty());
    ImagePlatform::new(&platform.architecture, variant)
}

fn check_system(platform: &Platform) -> Result<()> {
    let host = Platform::host();
    match platform.os == host.os {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Unsupported,
            format!("building for {platform} is not supported: this machine is {host}"),
        )),
    }
}

/// Nothing runs programs of other machines here.
///
/// # Errors
/// `Unsupported` for another processor.
pub(super) fn runs_here(platform: &Platform) -> Result<()> {
    let host = Platform::host();
    match platform.architecture == host.architecture {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Unsupported,
            format!(
                "RUN in a stage for {platform} is not supported yet: this machine is {host}, and programs of \
                 others are not emulated (FROM --platform=$BUILDPLATFORM is a stage that runs here)"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Names;
    use crate::engine::cells::{CellConfig, CellNetwork};

    fn options() -> Options {
        Options {
            dockerfile: String::new(),
            target: String::new(),
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            tags: Vec::new(),
            is_without_cache: false,
            stages_without_cache: Vec::new(),
            named: Names::default(),
            pulls: false,
            network: CellNetwork::Default,
            allows_insecure: false,
            cells: CellConfig::default(),
            platform: "linux/s390x".to_owned(),
            caches: Vec::new(),
            has_inline_cache: false,
        }
    }

    #[test]
    fn a_stage_that_a_client_names_needs_nothing_of_the_dockerfile() {
        let mut options = options();
        options.named.add("Base", None, crate::builder::Named::Image("busybox".to_owned()));
        let text = "\
FROM none AS below
FROM below AS base
COPY --from=below /a /
RUN true
FROM base
";
        // Another machine's: a RUN that stayed would be refused.
        let refused = Plan::of(text, &options).map(drop).map_err(|failure| failure.error);
        assert_eq!(refused.unwrap_err().kind(), Kind::Unsupported);
        options.named.add("base", None, crate::builder::Named::Files("base".to_owned()));
        let plan = Plan::of(text, &options).map_err(|failure| failure.error).unwrap();
        assert_eq!(plan.needed, [1, 2]);
        assert_eq!(plan.graph.bases[1], Base::Image("base".to_owned()));
        assert_eq!(plan.steps().len(), 2);
    }

    #[test]
    fn the_platform_of_a_stage_is_that_of_its_image() {
        let options = options();
        let text = "\
FROM --platform=linux/riscv64 busybox AS tools
FROM --platform=linux/ppc64le tools AS more
FROM --platform=linux/riscv64 scratch AS empty
FROM busybox
COPY --from=more /a /
COPY --from=empty /b /
";
        let plan = Plan::of(text, &options).map_err(|failure| failure.error).unwrap();
        let platforms: Vec<String> = plan.platforms.values().map(Platform::to_string).collect();
        assert_eq!(platforms, ["linux/riscv64", "linux/riscv64", "linux/s390x", "linux/s390x"]);
        assert_eq!(plan.platform.to_string(), "linux/s390x");
    }
}
