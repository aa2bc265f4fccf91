//! The variables of a stage while its instructions are read one after the other.

use std::collections::{BTreeMap, HashMap};

use crate::env::Env;
use crate::error::{Fault, ParseError};
use crate::expand::Expander;
use crate::instruction::{Arg, Command, Instruction};

/// Arguments that are settings of the builder and not variables of a command.
pub(crate) const SETTINGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Arguments that every RUN is given in its environment when the client sends them, without an ARG. They belong
/// neither to the history nor to a cache key.
pub const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What a stage's instructions see.
#[derive(Debug, Default)]
pub struct Scope {
    /// The environment of RUN: the base image's variables, ENV and ARG, the later over the earlier.
    pub env: Env,
    /// The ARG instructions so far, each name with its value, those of the stages below with them.
    pub args: Vec<Arg>,
    image: ImageEnv,
}

/// The environment of an image's configuration: a variable keeps its place when it is set again.
#[derive(Debug, Clone, Default)]
struct ImageEnv {
    pairs: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl ImageEnv {
    fn set(&mut self, name: &str, value: &str) {
        let place = *self.places.entry(name.to_owned()).or_insert(self.pairs.len());
        match self.pairs.get_mut(place) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
    }
}

impl Scope {
    /// `env` is the environment of the base image.
    pub fn new(env: Env) -> Self {
        let mut image = ImageEnv::default();
        for (name, value) in env.pairs() {
            image.set(name, value);
        }
        Self { env, args: Vec::new(), image }
    }

    /// For a stage that is built on this one. What ENV set counts again there, over an ARG that came later.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut env = self.env.clone();
        for (name, value) in &self.image.pairs {
            env.set(name.as_str(), value.as_str());
        }
        Self { env, args: self.args.clone(), image: self.image.clone() }
    }

    /// `NAME=value` for the image's configuration: the base image's variables and ENV, without ARG.
    pub fn image_env(&self) -> Vec<String> {
        self.image.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The instruction with its values put in, its ENV or ARG taken into the scope. Of an ARG the `default` is then the
    /// value that it has. Only EXPOSE is left as it is: see [`expose::ports`](crate::expose::ports).
    ///
    /// # Errors
    /// An expansion that fails, with the instruction's place.
    pub fn apply(
        &mut self,
        instruction: &Instruction,
        expander: &Expander,
        globals: &Env,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Instruction, ParseError> {
        let given = Given { globals, build_args };
        let mut unset = Vec::new();
        let placed = |fault: Fault| ParseError::new(instruction.range, fault.message);
        let mut expanded =
            instruction.expand_noting(expander, &self.env, &mut unset).map_err(placed)?;
        if let Command::Arg(args) = &mut expanded.command {
            for arg in args {
                arg.default = self.value(arg, expander, &given, &mut unset).map_err(placed)?;
                self.declare(arg);
            }
        }
        self.set(&expanded);
        Ok(expanded)
    }

    /// Takes the values of an ENV that was expanded.
    pub(crate) fn set(&mut self, expanded: &Instruction) {
        let Command::Env(pairs) = &expanded.command else { return };
        for pair in pairs {
            self.env.set(pair.name.as_str(), pair.value.as_str());
            self.image.set(&pair.name, &pair.value);
        }
    }

    /// The client's value goes first, then the default; without a default the value of the global argument.
    pub(crate) fn value(
        &self,
        arg: &Arg,
        expander: &Expander,
        given: &Given<'_>,
        unset: &mut Vec<String>,
    ) -> Result<Option<String>, Fault> {
        if let Some(value) = given.build_args.get(&arg.name) {
            return Ok(Some(value.clone()));
        }
        let Some(default) = &arg.default else {
            return Ok(given.globals.get(&arg.name).map(str::to_owned));
        };
        let (expansion, missing) = expander.expansion_noting(default, &self.env);
        unset.extend(missing);
        Ok(Some(expansion?.text))
    }

    /// Takes an argument whose `default` is its value.
    pub(crate) fn declare(&mut self, arg: &Arg) {
        if let Some(value) = &arg.default
            && !SETTINGS.contains(&arg.name.as_str())
        {
            self.env.set(arg.name.as_str(), value.as_str());
        }
        self.args.push(arg.clone());
    }
}

/// What came from outside of the stage.
pub(crate) struct Given<'a> {
    pub(crate) globals: &'a Env,
    pub(crate) build_args: &'a BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dockerfile;

    /// The environment after the last instruction.
    fn env(stage: &str, build_args: &[(&str, &str)]) -> Vec<String> {
        let file = Dockerfile::parse(format!("FROM scratch\n{stage}").as_bytes()).unwrap();
        let globals = Env::from_pairs(["GLOBAL=g"]);
        let given = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let build_args = build_args.iter().map(given).collect();
        let mut scope = Scope::new(Env::from_pairs(["PATH=/bin"]));
        for instruction in &file.stages[0].instructions {
            scope.apply(instruction, &file.expander(), &globals, &build_args).unwrap();
        }
        scope.env.pairs().iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn an_argument_takes_the_clients_value_then_its_default_then_the_global_one() {
        assert_eq!(env("ARG A=1 GLOBAL NONE", &[]), ["PATH=/bin", "A=1", "GLOBAL=g"]);
        assert_eq!(
            env("ARG A=1\nARG GLOBAL=x", &[("A", "2"), ("B", "3")]),
            ["PATH=/bin", "A=2", "GLOBAL=x"]
        );
    }

    #[test]
    fn a_stage_on_top_sees_env_over_arg_and_the_image_has_no_arg() {
        let file = Dockerfile::parse(b"FROM a\nENV A=1 B=1\nARG A=2 C=3\nENV B=4").unwrap();
        let mut scope = Scope::new(Env::from_pairs(["PATH=/bin"]));
        for instruction in &file.stages[0].instructions {
            let none = BTreeMap::new();
            scope.apply(instruction, &file.expander(), &Env::new(), &none).unwrap();
        }
        assert_eq!((scope.env.get("A"), scope.child().env.get("A")), (Some("2"), Some("1")));
        assert_eq!(scope.child().env.get("C"), Some("3"));
        assert_eq!(scope.image_env(), ["PATH=/bin", "A=1", "B=4"]);
    }

    #[test]
    fn a_line_of_env_sees_the_values_of_the_lines_above_it() {
        assert_eq!(env("ENV A=1\nENV A=2 B=$A PATH=$PATH:/x", &[]), ["A=2", "B=1", "PATH=/bin:/x"]);
    }
}
