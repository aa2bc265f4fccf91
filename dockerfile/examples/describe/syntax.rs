//! What a file parses to.

use std::fmt::{Display, Write};

use cais_dockerfile::instruction::{Arg, Pair, Run, Sources};
use cais_dockerfile::quote::{quote, quote_list};
use cais_dockerfile::{Command, Dockerfile, Instruction};

use super::lines;

pub(super) fn describe_syntax(out: &mut String, data: &[u8]) {
    let file = match Dockerfile::parse(data) {
        Ok(file) => file,
        // BuildKit's parser takes them, and its builder says so.
        Err(error) if SAID_LATER.contains(&error.message.as_str()) => return,
        Err(error) => {
            let text = error.to_string();
            let is_misplaced = MISPLACED.iter().any(|start| text.starts_with(start));
            let place =
                if is_misplaced { String::new() } else { format!(" at {}", lines(error.range)) };
            return writeln!(out, "error {}{place}", quote(&text)).unwrap();
        }
    };
    writeln!(
        out,
        "syntax {} escape {} check {}",
        quote(file.directives.syntax.as_deref().unwrap_or_default()),
        quote(&file.directives.escape.to_string()),
        quote(file.directives.check.as_deref().unwrap_or_default()),
    )
    .unwrap();
    globals(out, &file.global_args);
    for stage in &file.stages {
        writeln!(
            out,
            "stage {} base {} platform {} keyword {} code {} lines {} comments {} about {}",
            quote(stage.name.as_deref().unwrap_or_default()),
            quote(&stage.base),
            quote(stage.platform.as_deref().unwrap_or_default()),
            quote(&stage.keyword),
            quote(&stage.code),
            lines(stage.range),
            quote_list(&stage.comments),
            quote(stage.description.as_deref().unwrap_or_default()),
        )
        .unwrap();
        for instruction in &stage.instructions {
            writeln!(
                out,
                "{} lines {} comments {} code {}\n  {}",
                quote(&instruction.keyword),
                lines(instruction.range),
                quote_list(&instruction.comments),
                quote(&instruction.code),
                fields(&instruction.command),
            )
            .unwrap();
        }
    }
}

const SAID_LATER: &[&str] = &["dockerfile contains no stages to build"];

/// BuildKit points elsewhere.
const MISPLACED: &[&str] =
    &["only one ", "invalid escape token", "file with no instructions", "dockerfile line greater"];

fn globals(out: &mut String, args: &[Instruction]) {
    for instruction in args {
        if let Command::Arg(args) = &instruction.command {
            writeln!(out, "global{}", arguments(args)).unwrap();
        }
    }
}

fn arguments(args: &[Arg]) -> String {
    let mut out = String::new();
    for arg in args {
        write!(out, " {}", quote(&arg.name)).unwrap();
        if let Some(default) = &arg.default {
            write!(out, "={}", quote(default)).unwrap();
        }
        if let Some(description) = &arg.description {
            write!(out, " about {}", quote(description)).unwrap();
        }
    }
    out
}

fn pairs(pairs: &[Pair]) -> String {
    pairs
        .iter()
        .map(|pair| format!(" {} {} {}", quote(&pair.name), quote(&pair.value), pair.is_legacy))
        .collect()
}

fn sources(sources: &Sources) -> String {
    let mut out =
        format!(" paths {} to {}", quote_list(&sources.paths), quote(&sources.destination));
    for file in &sources.files {
        write!(out, " file {} {} {}", quote(&file.name), quote(&file.content), file.expands)
            .unwrap();
    }
    out
}

fn optional<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unset".to_owned(), |value| value.to_string())
}

fn fields(command: &Command) -> String {
    match command {
        Command::Add(add) => format!(
            "add{} chown {} chmod {} link {} exclude {} checksum {} keep-git-dir {} unpack {}",
            sources(&add.sources),
            quote(&add.chown),
            quote(&add.chmod),
            add.link,
            quote_list(&add.exclude),
            quote(&add.checksum),
            optional(add.keep_git_dir),
            optional(add.unpack),
        ),
        Command::Arg(args) => format!("arg{}", arguments(args)),
        Command::Cmd(line) => {
            format!("cmd {} shell {}", quote_list(&line.arguments), line.is_shell)
        }
        Command::Copy(copy) => format!(
            "copy{} from {} chown {} chmod {} link {} parents {} exclude {}",
            sources(&copy.sources),
            quote(&copy.from),
            quote(&copy.chown),
            quote(&copy.chmod),
            copy.link,
            copy.parents,
            quote_list(&copy.exclude),
        ),
        Command::Entrypoint(line) => {
            format!("entrypoint {} shell {}", quote_list(&line.arguments), line.is_shell)
        }
        Command::Env(list) => format!("env{}", pairs(list)),
        Command::Expose(ports) => format!("expose {}", quote_list(ports)),
        Command::Healthcheck(check) => format!(
            "healthcheck {} {} {} {} {} {}",
            quote_list(&check.test),
            check.interval.as_nanos(),
            check.timeout.as_nanos(),
            check.start_period.as_nanos(),
            check.start_interval.as_nanos(),
            check.retries,
        ),
        Command::Label(list) => format!("label{}", pairs(list)),
        Command::Maintainer(name) => format!("maintainer {}", quote(name)),
        Command::Onbuild(trigger) => format!("onbuild {}", quote(trigger)),
        Command::Run(run) => run_fields(run),
        Command::Shell(shell) => format!("shell {}", quote_list(shell)),
        Command::Stopsignal(signal) => format!("stopsignal {}", quote(signal)),
        Command::User(user) => format!("user {}", quote(user)),
        Command::Volume(volumes) => format!("volume {}", quote_list(volumes)),
        Command::Workdir(path) => format!("workdir {}", quote(path)),
    }
}

fn run_fields(run: &Run) -> String {
    let mut out = format!(
        "run {} shell {} network {} security {}",
        quote_list(&run.command.arguments),
        run.command.is_shell,
        run.network,
        run.security,
    );
    for heredoc in &run.heredocs {
        let (name, content) = (quote(&heredoc.name), quote(&heredoc.content));
        write!(out, " heredoc {name} {content} {}", heredoc.strips_tabs).unwrap();
    }
    for device in &run.devices {
        write!(out, " device {} {}", quote(&device.name), device.required).unwrap();
    }
    for mount in &run.mounts {
        write!(out, " from {}", quote(&mount.from)).unwrap();
    }
    let mounts = run.mounts.iter().map(|mount| mount.resolve(&mut |word| Ok(word.to_owned())));
    match mounts.collect::<Result<Vec<_>, _>>() {
        Err(fault) => write!(out, " mounts {}", quote(&fault.message)).unwrap(),
        Ok(mounts) => {
            for mount in mounts {
                write!(
                    out,
                    " mount {} {} {} {} readonly {} size {} id {} sharing {} required {} env {} mode {} uid {} gid {}",
                    mount.kind,
                    quote(&mount.from),
                    quote(&mount.source),
                    quote(&mount.target),
                    mount.readonly,
                    mount.size,
                    quote(&mount.id),
                    quote(&mount.sharing.map(|it| it.to_string()).unwrap_or_default()),
                    mount.required,
                    optional(mount.env.as_deref().map(quote)),
                    optional(mount.mode),
                    optional(mount.uid),
                    optional(mount.gid),
                )
                .unwrap();
            }
        }
    }
    out
}
