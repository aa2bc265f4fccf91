//! What is to be done: the Dockerfile, which of its stages the target needs, and what each is made
//! from.

use std::collections::BTreeMap;
use std::path::Path;

use cais_dockerfile::dockerignore::{self, Matcher};
use cais_dockerfile::{Dockerfile, Env, Expander, Graph, ParseError, Platform};

use super::{Context, Options};
use crate::error::{Error, Kind, Result};

pub(super) struct Plan {
    pub(super) dockerfile: Dockerfile,
    pub(super) globals: Env,
    pub(super) graph: Graph,
    pub(super) target: usize,
    /// In the order of the file.
    pub(super) needed: Vec<usize>,
    /// The number of each needed stage's first step.
    pub(super) first_steps: BTreeMap<usize, usize>,
    pub(super) build_args: BTreeMap<String, String>,
}

/// What is wrong with a Dockerfile, in the language's own words.
pub(super) fn refused(error: &ParseError) -> Error {
    Error::invalid(error.to_string())
}

impl Plan {
    /// Blocks: reads the Dockerfile and `.dockerignore`.
    pub(super) fn read(context: &Context, options: &Options) -> Result<Self> {
        let name = &options.dockerfile;
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
        Self::of(&text, options)
    }

    fn of(text: &str, options: &Options) -> Result<Self> {
        let dockerfile = Dockerfile::parse(text.as_bytes()).map_err(|error| refused(&error))?;
        // One that has no value is one that the client does not have.
        let given = options.build_args.iter();
        let build_args: BTreeMap<String, String> =
            given.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        let host = Platform::host();
        let platform = match options.platform.as_str() {
            "" => host.clone(),
            text => Platform::parse(text).map_err(Error::invalid)?,
        };
        check_platform(&platform)?;
        let target_name = Some(options.target.as_str()).filter(|name| !name.is_empty());
        let target = dockerfile.target(target_name);
        let target = target.map_err(|fault| Error::invalid(fault.message))?;
        let globals = dockerfile.globals(&host, &platform, target_name, &build_args);
        let globals = globals.map_err(|error| refused(&error))?;
        let graph = dockerfile.graph(&globals).map_err(|error| refused(&error))?;
        let needed = graph.needed_by(target);
        let (mut first_steps, mut steps) = (BTreeMap::new(), 0);
        for index in &needed {
            first_steps.insert(*index, steps);
            let stage = dockerfile.stages.get(*index);
            steps += 1 + stage.map_or(0, |stage| stage.instructions.len());
            if let Some(Some(platform)) = graph.platforms.get(*index) {
                check_platform(platform)?;
            }
        }
        Ok(Self { dockerfile, globals, graph, target, needed, first_steps, build_args })
    }

    pub(super) fn expander(&self) -> Expander {
        self.dockerfile.expander()
    }

    /// The steps as they are written.
    pub(super) fn names(&self) -> Vec<String> {
        let stages = self.needed.iter().filter_map(|index| self.dockerfile.stages.get(*index));
        let names = stages.flat_map(|stage| {
            let steps = stage.instructions.iter().map(|instruction| instruction.code.as_str());
            std::iter::once(stage.code.as_str()).chain(steps)
        });
        names.map(|name| name.trim().to_owned()).collect()
    }
}

/// Nothing runs programs of other machines here.
fn check_platform(platform: &Platform) -> Result<()> {
    let host = Platform::host();
    if platform.os == host.os && platform.architecture == host.architecture {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unsupported,
        format!("building for {platform} is not supported yet: this machine is {host}"),
    ))
}
