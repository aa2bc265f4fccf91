//! The stages, one after the other, as a build would take them.

use crate::dockerfile::Dockerfile;
use crate::env::{self, Env};
use crate::error::{ParseError, Range};
use crate::graph::{Base, Graph, Source};
use crate::platform::Platform;
use crate::quote::quote;
use crate::reference;
use crate::scope::Scope;

use super::rules;
use super::walk::Walk;
use super::{BaseImage, Linter, Request};

pub(super) fn check(
    linter: &mut Linter,
    file: &Dockerfile,
    request: &Request<'_>,
    globals: &Env,
) -> Result<(), ParseError> {
    let target = file.target(request.target);
    let target = target.map_err(|why| ParseError::new(Range::default(), why.message))?;
    let graph = file.graph(globals)?;
    let checked = match request.target.filter(|name| !name.is_empty()) {
        Some(_) => graph.needed_by(target),
        None => (0..file.stages.len()).collect(),
    };
    for index in &checked {
        check_platform(linter, request, file, &graph, *index);
    }
    check_references(file, &graph)?;
    let built = graph.needed_by(target);
    let mut done: Vec<Option<Stage>> = Vec::new();
    done.resize_with(file.stages.len(), || None);
    for index in checked {
        let below = match &graph.bases[index] {
            Base::Stage(base) => done[*base].as_ref(),
            Base::Scratch | Base::Image(_) => None,
        };
        let begun = match below {
            Some(base) => base.child(),
            None => {
                Stage::on(base_image(request, &graph, index), platform_of(request, &graph, index))
            }
        };
        // Triggers are pulled by a build alone.
        let begun = if built.contains(&index) { begun } else { begun.without_triggers() };
        let mut walk = Walk { linter, file, request, globals, index, stage: begun };
        walk.stage()?;
        done[index] = Some(walk.stage);
    }
    Ok(())
}

/// All names of images are read, of stages that are not built too.
fn check_references(file: &Dockerfile, graph: &Graph) -> Result<(), ParseError> {
    let refuse = |name: &str, range| match reference::check(name) {
        Ok(()) => Ok(()),
        Err(why) => {
            let message = format!("failed to parse stage name {}: {why}", quote(name));
            Err(ParseError::new(range, message))
        }
    };
    for (base, stage) in graph.bases.iter().zip(&file.stages) {
        if let Base::Image(name) = base {
            refuse(name, stage.range)?;
        }
    }
    for (sources, stage) in graph.sources.iter().zip(&file.stages) {
        for (sources, instruction) in sources.iter().zip(&stage.instructions) {
            for source in sources {
                if let Source::Image(name) = source {
                    refuse(name, instruction.range)?;
                }
            }
        }
    }
    Ok(())
}

/// What is known after some of a stage's instructions.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) scope: Scope,
    pub(super) shell: Vec<String>,
    pub(super) workdir: String,
    pub(super) has_workdir: bool,
    /// Triggers of the image or stage that this one is built on.
    pub(super) triggers: Vec<String>,
    /// The triggers that this stage leaves for the one built on it.
    pub(super) onbuild: Vec<String>,
    /// Where the last CMD, ENTRYPOINT and HEALTHCHECK stand.
    pub(super) last: [Option<Range>; 3],
}

impl Stage {
    fn on(image: BaseImage, platform: &Platform) -> Self {
        let mut env = image.env;
        env::add_path(&mut env, &platform.os);
        Self {
            scope: Scope::new(Env::from_pairs(env)),
            shell: image.shell,
            workdir: image.workdir,
            triggers: image.onbuild,
            ..Self::default()
        }
    }

    fn without_triggers(self) -> Self {
        Self { triggers: Vec::new(), ..self }
    }

    fn child(&self) -> Self {
        Self {
            scope: self.scope.child(),
            shell: self.shell.clone(),
            workdir: self.workdir.clone(),
            has_workdir: self.has_workdir,
            triggers: self.onbuild.clone(),
            onbuild: Vec::new(),
            last: [None; 3],
        }
    }
}

fn platform_of<'a>(request: &'a Request<'_>, graph: &'a Graph, index: usize) -> &'a Platform {
    graph.platforms[index].as_ref().unwrap_or(&request.target_platform)
}

/// What is known of the image that a stage is built on; of none nothing is.
fn base_image(request: &Request<'_>, graph: &Graph, index: usize) -> BaseImage {
    let Base::Image(name) = &graph.bases[index] else { return BaseImage::default() };
    (request.image)(name, platform_of(request, graph, index)).unwrap_or_default()
}

/// All images are looked at before the first instruction is.
fn check_platform(
    linter: &mut Linter,
    request: &Request<'_>,
    file: &Dockerfile,
    graph: &Graph,
    index: usize,
) {
    let Base::Image(name) = &graph.bases[index] else { return };
    if reference::check(name).is_err() {
        return;
    }
    let expected = platform_of(request, graph, index);
    let Some(BaseImage { platform: actual, .. }) = (request.image)(name, expected) else { return };
    if (&expected.os, &expected.architecture) != (&actual.os, &actual.architecture) {
        let message = format!(
            "Base image {name} was pulled with platform {}, expected {} for current build",
            quote(&actual.normal().to_string()),
            quote(&expected.normal().to_string())
        );
        let rule = &rules::INVALID_BASE_IMAGE_PLATFORM;
        linter.warn(rule, file.stages[index].range, &[], message);
    }
}
