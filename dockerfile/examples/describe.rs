//! Writes what the crate makes of each file of a corpus, for `hack/dockerfile` to compare with BuildKit.
//!
//! The lines are those of `hack/dockerfile-src/describe.go`, which says what they hold.

#![expect(clippy::unwrap_used, reason = "a tool for tests stops where it cannot go on")]

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::path::Path;
use std::{env, fs, io};

use cais_dockerfile::dockerignore::{self, Matcher};
use cais_dockerfile::history::{self, Shown};
use cais_dockerfile::instruction::{Arg, Pair, Run, Sources};
use cais_dockerfile::lint::{self, BaseImage, Request};
use cais_dockerfile::quote::{quote, quote_list};
use cais_dockerfile::{
    Base, Command, Dockerfile, Env, Expander, Graph, Instruction, ParseError, Platform, Range,
    Scope,
};

fn main() {
    let directory = env::args().nth(1).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut out = String::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        writeln!(out, "{name}").unwrap();
        describe(&mut out, &file);
        out.push('\0');
    }
    io::Write::write_all(&mut io::stdout(), out.as_bytes()).unwrap();
}

fn describe(out: &mut String, file: &Path) {
    let data = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&data);
    match file.extension().unwrap().to_str().unwrap() {
        "words" => describe_words(out, &text),
        "ignore" => describe_ignore(out, &text),
        _ => {
            describe_syntax(out, &data);
            describe_checks(out, &data);
        }
    }
}

fn describe_words(out: &mut String, text: &str) {
    let env = Env::from_pairs([
        "NAME=web",
        "EMPTY=",
        "FILE=archive.tar.gz",
        "TWO=a b",
        "PATH=/usr/bin:/bin",
        "STAR=*",
        "N=12",
    ]);
    for word in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let quoted = quote(word);
        for escape in ['\\', '`'] {
            match Expander::new(escape).expansion(word, &env) {
                Err(fault) => {
                    writeln!(out, "{quoted} error {}", quote(&fault.message)).unwrap();
                }
                Ok(found) => {
                    writeln!(
                        out,
                        "{quoted} text {} used {} unset {}",
                        quote(&found.text),
                        quote_list(&Vec::from_iter(found.used)),
                        quote_list(&Vec::from_iter(found.unset)),
                    )
                    .unwrap();
                    if !word.contains("${") {
                        writeln!(out, "{quoted} words {}", quote_list(&found.words)).unwrap();
                    }
                }
            }
        }
        if let Ok(text) = Expander::for_heredoc().expand(word, &env) {
            writeln!(out, "{quoted} heredoc {}", quote(&text)).unwrap();
        }
        if let Ok(text) = Expander::for_display('\\').expand(word, &env) {
            writeln!(out, "{quoted} display {}", quote(&text)).unwrap();
        }
    }
}

fn describe_ignore(out: &mut String, text: &str) {
    let (file, paths) = text.split_once("\n---\n").unwrap();
    let patterns = dockerignore::parse(file.as_bytes());
    writeln!(out, "patterns {}", quote_list(&patterns)).unwrap();
    let matcher = match Matcher::new(&patterns) {
        Ok(matcher) => matcher,
        Err(why) => return writeln!(out, "error {}", quote(&why)).unwrap(),
    };
    writeln!(out, "exclusions {}", matcher.has_exclusions()).unwrap();
    for path in paths.split_whitespace() {
        writeln!(out, "{} {}", quote(path), matcher.is_ignored(path)).unwrap();
    }
}

fn describe_syntax(out: &mut String, data: &[u8]) {
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

fn lines(range: Range) -> String {
    format!("{}-{}", range.start.line, range.end.line)
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

/// What an image has follows from its name.
fn image(name: &str, _: &Platform) -> Option<BaseImage> {
    let has = |word: &str| name.contains(word);
    let owned = |texts: &[&str], when| {
        let texts = texts.iter().map(|text| (*text).to_owned());
        if when { texts.collect() } else { Vec::new() }
    };
    Some(BaseImage {
        platform: Platform::parse(if has("arm") { "linux/arm64" } else { "linux/amd64" }).unwrap(),
        env: owned(&["PATH=/base", "BASE=1"], has("env")),
        shell: owned(&["/bin/bash", "-c"], has("shell")),
        workdir: if has("workdir") { "/base".to_owned() } else { String::new() },
        onbuild: owned(&["ENV TRIGGER=$PATH", "RUN make $UNKNOWN"], has("trigger")),
    })
}

fn describe_checks(out: &mut String, data: &[u8]) {
    let build_args = BTreeMap::from(
        [("GIVEN", "given"), ("HTTP_PROXY", "http://proxy")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let platform = Platform::parse("linux/amd64").unwrap();
    let request = Request {
        target: None,
        build_args: &build_args,
        build_platform: platform.clone(),
        target_platform: platform,
        ignored: None,
        options: None,
        image: &image,
    };
    let report = lint::check(data, &request);
    let mut found: Vec<_> = report
        .warnings
        .iter()
        .map(|warning| {
            format!(
                "{:06} warning {} {} {} {} {}\n",
                warning.range.start.line,
                warning.rule.name,
                quote(warning.rule.description),
                quote(warning.rule.url),
                lines(warning.range),
                quote(&warning.message)
            )
        })
        .collect();
    found.sort();
    out.extend(found);
    if let Some(error) = report.error {
        return writeln!(out, "refused {}", quote(&error.to_string())).unwrap();
    }
    match histories(data, &request) {
        Err(error) => writeln!(out, "build {}", quote(&error.to_string())).unwrap(),
        Ok(entries) => {
            for entry in entries {
                writeln!(out, "history {} {}", quote(&entry.text), entry.has_layer).unwrap();
            }
        }
    }
}

/// A stage that was built, as far as its history goes.
#[derive(Clone, Default)]
struct Built {
    scope: Scope,
    shell: Vec<String>,
    workdir: String,
    triggers: Vec<String>,
    entries: Vec<history::Entry>,
}

fn histories(data: &[u8], request: &Request<'_>) -> Result<Vec<history::Entry>, ParseError> {
    let file = Dockerfile::parse(data)?;
    let Request { build_platform, target_platform, build_args, .. } = request;
    let globals = file.globals(build_platform, target_platform, None, build_args)?;
    let graph = file.graph(&globals)?;
    let target = file.target(None).unwrap();
    let mut done: BTreeMap<usize, Built> = BTreeMap::new();
    for index in graph.needed_by(target) {
        let mut built = begun(&graph, index, &done);
        let stage = &file.stages[index];
        let triggers = std::mem::take(&mut built.triggers);
        let triggers = triggers.iter().map(|text| Instruction::from_trigger(text, stage.range));
        let mut instructions = triggers.collect::<Result<Vec<_>, _>>()?;
        instructions.extend(stage.instructions.iter().cloned());
        for instruction in &instructions {
            step(&mut built, instruction, &file.expander(), &globals, build_args)?;
        }
        done.insert(index, built);
    }
    Ok(done.remove(&target).unwrap().entries)
}

fn begun(graph: &Graph, index: usize, done: &BTreeMap<usize, Built>) -> Built {
    let image = match &graph.bases[index] {
        Base::Stage(base) => return done[base].clone(),
        Base::Scratch => BaseImage::default(),
        Base::Image(name) => image(name, &Platform::host()).unwrap(),
    };
    let mut env = image.env;
    if env.is_empty() {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    }
    Built {
        scope: Scope::new(Env::from_pairs(env)),
        shell: image.shell,
        workdir: image.workdir,
        triggers: image.onbuild,
        entries: Vec::new(),
    }
}

fn step(
    built: &mut Built,
    instruction: &Instruction,
    expander: &Expander,
    globals: &Env,
    build_args: &BTreeMap<String, String>,
) -> Result<(), ParseError> {
    let expanded = built.scope.apply(instruction, expander, globals, build_args)?;
    if let Command::Shell(shell) = &expanded.command {
        built.shell.clone_from(shell);
    }
    if let Command::Workdir(path) = &expanded.command {
        built.workdir = history::workdir(&built.workdir, path);
    }
    if let Command::Onbuild(trigger) = &expanded.command {
        built.triggers.push(trigger.clone());
    }
    let shown = Shown { shell: &built.shell, workdir: &built.workdir };
    let entry = history::entry(&expanded, expander, &built.scope, &shown);
    let entry = entry.map_err(|fault| ParseError::new(instruction.range, fault.message))?;
    built.entries.extend(entry);
    Ok(())
}
