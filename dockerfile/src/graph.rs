//! Which stage is built on which, what it copies from, and which stages a target needs.

use std::collections::{BTreeSet, HashMap};

use crate::dockerfile::{Dockerfile, Stage};
use crate::env::Env;
use crate::error::{Fault, ParseError};
use crate::expand::{Expander, Expansion};
use crate::instruction::{Command, Instruction};
use crate::platform::Platform;
use crate::quote::quote;

/// What a FROM names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    Scratch,
    /// A stage above.
    Stage(usize),
    /// As written, variables put in: a named context or an image.
    Image(String),
}

/// Where a COPY or a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Context,
    Scratch,
    Stage(usize),
    /// A named context or an image.
    Image(String),
}

/// The stages of a file with their names resolved; indices are those of [`Dockerfile::stages`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    pub bases: Vec<Base>,
    /// `FROM --platform`; without one the target's platform, or the base stage's.
    pub platforms: Vec<Option<Platform>>,
    /// For each stage, for each of its instructions: one for COPY, one for each mount of RUN.
    pub sources: Vec<Vec<Vec<Source>>>,
}

impl Dockerfile {
    /// `globals` is what [`Dockerfile::globals`] gave.
    ///
    /// # Errors
    /// A base name that is blank, a platform that is none, a stage that needs itself.
    pub fn graph(&self, globals: &Env) -> Result<Graph, ParseError> {
        let expander = self.expander();
        let mut graph = Graph { bases: Vec::new(), platforms: Vec::new(), sources: Vec::new() };
        let mut named: HashMap<&str, usize> = HashMap::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let base = base_name(&expander, stage, globals)
                .map_err(|fault| ParseError::new(stage.range, fault.message))?
                .text;
            graph.bases.push(match named.get(base.as_str()) {
                Some(stage) => Base::Stage(*stage),
                None if base == "scratch" => Base::Scratch,
                None => Base::Image(base),
            });
            let platform = platform(&expander, stage, globals)
                .map_err(|fault| ParseError::new(stage.range, fault.message))?;
            graph.platforms.push(platform.map(|(_, platform)| platform));
            if let Some(name) = &stage.name {
                named.insert(name, index);
            }
        }
        for stage in &self.stages {
            let mut sources = Vec::with_capacity(stage.instructions.len());
            for instruction in &stage.instructions {
                let found = self.sources(instruction);
                sources.push(found.map_err(|why| ParseError::new(instruction.range, why.message))?);
            }
            graph.sources.push(sources);
        }
        graph.refuse_circles(self)?;
        Ok(graph)
    }

    /// Where the instruction takes files from besides its own stage: one for COPY, one for each mount of RUN, none
    /// for others.
    pub fn sources(&self, instruction: &Instruction) -> Result<Vec<Source>, Fault> {
        if let Command::Copy(copy) = &instruction.command {
            return Ok(vec![self.copy_source(&copy.from)?]);
        }
        let Command::Run(run) = &instruction.command else { return Ok(Vec::new()) };
        Ok(run.mounts.iter().map(|mount| self.named_source(&mount.from)).collect())
    }

    /// Refuses an instruction that copies from its own stage or one below: to be asked of the stages that are built.
    ///
    /// # Errors
    /// `cannot copy from stage "b", it needs to be defined before current stage "a"`
    pub fn refuse_later(&self, stage: usize, instruction: &Instruction) -> Result<(), Fault> {
        let sources = self.sources(instruction)?;
        let later = |source: &Source| matches!(source, Source::Stage(other) if *other >= stage);
        let Some(index) = sources.iter().position(later) else { return Ok(()) };
        if let Command::Copy(copy) = &instruction.command {
            let name = self.stage_names().into_iter().nth(stage).unwrap_or_default();
            return Err(Fault::at(
                &copy.from,
                format!(
                    "cannot copy from stage {}, it needs to be defined before current stage {}",
                    quote(&copy.from),
                    quote(&name)
                ),
            ));
        }
        let Command::Run(run) = &instruction.command else { return Ok(()) };
        let mount = &run.mounts[index];
        Err(Fault::at(
            &mount.text,
            format!(
                "cannot mount from stage {} to {}, stage needs to be defined before current command",
                quote(&mount.from),
                quote(&mount.resolve(&mut |word| Ok(word.to_owned())).unwrap_or_default().target)
            ),
        ))
    }

    /// A number is a stage's index; a word is looked for among all stages, those below too.
    fn copy_source(&self, from: &str) -> Result<Source, Fault> {
        if from.is_empty() {
            return Ok(Source::Context);
        }
        let expanded = Expander::new(self.directives.escape).expand(from, &Env::new())?;
        if expanded != from {
            return Err(Fault::at(
                from,
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            ));
        }
        let Ok(index) = from.parse::<i64>() else { return Ok(self.named_source(from)) };
        match usize::try_from(index) {
            Ok(stage) if stage < self.stages.len() => Ok(Source::Stage(stage)),
            _ => Err(Fault::at(from, format!("invalid stage index {index}"))),
        }
    }

    fn named_source(&self, from: &str) -> Source {
        match self.stage_named(from) {
            _ if from.is_empty() => Source::Context,
            Some(stage) => Source::Stage(stage),
            None if from == "scratch" => Source::Scratch,
            None => Source::Image(from.to_owned()),
        }
    }
}

pub(crate) fn base_name(
    expander: &Expander,
    stage: &Stage,
    globals: &Env,
) -> Result<Expansion, Fault> {
    let expansion = expander.expansion(&stage.base, globals)?;
    if expansion.text.is_empty() {
        return Err(Fault::at(
            &stage.base,
            format!("base name ({}) should not be blank", stage.base),
        ));
    }
    Ok(expansion)
}

/// The platform with the text that it was read from.
pub(crate) fn platform(
    expander: &Expander,
    stage: &Stage,
    globals: &Env,
) -> Result<Option<(Expansion, Platform)>, Fault> {
    let Some(written) = &stage.platform else { return Ok(None) };
    let expansion = expander.expansion(written, globals).map_err(|why| {
        Fault::at(written, format!("failed to process arguments for platform : {why}"))
    })?;
    let names = globals.names();
    let hint = expansion
        .unset
        .iter()
        .map(|name| {
            crate::suggest::hint(name, names.iter().copied(), crate::suggest::Case::Matters)
        })
        .find(|hint| !hint.is_empty())
        .unwrap_or_default();
    if expansion.text.is_empty() {
        return Err(Fault::at(
            written,
            format!("empty platform value from expression {written}{hint}"),
        ));
    }
    match Platform::parse(&expansion.text) {
        Ok(platform) => Ok(Some((expansion, platform))),
        Err(why) => {
            Err(Fault::at(written, format!("failed to parse platform {written}: {why}{hint}")))
        }
    }
}

impl Graph {
    /// The stages that the target needs and the target itself, in the order of the file.
    pub fn needed_by(&self, target: usize) -> Vec<usize> {
        let mut needed = BTreeSet::new();
        let mut open = vec![target];
        while let Some(stage) = open.pop() {
            if needed.insert(stage) {
                open.extend(self.dependencies(stage).map(|(stage, _)| stage));
            }
        }
        needed.into_iter().collect()
    }

    /// With the index of the instruction that needs it; the base has none.
    fn dependencies(&self, stage: usize) -> impl Iterator<Item = (usize, Option<usize>)> + '_ {
        let base = match self.bases.get(stage) {
            Some(Base::Stage(base)) => Some((*base, None)),
            _ => None,
        };
        let sources = self.sources.get(stage).into_iter().flatten().enumerate();
        let copied = sources.flat_map(|(instruction, sources)| {
            sources.iter().filter_map(move |source| match source {
                Source::Stage(stage) => Some((*stage, Some(instruction))),
                Source::Context | Source::Scratch | Source::Image(_) => None,
            })
        });
        base.into_iter().chain(copied)
    }

    /// A base stands always above, so that only copies can lead round.
    fn refuse_circles(&self, file: &Dockerfile) -> Result<(), ParseError> {
        let mut states = vec![Visit::New; self.bases.len()];
        for start in 0..states.len() {
            if states[start] != Visit::New {
                continue;
            }
            states[start] = Visit::Open;
            let mut path = vec![(start, self.copied_from(start))];
            while let Some((stage, rest)) = path.last_mut() {
                let stage = *stage;
                let Some((next, range)) = rest.pop() else {
                    states[stage] = Visit::Done;
                    path.pop();
                    continue;
                };
                match states[next] {
                    Visit::Done => {}
                    Visit::New => {
                        states[next] = Visit::Open;
                        path.push((next, self.copied_from(next)));
                    }
                    Visit::Open => {
                        let names = file.stage_names();
                        let range = file.stages[stage].instructions[range].range;
                        return Err(ParseError::new(
                            range,
                            format!("circular dependency detected on stage: {}", names[start]),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn copied_from(&self, stage: usize) -> Vec<(usize, usize)> {
        let copied = self.dependencies(stage);
        copied.filter_map(|(stage, instruction)| Some((stage, instruction?))).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(source: &str) -> Result<Graph, String> {
        let file = Dockerfile::parse(source.as_bytes()).unwrap();
        let globals = Env::from_pairs(["V=12", "EMPTY="]);
        file.graph(&globals).map_err(|error| error.message)
    }

    #[test]
    fn a_base_is_a_stage_above_or_an_image() {
        let graph = graph("FROM a:$V AS one\nFROM one\nFROM two AS two\nFROM scratch").unwrap();
        assert_eq!(
            graph.bases,
            [
                Base::Image("a:12".to_owned()),
                Base::Stage(0),
                Base::Image("two".to_owned()),
                Base::Scratch
            ]
        );
    }

    #[test]
    fn stages_that_the_target_does_not_need_are_left_out() {
        let source = "FROM a AS one\nFROM a AS two\nFROM one AS three\nCOPY --from=TWO /x /\n\
                      FROM a AS four\nRUN --mount=from=one,target=/x true\nCOPY --from=b /x /";
        let graph = graph(source).unwrap();
        assert_eq!(graph.needed_by(2), [0, 1, 2]);
        assert_eq!(graph.needed_by(3), [0, 3]);
        assert_eq!(graph.sources[3][1], [Source::Image("b".to_owned())]);
    }

    #[test]
    fn what_cannot_be_resolved_says_why() {
        for (source, message) in [
            ("FROM $EMPTY", "base name ($EMPTY) should not be blank"),
            ("FROM a\nCOPY --from=3 /x /", "invalid stage index 3"),
            (
                "FROM a AS x\nCOPY --from=y /a /\nFROM a AS y\nCOPY --from=x /a /",
                "circular dependency detected on stage: x",
            ),
            ("FROM a AS x\nCOPY --from=0 /a /", "circular dependency detected on stage: x"),
            ("FROM --platform=$EMPTY a", "empty platform value from expression $EMPTY"),
            (
                "FROM --platform=$EMTY a",
                "empty platform value from expression $EMTY (did you mean EMPTY?)",
            ),
        ] {
            assert_eq!(graph(source).unwrap_err(), message, "{source}");
        }
    }

    #[test]
    fn a_stage_below_is_found_and_refused_when_it_is_used() {
        let file = Dockerfile::parse(b"FROM a\nCOPY --from=y /a /\nFROM a AS y").unwrap();
        assert_eq!(
            file.refuse_later(0, &file.stages[0].instructions[0]).unwrap_err().message,
            "cannot copy from stage \"y\", it needs to be defined before current stage \"stage-0\""
        );
    }
}
