//! From a node to an instruction.

use crate::error::{Fault, Result};
use crate::quote::quote;
use crate::suggest::{Case, hint};
use crate::syntax::Node;

use super::copy::{add, copy};
use super::flags::{Flags, Kind};
use super::healthcheck::healthcheck;
use super::run::{command_line, run};
use super::{Arg, Command, CommandLine, Pair};

pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What a node is.
#[derive(Debug)]
pub(crate) enum Understood {
    From(From),
    Command(Command),
}

/// The beginning of a stage.
#[derive(Debug)]
pub(crate) struct From {
    pub(crate) base: String,
    pub(crate) name: Option<String>,
    pub(crate) platform: Option<String>,
}

pub(crate) fn understand(node: &Node) -> Result<Understood> {
    let keyword = node.keyword.to_lowercase();
    let command = match keyword.as_str() {
        "from" => return from(node).map(Understood::From),
        "add" => Command::Add(add(node)?),
        "arg" => Command::Arg(arguments(node)?),
        "copy" => Command::Copy(copy(node)?),
        "env" => Command::Env(pairs(node, "ENV")?),
        "healthcheck" => Command::Healthcheck(healthcheck(node)?),
        "label" => Command::Label(pairs(node, "LABEL")?),
        "maintainer" => Command::Maintainer(exactly_one(node, "MAINTAINER")?),
        "onbuild" => Command::Onbuild(trigger(node)?),
        "run" => Command::Run(run(node)?),
        // Its flags are read over, whatever they are.
        "stopsignal" => Command::Stopsignal(one(node, "STOPSIGNAL")?),
        "user" => Command::User(exactly_one(node, "USER")?),
        "workdir" => Command::Workdir(exactly_one(node, "WORKDIR")?),
        "cmd" => Command::Cmd(without_flags(node).map(|()| command_line(node))?),
        "entrypoint" => Command::Entrypoint(without_flags(node).map(|()| command_line(node))?),
        "expose" => Command::Expose(ports(node)?),
        "shell" => Command::Shell(shell(node)?),
        "volume" => Command::Volume(volumes(node)?),
        _ => {
            let hint = hint(&node.keyword, KEYWORDS, Case::Ignored);
            let keyword = &node.keyword;
            return Err(Fault::at(keyword, format!("unknown instruction: {keyword}{hint}")));
        }
    };
    Ok(Understood::Command(command))
}

/// The instruction of an ONBUILD trigger, which may be any but the ones that are banned there.
fn trigger(node: &Node) -> Result<String> {
    let Some(keyword) = node.arguments.first() else { return Err(at_least_one("ONBUILD")) };
    without_flags(node)?;
    match keyword.trim().to_uppercase().as_str() {
        "ONBUILD" => {
            return Err(Fault::at(keyword, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
        }
        banned @ ("MAINTAINER" | "FROM") => {
            return Err(Fault::at(
                keyword,
                format!("{banned} isn't allowed as an ONBUILD trigger"),
            ));
        }
        _ => {}
    }
    let is_space = |character: char| matches!(character, '\t' | '\n' | '\u{c}' | '\r' | ' ');
    let line = node.original.trim_start_matches(is_space);
    let mut text =
        line.get("ONBUILD".len()..).unwrap_or_default().trim_start_matches(is_space).to_owned();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}

fn from(node: &Node) -> Result<From> {
    let name = match node.arguments.as_slice() {
        [_] => None,
        [_, word, name] if word.to_lowercase() == "as" => {
            let lower = name.to_lowercase();
            let is_name = lower.starts_with(|first: char| first.is_ascii_lowercase())
                && lower
                    .chars()
                    .all(|character| matches!(character, 'a'..='z' | '0'..='9' | '-' | '_' | '.'));
            if !is_name {
                return Err(Fault::at(
                    name,
                    format!(
                        "invalid name for build stage: {}, name can't start with a number or contain symbols",
                        quote(name)
                    ),
                ));
            }
            Some(lower)
        }
        _ => return Err("FROM requires either one or three arguments".into()),
    };
    let flags = Flags::read(&node.flags, &[("platform", Kind::Text)])?;
    let platform = flags.given("platform").filter(|platform| !platform.is_empty());
    let base = node.arguments.first().cloned().unwrap_or_default();
    Ok(From { base, name, platform: platform.map(str::to_owned) })
}

fn pairs(node: &Node, keyword: &str) -> Result<Vec<Pair>> {
    without_flags(node)?;
    if node.arguments.is_empty() {
        return Err(at_least_one(keyword));
    }
    node.arguments
        .chunks_exact(3)
        .map(|triple| {
            let [name, value, sign] = triple else { return Err(blank_name(keyword)) };
            if name.is_empty() {
                return Err(blank_name(keyword));
            }
            Ok(Pair { name: name.clone(), value: value.clone(), is_legacy: sign.is_empty() })
        })
        .collect()
}

fn arguments(node: &Node) -> Result<Vec<Arg>> {
    if node.arguments.is_empty() {
        return Err(at_least_one("ARG"));
    }
    let read = |word: &String| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err(blank_name("ARG")),
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.as_str(), None),
        };
        let description = description(&node.comments, name);
        Ok(Arg { name: name.to_owned(), default, description })
    };
    node.arguments.iter().map(read).collect()
}

/// The rest of the first comment that begins with the name.
pub(crate) fn description(comments: &[String], name: &str) -> Option<String> {
    comments
        .iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn ports(node: &Node) -> Result<Vec<String>> {
    if node.arguments.is_empty() {
        return Err(at_least_one("EXPOSE"));
    }
    without_flags(node)?;
    let mut ports = node.arguments.clone();
    ports.sort();
    Ok(ports)
}

fn volumes(node: &Node) -> Result<Vec<String>> {
    if node.arguments.is_empty() {
        return Err(at_least_one("VOLUME"));
    }
    without_flags(node)?;
    let volumes: Vec<_> = node.arguments.iter().map(|volume| volume.trim().to_owned()).collect();
    if volumes.iter().any(String::is_empty) {
        return Err("VOLUME specified can not be an empty string".into());
    }
    Ok(volumes)
}

fn shell(node: &Node) -> Result<Vec<String>> {
    without_flags(node)?;
    let CommandLine { arguments, is_shell } = command_line(node);
    if arguments.is_empty() {
        return Err(at_least_one("SHELL"));
    }
    if is_shell {
        return Err("SHELL requires the arguments to be in JSON form".into());
    }
    Ok(arguments)
}

fn exactly_one(node: &Node, keyword: &str) -> Result<String> {
    let argument = one(node, keyword)?;
    without_flags(node)?;
    Ok(argument)
}

fn one(node: &Node, keyword: &str) -> Result<String> {
    match node.arguments.as_slice() {
        [argument] => Ok(argument.clone()),
        _ => Err(format!("{keyword} requires exactly one argument").into()),
    }
}

fn without_flags(node: &Node) -> Result<()> {
    Flags::read(&node.flags, &[]).map(|_| ())
}

fn at_least_one(keyword: &str) -> Fault {
    format!("{keyword} requires at least one argument").into()
}

fn blank_name(keyword: &str) -> Fault {
    format!("{keyword} names can not be blank").into()
}
