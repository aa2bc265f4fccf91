//! What is wrong with a command line, in docker's words: scripts and people know them.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

use super::{command, suggest};
use crate::error::{Failure, Result};
use crate::output;
use crate::program::Program;

/// What docker has beside these, of its own or by plugins that come with it.
const OF_DOCKER: [&str; 14] = [
    "bake",
    "checkpoint",
    "config",
    "manifest",
    "model",
    "node",
    "plugin",
    "scout",
    "search",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
];

/// Help goes to standard output and is no failure; of the rest, a text and a code.
pub(super) fn explain(error: &Error, arguments: &[OsString], program: Program) -> Result<()> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return output::raw(&error.to_string());
    }
    let words: Vec<String> =
        arguments.iter().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let mut root = command(program);
    root.build();
    let found = Found::new(&root, &words);
    // A group without a verb shows what it has.
    if found.command.has_subcommands() && found.rest.is_empty() {
        let mut group = found.command.clone();
        return help(&mut group);
    }
    Err(found.failure(error, program))
}

pub(super) fn help(command: &mut Command) -> Result<()> {
    output::raw(&command.render_help().to_string())
}

/// The verb that the words name, and what stands behind it.
struct Found<'a> {
    command: &'a Command,
    /// `cais container ls`
    path: String,
    rest: &'a [String],
}

impl<'a> Found<'a> {
    fn new(root: &'a Command, words: &'a [String]) -> Self {
        let mut found = Self { command: root, path: root.get_name().to_owned(), rest: words };
        loop {
            let mut rest = found.rest;
            // Flags of the program stand before its verb, some with their value behind them.
            while let [flag, after @ ..] = rest
                && flag.starts_with('-')
            {
                let takes_next = !flag.contains('=')
                    && argument(found.command, flag).is_some_and(|it| {
                        it.get_action().takes_values()
                            && it.get_num_args().is_none_or(|it| it.min_values() > 0)
                    });
                rest = if takes_next { after.get(1..).unwrap_or_default() } else { after };
            }
            let Some((word, after)) = rest.split_first() else { return found };
            let Some(next) = found.command.find_subcommand(word) else {
                if found.command.has_subcommands() {
                    found.rest = rest;
                }
                return found;
            };
            found = Self {
                command: next,
                path: format!("{} {}", found.path, next.get_name()),
                rest: after,
            };
        }
    }

    fn failure(&self, error: &Error, program: Program) -> Failure {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.clone(),
            _ => String::new(),
        };
        let invalid = context(ContextKind::InvalidArg);
        match error.kind() {
            ErrorKind::InvalidSubcommand | ErrorKind::MissingSubcommand => {
                self.unknown_verb(program)
            }
            ErrorKind::UnknownArgument if invalid.starts_with('-') => {
                self.flag(&unknown_flag(&invalid, self.rest))
            }
            ErrorKind::UnknownArgument if self.command.has_subcommands() => {
                self.unknown_verb(program)
            }
            ErrorKind::UnknownArgument
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::TooFewValues
            | ErrorKind::TooManyValues
            | ErrorKind::WrongNumberOfValues => self.count(program),
            ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
                self.flag(&missing_value(&invalid, self.rest))
            }
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let value = context(ContextKind::InvalidValue);
                let why = std::error::Error::source(error);
                let mut why = why.map(ToString::to_string).unwrap_or_default();
                if why.starts_with("invalid digit") {
                    why = format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
                }
                self.flag(&format!(
                    "invalid argument {value:?} for {:?} flag: {why}",
                    self.flag_name(&invalid)
                ))
            }
            _ => Failure::new(error.to_string().trim_end().to_owned()).with_code(125),
        }
    }

    fn unknown_verb(&self, program: Program) -> Failure {
        let path = &self.path;
        let word = self.rest.join(" ");
        let first = self.rest.first().map_or("", String::as_str);
        let is_root = !path.contains(' ');
        let shown = if is_root { first } else { word.as_str() };
        let mut text = format!("{}: unknown command: {path} {shown}\n", program.name());
        if is_root && OF_DOCKER.contains(&first) {
            text.push_str("\nIt is a command of docker's that is not supported.\n");
        // Docker says no such thing; as docker, neither do we.
        } else if program == Program::Cais {
            let names = self
                .command
                .get_subcommands()
                .filter(|it| !it.is_hide_set())
                .map(Command::get_name);
            if let Some(name) = suggest::nearest(first, names) {
                let rest: String = self.rest.iter().skip(1).map(|it| format!(" {it}")).collect();
                text.push_str(&format!("\nDid you mean: {path} {name}{rest}\n"));
            }
        }
        if !is_root {
            text.push_str(&format!("\nUsage:  {path}\n"));
        }
        Failure::new(format!("{text}\nRun '{path} --help' for more information"))
    }

    fn flag(&self, what: &str) -> Failure {
        let path = &self.path;
        Failure::new(format!(
            "{what}\n\nUsage:  {}\n\nRun '{path} --help' for more information",
            self.usage()
        ))
        .with_code(125)
    }

    /// `docker run [OPTIONS] IMAGE [COMMAND]...`
    fn usage(&self) -> String {
        if self.command.has_subcommands() {
            return format!("{} [OPTIONS] COMMAND", self.path);
        }
        let has_flags =
            self.command.get_arguments().any(|it| !it.is_positional() && it.get_id() != "help");
        let mut usage = self.path.clone();
        if has_flags {
            usage.push_str(" [OPTIONS]");
        }
        for argument in self.command.get_positionals() {
            let names: Vec<String> = match argument.get_value_names() {
                Some(names) => names.iter().map(ToString::to_string).collect(),
                None => vec![argument.get_id().as_str().to_uppercase()],
            };
            let (least, most) = counts(argument);
            for (index, name) in names.iter().enumerate() {
                usage.push_str(&if index < least {
                    format!(" {name}")
                } else {
                    format!(" [{name}]")
                });
            }
            match names.as_slice() {
                _ if most.is_some() => {}
                [name] => usage.push_str(&format!(" [{name}...]")),
                _ => usage.push_str(" [ARG...]"),
            }
        }
        usage
    }

    /// Too few or too many words.
    fn count(&self, program: Program) -> Failure {
        let path = &self.path;
        let (least, most) = self
            .command
            .get_positionals()
            .map(counts)
            .fold((0, Some(0)), |sum, it| (sum.0 + it.0, sum.1.zip(it.1).map(|(a, b)| a + b)));
        let plural = |count| if count == 1 { "argument" } else { "arguments" };
        let (what, word) = match (least, most) {
            (_, Some(0)) => ("accepts no arguments".to_owned(), "Run"),
            (least, Some(most)) if least == most => {
                (format!("requires {least} {}", plural(least)), "Run")
            }
            (0, Some(most)) => (format!("requires at most {most} {}", plural(most)), "Run"),
            (least, Some(most)) => {
                (format!("requires at least {least} and at most {most} {}", plural(most)), "Run")
            }
            (least, None) => (format!("requires at least {least} {}", plural(least)), "See"),
        };
        Failure::new(format!(
            "{}: '{path}' {what}\n\nUsage:  {}\n\n{word} '{path} --help' for more information",
            program.name(),
            self.usage()
        ))
    }

    /// `-m, --memory` of clap's `--memory <MEMORY>`.
    fn flag_name(&self, shown: &str) -> String {
        let flag = shown.split([' ', '[']).next().unwrap_or_default();
        match argument(self.command, flag).map(|it| (it.get_short(), it.get_long())) {
            Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
            _ => flag.to_owned(),
        }
    }
}

/// How many words one positional takes, at least and at most.
fn counts(argument: &Arg) -> (usize, Option<usize>) {
    let range = argument.get_num_args();
    let is_list = matches!(argument.get_action(), clap::ArgAction::Append);
    let least =
        if argument.is_required_set() { range.map_or(1, |it| it.min_values().max(1)) } else { 0 };
    (least, if is_list || range.is_some_and(|it| it.max_values() > 1) { None } else { Some(1) })
}

fn argument<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    let name = flag.split('=').next().unwrap_or_default();
    command.get_arguments().find(|it| match name.strip_prefix("--") {
        Some(long) => it.get_long() == Some(long),
        None => name.chars().nth(1).is_some_and(|c| it.get_short() == Some(c)),
    })
}

fn unknown_flag(flag: &str, words: &[String]) -> String {
    match flag.strip_prefix("--") {
        Some(_) => format!("unknown flag: {}", flag.split('=').next().unwrap_or_default()),
        None => {
            let letter = flag.chars().nth(1).unwrap_or('-');
            // What is left of the letters that stand together.
            let mut clusters =
                words.iter().filter(|it| it.starts_with('-') && !it.starts_with("--"));
            let rest = clusters.find_map(|it| it.find(letter).map(|at| &it[at..]));
            format!("unknown shorthand flag: '{letter}' in -{}", rest.unwrap_or(&flag[1..]))
        }
    }
}

fn missing_value(shown: &str, words: &[String]) -> String {
    let flag = shown.split([' ', '[']).next().unwrap_or_default();
    match words.last() {
        Some(last) if last.starts_with('-') && !last.starts_with("--") => {
            let letter = last.chars().last().unwrap_or('-');
            format!("flag needs an argument: '{letter}' in {last}")
        }
        _ => format!("flag needs an argument: {flag}"),
    }
}
