//! The variables of a stage while its instructions are read one after the other.

use std::collections::BTreeMap;

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
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The environment of RUN: the base image's variables, ENV and ARG, the later over the earlier.
    pub env: Env,
    /// The ARG instructions so far, each name with its value. A clone for a stage that is built on this one has
    /// them too.
    pub args: Vec<Arg>,
}

impl Scope {
    /// `env` is the environment of the base image.
    pub fn new(env: Env) -> Self {
        Self { env, args: Vec::new() }
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
    fn a_line_of_env_sees_the_values_of_the_lines_above_it() {
        assert_eq!(env("ENV A=1\nENV A=2 B=$A PATH=$PATH:/x", &[]), ["A=2", "B=1", "PATH=/bin:/x"]);
    }
}
