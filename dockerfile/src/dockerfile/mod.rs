//! A whole file: its stages, and the arguments above them.

use std::collections::{BTreeMap, HashMap};

use crate::env::Env;
use crate::error::{Fault, ParseError, Range};
use crate::expand::Expander;
use crate::instruction::{Command, Instruction, Understood, understand};
use crate::platform::Platform;
use crate::quote::quote;
use crate::suggest::{Case, hint};
use crate::syntax::directives::{self, Directives};
use crate::syntax::{self, Node};

/// A Dockerfile that was read. It has at least one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    pub directives: Directives,
    /// The ARG instructions above the first FROM.
    pub global_args: Vec<Instruction>,
    pub stages: Vec<Stage>,
    /// The last lines of instructions that have an empty continuation line.
    pub empty_continuations: Vec<usize>,
    /// Of stages with the same name the last.
    named: HashMap<String, usize>,
}

/// From one FROM to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// In lower case.
    pub name: Option<String>,
    /// As written: a stage above, `scratch` or an image; variables are the global arguments.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    pub instructions: Vec<Instruction>,
    /// `FROM` as it is written.
    pub keyword: String,
    /// The line of FROM.
    pub code: String,
    /// Of the FROM alone.
    pub range: Range,
    /// The comment lines directly above FROM, without `#`.
    pub comments: Vec<String>,
    /// Of a comment above: `# name what it is for`.
    pub description: Option<String>,
}

/// What is met while a file is read.
pub(crate) enum Event<'a> {
    /// The last line of the instruction.
    EmptyContinuation(usize),
    Instruction(&'a Node),
    Understood(&'a Node, &'a Understood),
}

impl Dockerfile {
    /// Bytes that are no UTF-8 become replacement characters.
    ///
    /// # Errors
    /// What BuildKit refuses, with its words.
    pub fn parse(source: &[u8]) -> Result<Self, ParseError> {
        Self::parse_watched(source, &mut |_| {})
    }

    /// The same; `watch` is told of each instruction, up to the one that is wrong.
    pub(crate) fn parse_watched(
        source: &[u8],
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self, ParseError> {
        let source = String::from_utf8_lossy(source);
        if source.is_empty() {
            return Err(ParseError::new(Range::default(), "the Dockerfile cannot be empty"));
        }
        let nodes = syntax::parse(&source)?;
        let directives = Directives {
            syntax: directives::syntax(&source),
            escape: nodes.escape,
            check: directives::find(&source, "check").map(str::to_owned),
        };
        let mut file = Self {
            directives,
            global_args: Vec::new(),
            stages: Vec::new(),
            empty_continuations: nodes.empty_continuations,
            named: HashMap::new(),
        };
        for last in &file.empty_continuations {
            watch(Event::EmptyContinuation(*last));
        }
        for node in nodes.nodes {
            watch(Event::Instruction(&node));
            let understood = understand(&node).map_err(|fault| refused(&fault, &node, &source))?;
            watch(Event::Understood(&node, &understood));
            file.add(node, understood)?;
        }
        if file.stages.is_empty() {
            return Err(ParseError::new(
                Range::default(),
                "dockerfile contains no stages to build",
            ));
        }
        Ok(file)
    }

    fn add(&mut self, node: Node, understood: Understood) -> Result<(), ParseError> {
        let Node { keyword, original, range, comments, .. } = node;
        let code = original.trim().to_owned();
        let command = match understood {
            Understood::Command(command) => command,
            Understood::From(from) => {
                let description = from
                    .name
                    .as_ref()
                    .and_then(|name| crate::instruction::description(&comments, name));
                if let Some(name) = &from.name {
                    self.named.insert(name.clone(), self.stages.len());
                }
                self.stages.push(Stage {
                    name: from.name,
                    base: from.base,
                    platform: from.platform,
                    instructions: Vec::new(),
                    keyword,
                    code,
                    range,
                    comments,
                    description,
                });
                return Ok(());
            }
        };
        let instruction = Instruction { keyword, code, range, comments, command };
        match (self.stages.last_mut(), &instruction.command) {
            (Some(stage), _) => stage.instructions.push(instruction),
            (None, Command::Arg(_)) => self.global_args.push(instruction),
            (None, _) => {
                return Err(ParseError::new(range, "no build stage in current context"));
            }
        }
        Ok(())
    }

    /// Reads words with the file's escape character.
    pub fn expander(&self) -> Expander {
        Expander::new(self.directives.escape)
    }

    /// The stage with this name, in any case, as COPY and `--target` look for it; of two the later.
    pub fn stage_named(&self, name: &str) -> Option<usize> {
        self.named.get(&name.to_lowercase()).copied()
    }

    /// The stage to build: by name, or the last.
    ///
    /// # Errors
    /// `target stage "relase" could not be found (did you mean release?)`
    pub fn target(&self, name: Option<&str>) -> Result<usize, Fault> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(self.stages.len() - 1);
        };
        self.stage_named(name).ok_or_else(|| {
            let names = self.stage_names();
            let hint = hint(name, names.iter().map(String::as_str), Case::Matters);
            format!("target stage {} could not be found{hint}", quote(name)).into()
        })
    }

    /// The names as displays show them; a stage without one is `stage-0`.
    pub fn stage_names(&self) -> Vec<String> {
        let stages = self.stages.iter().enumerate();
        stages
            .map(|(index, stage)| stage.name.clone().unwrap_or_else(|| format!("stage-{index}")))
            .collect()
    }

    /// What FROM is expanded with, and what an `ARG name` without a default takes in a stage: the platforms, the
    /// target's name, and the arguments above the first FROM, each with the value of `build_args` if it has one.
    pub fn globals(
        &self,
        build: &Platform,
        target: &Platform,
        target_stage: Option<&str>,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Env, ParseError> {
        let mut env = self.predefined(build, target, target_stage, build_args);
        self.add_global_args(&mut env, build_args)?;
        Ok(env)
    }

    /// The same as if the client had given no values for the arguments above the first FROM.
    pub(crate) fn default_globals(
        &self,
        build: &Platform,
        target: &Platform,
        target_stage: Option<&str>,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Env, ParseError> {
        let mut env = self.predefined(build, target, target_stage, build_args);
        self.add_global_args(&mut env, &BTreeMap::new())?;
        Ok(env)
    }

    fn predefined(
        &self,
        build: &Platform,
        target: &Platform,
        target_stage: Option<&str>,
        build_args: &BTreeMap<String, String>,
    ) -> Env {
        let last = self.stages.last().and_then(|stage| stage.name.as_deref());
        let named = target_stage.filter(|name| !name.is_empty()).or(last).unwrap_or("default");
        predefined(build, target, named, build_args)
    }

    fn add_global_args(
        &self,
        env: &mut Env,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(), ParseError> {
        let expander = self.expander();
        for instruction in &self.global_args {
            let Command::Arg(args) = &instruction.command else { continue };
            for arg in args {
                let value = match (build_args.get(&arg.name), &arg.default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => {
                        let expanded = expander.expand(default, env);
                        Some(
                            expanded
                                .map_err(|why| ParseError::new(instruction.range, why.message))?,
                        )
                    }
                    (None, None) => None,
                };
                if let Some(value) = value {
                    env.set(arg.name.as_str(), value);
                }
            }
        }
        Ok(())
    }
}

/// The arguments that are there without an ARG.
fn predefined(
    build: &Platform,
    target: &Platform,
    target_stage: &str,
    build_args: &BTreeMap<String, String>,
) -> Env {
    let mut env = Env::new();
    let values = [
        ("BUILDPLATFORM", build.short()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", build.os_version.clone()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", build.variant.clone()),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", target.os_version.clone()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", target.variant.clone()),
        ("TARGETSTAGE", target_stage.to_owned()),
    ];
    for (name, value) in values {
        env.set(name, build_args.get(name).cloned().unwrap_or(value));
    }
    env
}

impl Instruction {
    /// The instruction of an ONBUILD trigger; it stands where the FROM stands that pulls the trigger.
    ///
    /// # Errors
    /// What is wrong with the trigger; `onbuild trigger should be a single expression`.
    pub fn from_trigger(trigger: &str, from: Range) -> Result<Self, ParseError> {
        let moved = |error: ParseError| {
            let message = error.message.clone();
            ParseError { of_instruction: error.of_instruction, ..ParseError::new(from, message) }
        };
        let mut nodes = syntax::parse(trigger).map_err(moved)?.nodes;
        let (Some(node), true) = (nodes.pop(), nodes.is_empty()) else {
            return Err(ParseError::new(from, "onbuild trigger should be a single expression"));
        };
        match understand(&node) {
            Err(fault) => Err(ParseError::new(from, fault.message)),
            Ok(Understood::From(_)) => {
                Err(ParseError::new(from, "FROM isn't allowed as an ONBUILD trigger"))
            }
            Ok(Understood::Command(command)) => Ok(Self {
                keyword: node.keyword,
                code: node.original.trim().to_owned(),
                range: from,
                comments: node.comments,
                command,
            }),
        }
    }
}

fn refused(fault: &Fault, node: &Node, source: &str) -> ParseError {
    let error = ParseError::new(node.range, fault.message.clone()).locate(source, fault);
    ParseError { of_instruction: true, ..error }
}

#[cfg(test)]
mod tests;
