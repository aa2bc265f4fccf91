//! What `docker history` shows of an instruction, in BuildKit's words.

use std::collections::HashMap;

use crate::error::Fault;
use crate::expand::Expander;
use crate::expose;
use crate::instruction::{
    Add, Command, CommandLine, Copy, Instruction, Pair, Run, Sources, duration,
};
use crate::quote::quote_list;
use crate::scope::Scope;

/// The comment of each entry.
pub const COMMENT: &str = "buildkit.dockerfile.v0";

/// What runs a shell form when neither SHELL nor the base image says anything else.
pub const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// An entry of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `created_by`
    pub text: String,
    /// The instruction makes a layer; others change the configuration alone.
    pub has_layer: bool,
}

/// The entry of an instruction that [`Scope::apply`] expanded; `scope` is the scope after it, `shell` what the shell
/// form is run with, `workdir` the working directory after the instruction. ONBUILD has none.
pub fn entry(
    expanded: &Instruction,
    expander: &Expander,
    scope: &Scope,
    stage: &Shown<'_>,
) -> Result<Option<Entry>, Fault> {
    let plain = |text: String| Ok(Some(Entry { text, has_layer: false }));
    let layer =
        |text: String| Ok(Some(Entry { text: format!("{text} # buildkit"), has_layer: true }));
    match &expanded.command {
        Command::Add(add) => layer(added(add)),
        Command::Copy(copy) => layer(copied(copy)),
        Command::Run(run) => layer(format!("RUN {}", ran(run, scope, stage.shell))),
        Command::Workdir(_) => Ok(Some(Entry {
            text: format!("WORKDIR {}", stage.workdir),
            has_layer: stage.workdir != "/",
        })),
        Command::Arg(args) => {
            let args = args.iter().map(|arg| match &arg.default {
                Some(value) => format!("{}={value}", arg.name),
                None => arg.name.clone(),
            });
            plain(format!("ARG {}", args.collect::<Vec<_>>().join(" ")))
        }
        Command::Cmd(command) => {
            plain(format!("CMD {}", quote_list(&with_shell(command, stage.shell))))
        }
        Command::Entrypoint(command) => {
            plain(format!("ENTRYPOINT {}", quote_list(&with_shell(command, stage.shell))))
        }
        Command::Env(pairs) => plain(format!("ENV{}", named(pairs))),
        Command::Label(pairs) => plain(format!("LABEL{}", named(pairs))),
        Command::Expose(written) => {
            let ports = expose::ports(written, expander, &scope.env)?;
            plain(format!("EXPOSE [{}]", ports.join(" ")))
        }
        Command::Healthcheck(check) => plain(format!(
            "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            check.test.join(" "),
            duration::show(check.interval),
            duration::show(check.timeout),
            duration::show(check.start_period),
            duration::show(check.start_interval),
            check.retries
        )),
        Command::Maintainer(name) => plain(format!("MAINTAINER {name}")),
        Command::Onbuild(_) => Ok(None),
        Command::Shell(shell) => plain(format!("SHELL [{}]", shell.join(" "))),
        Command::Stopsignal(signal) => plain(format!("STOPSIGNAL {signal}")),
        Command::User(user) => plain(format!("USER {user}")),
        Command::Volume(volumes) => plain(format!("VOLUME [{}]", volumes.join(" "))),
    }
}

/// What of a stage stands in its history.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub shell: &'a [String],
    pub workdir: &'a str,
}

/// The command as it is executed: the exec form as it is, the shell form behind the shell.
pub fn with_shell(command: &CommandLine, shell: &[String]) -> Vec<String> {
    if !command.is_shell {
        return command.arguments.clone();
    }
    let text = command.arguments.join(" ");
    if shell.is_empty() {
        let default = DEFAULT_SHELL.into_iter().map(str::to_owned);
        return default.chain([text]).collect();
    }
    shell.iter().cloned().chain([text]).collect()
}

/// The directory that WORKDIR means: a relative one is below the current.
pub fn workdir(current: &str, path: &str) -> String {
    let current = if current.is_empty() { "/" } else { current };
    if path.is_empty() {
        return current.to_owned();
    }
    if path.starts_with('/') {
        return path.to_owned();
    }
    let mut names: Vec<&str> = Vec::new();
    for name in current.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

fn named(pairs: &[Pair]) -> String {
    pairs.iter().map(|pair| format!(" {}={}", pair.name, pair.value)).collect()
}

/// The arguments of the stage stand before the command: who reads the history sees what it was run with.
fn ran(run: &Run, scope: &Scope, shell: &[String]) -> String {
    let mut values: HashMap<&str, Option<&str>> = HashMap::new();
    let mut names: Vec<&str> = Vec::new();
    for arg in &scope.args {
        if values.insert(&arg.name, arg.default.as_deref()).is_none() {
            names.push(&arg.name);
        }
    }
    let value = |name: &str| scope.env.get(name).or_else(|| *values.get(name)?).unwrap_or_default();
    let mut words = Vec::new();
    if !names.is_empty() {
        words.push(format!("|{}", names.len()));
        words.extend(names.iter().map(|name| format!("{name}={}", value(name))));
    }
    words.extend(executed(run, shell));
    words.join(" ")
}

/// Where a heredoc is put that names the program to run it.
pub const SCRIPTS: &str = "/dev/pipes/";

/// What RUN executes, heredocs included.
pub fn executed(run: &Run, shell: &[String]) -> Vec<String> {
    if run.heredocs.is_empty() {
        return with_shell(&run.command, shell);
    }
    let text = match (run.script(), run.heredocs.first()) {
        (Some(script), Some(heredoc)) if script.starts_with("#!") => {
            format!("{SCRIPTS}{}", heredoc.name)
        }
        (Some(script), _) => script,
        (None, _) => run.command_with_heredocs(),
    };
    with_shell(&CommandLine { arguments: vec![text], is_shell: true }, shell)
}

fn copied(copy: &Copy) -> String {
    let parents = if copy.parents { " --parents" } else { "" };
    format!("COPY{parents}{}", owned(&copy.chown, &copy.chmod, &copy.sources))
}

fn added(add: &Add) -> String {
    format!("ADD{}", owned(&add.chown, &add.chmod, &add.sources))
}

fn owned(chown: &str, chmod: &str, sources: &Sources) -> String {
    let mut text = String::new();
    for (flag, value) in [("chown", chown), ("chmod", chmod)] {
        if !value.is_empty() {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for path in &sources.paths {
        text.push_str(&format!(" {path}"));
    }
    for file in &sources.files {
        text.push_str(&format!(" <<{}", file.name));
    }
    text + " " + &sources.destination
}
