//! The instructions of one stage.

use std::sync::LazyLock;

use regex::Regex;

use crate::chmod::Chmod;
use crate::dockerfile::Dockerfile;
use crate::env::Env;
use crate::error::{Fault, ParseError};
use crate::expand::Expander;
use crate::expose::{self, Spec};
use crate::history::workdir;
use crate::instruction::{
    Add, Arg, Command, CommandLine, Instruction, MountType, Pair, Run, Sources,
};
use crate::quote::quote;
use crate::reference;
use crate::remote::{Git, Remote};
use crate::scope::{Given, SETTINGS, Scope};
use crate::signal;
use crate::suggest::{Case, nearest};

use super::rules::{self, Rule};
use super::stage::Stage;
use super::{Linter, Request};

/// Names among which a suggestion is still looked for.
const CROWD: usize = 1000;

/// One stage under way.
pub(super) struct Walk<'a> {
    pub(super) linter: &'a mut Linter,
    pub(super) file: &'a Dockerfile,
    pub(super) request: &'a Request<'a>,
    pub(super) globals: &'a Env,
    pub(super) index: usize,
    pub(super) stage: Stage,
}

impl Walk<'_> {
    pub(super) fn stage(&mut self) -> Result<(), ParseError> {
        let stage = &self.file.stages[self.index];
        for trigger in std::mem::take(&mut self.stage.triggers) {
            self.instruction(&Instruction::from_trigger(&trigger, stage.range)?)?;
        }
        stage.instructions.iter().try_for_each(|instruction| self.instruction(instruction))
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), ParseError> {
        self.expand(instruction)
            .and_then(|expanded| {
                self.file.refuse_later(self.index, instruction)?;
                self.check(&expanded)
            })
            .map_err(|fault| ParseError::new(instruction.range, fault.message))
    }

    fn warn(&mut self, rule: &'static Rule, instruction: &Instruction, message: String) {
        self.linter.warn(rule, instruction.range, &instruction.comments, message);
    }

    fn expander(&self) -> Expander {
        self.file.expander()
    }

    /// Puts values in and reports the variables that have none.
    fn expand(&mut self, instruction: &Instruction) -> Result<Instruction, Fault> {
        if let Command::Arg(args) = &instruction.command {
            self.declare(args, instruction)?;
            return Ok(instruction.clone());
        }
        let expander = self.expander();
        let mut unset = Vec::new();
        let mut outcome = instruction.expand_noting(&expander, &self.stage.scope.env, &mut unset);
        if let Command::Run(run) = &instruction.command {
            outcome = self.mounts(run, &mut unset).and(outcome);
        }
        self.report(unset, instruction);
        let expanded = outcome?;
        self.stage.scope.set(&expanded);
        Ok(expanded)
    }

    fn declare(&mut self, args: &[Arg], instruction: &Instruction) -> Result<(), Fault> {
        let given = Given { globals: self.globals, build_args: self.request.build_args };
        let expander = self.expander();
        for arg in args {
            self.check_secret("ARG", &arg.name, instruction);
            let mut unset = Vec::new();
            let value = self.stage.scope.value(arg, &expander, &given, &mut unset);
            self.report(unset, instruction);
            self.stage.scope.declare(&Arg { default: value?, ..arg.clone() });
        }
        Ok(())
    }

    /// An argument that was declared without a value is no mistake.
    fn report(&mut self, unset: Vec<String>, instruction: &Instruction) {
        let Scope { env, args, .. } = &self.stage.scope;
        let is_declared = |name: &String| args.iter().any(|arg| arg.name == *name);
        let unset: Vec<_> = unset
            .into_iter()
            .filter(|name| !is_declared(name) && !SETTINGS.contains(&name.as_str()))
            .map(|name| {
                // In a crowd there is always somebody who looks alike, and it is a long search.
                let known = if env.len() > CROWD { Vec::new() } else { env.names() };
                let near = nearest(&name, known, Case::Matters);
                let hint =
                    near.map_or_else(String::new, |near| format!(" (did you mean ${near}?)"));
                format!("Usage of undefined variable '${name}'{hint}")
            })
            .collect();
        for message in unset {
            self.warn(&rules::UNDEFINED_VAR, instruction, message);
        }
    }

    fn mounts(&self, run: &Run, unset: &mut Vec<String>) -> Result<(), Fault> {
        let (expander, env) = (self.expander(), &self.stage.scope.env);
        for mount in &run.mounts {
            mount.resolve(&mut |word| {
                let (expansion, missing) = expander.expansion_noting(word, env);
                unset.extend(missing);
                Ok(expansion?.text)
            })?;
        }
        Ok(())
    }

    fn check(&mut self, instruction: &Instruction) -> Result<(), Fault> {
        match &instruction.command {
            Command::Add(add) => {
                check_mode(&add.chmod)?;
                check_added(add)?;
                self.check_sources(&add.sources, "Add", instruction);
            }
            Command::Copy(copy) => {
                check_mode(&copy.chmod)?;
                check_copied(&copy.sources)?;
                if copy.from.is_empty() {
                    self.check_sources(&copy.sources, "Copy", instruction);
                }
            }
            Command::Cmd(command) => {
                self.check_once(0, instruction);
                self.check_form(command, instruction);
            }
            Command::Entrypoint(command) => {
                self.check_once(1, instruction);
                self.check_form(command, instruction);
            }
            Command::Healthcheck(_) => self.check_once(2, instruction),
            Command::Env(pairs) => {
                self.check_pairs(pairs, instruction);
                for pair in pairs {
                    self.check_secret("ENV", &pair.name, instruction);
                }
            }
            Command::Label(pairs) => self.check_pairs(pairs, instruction),
            Command::Expose(written) => self.check_ports(written, instruction)?,
            Command::Onbuild(trigger) => self.stage.onbuild.push(trigger.clone()),
            Command::Run(run) => self.check_mounts(run)?,
            Command::Shell(shell) => self.stage.shell.clone_from(shell),
            Command::Stopsignal(signal) => signal::check(signal)?,
            Command::Volume(volumes) => {
                if volumes.iter().any(String::is_empty) {
                    return Err("VOLUME specified can not be an empty string".into());
                }
            }
            Command::Workdir(path) => {
                if !self.stage.has_workdir && !path.starts_with('/') {
                    let message = format!(
                        "Relative workdir {} can have unexpected results if the base image changes",
                        quote(path)
                    );
                    self.warn(&rules::WORKDIR_RELATIVE_PATH, instruction, message);
                }
                self.stage.has_workdir = true;
                self.stage.workdir = workdir(&self.stage.workdir, path);
            }
            Command::Arg(_) | Command::Maintainer(_) | Command::User(_) => {}
        }
        Ok(())
    }

    /// The earlier of two is the one that is in vain.
    fn check_once(&mut self, which: usize, instruction: &Instruction) {
        let before = self.stage.last[which].replace(instruction.range);
        let Some(range) = before else { return };
        let message = format!(
            "Multiple {} instructions should not be used in the same stage because only the last one will be used",
            instruction.keyword
        );
        let rule = &rules::MULTIPLE_INSTRUCTIONS_DISALLOWED;
        self.linter.warn(rule, range, &instruction.comments, message);
    }

    fn check_form(&mut self, command: &CommandLine, instruction: &Instruction) {
        // Who chooses a shell wants one.
        if command.is_shell && self.stage.shell.is_empty() {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                instruction.keyword
            );
            self.warn(&rules::JSON_ARGS_RECOMMENDED, instruction, message);
        }
    }

    fn check_pairs(&mut self, pairs: &[Pair], instruction: &Instruction) {
        let keyword = &instruction.keyword;
        for _ in pairs.iter().filter(|pair| pair.is_legacy) {
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.warn(&rules::LEGACY_KEY_VALUE_FORMAT, instruction, message);
        }
    }

    fn check_secret(&mut self, keyword: &str, name: &str, instruction: &Instruction) {
        if is_secret(name) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} {})",
                quote(name)
            );
            self.warn(&rules::SECRETS_USED_IN_ARG_OR_ENV, instruction, message);
        }
    }

    fn check_ports(&mut self, written: &[String], instruction: &Instruction) -> Result<(), Fault> {
        let words = expose::words(written, &self.expander(), &self.stage.scope.env)?;
        for word in words {
            let spec = Spec::read(&word)?;
            if spec.protocol != spec.protocol.to_lowercase() {
                let message =
                    format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                self.warn(&rules::EXPOSE_PROTO_CASING, instruction, message);
            }
            if !spec.ip.is_empty() || !spec.host.is_empty() {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                );
                self.warn(&rules::EXPOSE_INVALID_FORMAT, instruction, message);
            }
            spec.range()?;
        }
        Ok(())
    }

    fn check_sources(&mut self, sources: &Sources, verb: &str, instruction: &Instruction) {
        // With patterns that take files back in, nobody can say it from the pattern alone.
        let Some(ignored) = self.request.ignored.filter(|ignored| !ignored.has_exclusions()) else {
            return;
        };
        for path in sources.paths.iter().filter(|path| Remote::parse(path) == Ok(None)) {
            let path = crate::dockerignore::clean(path);
            let is_root = path == "." || path == "/";
            if is_root && !ignored.leaves_out_everything() {
                continue;
            }
            if ignored.is_ignored(&path) {
                let message = format!(
                    "Attempting to {verb} file {} that is excluded by .dockerignore",
                    quote(&path)
                );
                self.warn(&rules::COPY_IGNORED_FILE, instruction, message);
            }
        }
    }

    fn check_mounts(&mut self, run: &Run) -> Result<(), Fault> {
        let (expander, env) = (self.expander(), &self.stage.scope.env);
        for mount in &run.mounts {
            let mount = mount.resolve(&mut |word| expander.expand(word, env))?;
            let is_file = matches!(mount.kind, MountType::Secret | MountType::Ssh);
            let target = workdir(&self.stage.workdir, &mount.target);
            if !is_file && target == "/" {
                let target = quote(&target);
                return Err(Fault::at(&mount.target, format!("invalid mount target {target}")));
            }
        }
        Ok(())
    }
}

fn check_mode(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Ok(());
    }
    Chmod::parse(text).map(|_| ()).map_err(|why| Fault::at(text, why))
}

fn check_copied(sources: &Sources) -> Result<(), Fault> {
    for path in &sources.paths {
        let what = match Remote::parse(path)? {
            None => continue,
            Some(Remote::Git(_)) => "a git ref",
            Some(Remote::Http) => "a URL",
        };
        return Err(Fault::at(path, format!("source can't be {what} for COPY")));
    }
    Ok(())
}

/// A checksum belongs to one source that is elsewhere; what flag and query both say must be the same.
fn check_added(add: &Add) -> Result<(), Fault> {
    let paths = &add.sources.paths;
    if !add.checksum.is_empty() {
        let [path] = paths.as_slice() else {
            return Err("checksum can't be specified for multiple sources".into());
        };
        if Remote::parse(path).is_ok_and(|remote| remote.is_none()) {
            return Err("checksum requires HTTP(S) or Git sources".into());
        }
    }
    for path in paths {
        match Remote::parse(path)? {
            Some(Remote::Git(git)) => check_git(add, &git)?,
            Some(Remote::Http) if !add.checksum.is_empty() => {
                reference::check_digest(&add.checksum)?;
            }
            Some(Remote::Http) | None => {}
        }
    }
    Ok(())
}

fn check_git(add: &Add, git: &Git) -> Result<(), Fault> {
    if git.keep_git_dir.is_some_and(|keep| add.keep_git_dir.is_some_and(|flag| flag != keep)) {
        return Err("inconsistent keep-git-dir configuration".into());
    }
    let (flag, query) = (&add.checksum, &git.checksum);
    if !flag.is_empty() && !query.is_empty() && flag != query {
        return Err(format!("checksum mismatch {} != {}", quote(flag), quote(query)).into());
    }
    Ok(())
}

/// A name with one of these words in it, and none that makes it harmless.
fn is_secret(name: &str) -> bool {
    static SECRET: LazyLock<Option<Regex>> = LazyLock::new(|| {
        words("apikey|auth|credential|credentials|key|password|pword|passwd|secret|token")
    });
    static HARMLESS: LazyLock<Option<Regex>> = LazyLock::new(|| words("public|file|version"));
    let name = name.to_ascii_lowercase();
    let has = |regex: &Option<Regex>| regex.as_ref().is_some_and(|regex| regex.is_match(&name));
    has(&SECRET) && !has(&HARMLESS)
}

fn words(words: &str) -> Option<Regex> {
    Regex::new(&format!("(?:_|^)(?:{words})(?:_|$)")).ok()
}
