//! What the checks find, and the history of what would be built.

use std::collections::BTreeMap;
use std::fmt::Write;

use cais_dockerfile::history::{self, Shown};
use cais_dockerfile::lint::{self, BaseImage, Request};
use cais_dockerfile::quote::{quote, quote_list};
use cais_dockerfile::{
    Base, Command, Dockerfile, Env, Expander, Graph, Instruction, ParseError, Platform, Scope,
};

use super::lines;

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

pub(super) fn describe_checks(out: &mut String, data: &[u8], target: Option<&str>) {
    let build_args = BTreeMap::from(
        [("GIVEN", "given"), ("HTTP_PROXY", "http://proxy")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let platform = Platform::parse("linux/amd64").unwrap();
    let request = Request {
        target,
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
    match build(data, &request) {
        Err(error) => writeln!(out, "build {}", quote(&error.to_string())).unwrap(),
        Ok(built) => {
            for entry in built.entries {
                writeln!(out, "history {} {}", quote(&entry.text), entry.has_layer).unwrap();
            }
            writeln!(out, "env {}", quote_list(&built.scope.image_env())).unwrap();
        }
    }
}

/// A stage that was built, as far as its history goes.
struct Built {
    scope: Scope,
    shell: Vec<String>,
    workdir: String,
    triggers: Vec<String>,
    entries: Vec<history::Entry>,
}

fn build(data: &[u8], request: &Request<'_>) -> Result<Built, ParseError> {
    let file = Dockerfile::parse(data)?;
    let Request { build_platform, target_platform, build_args, .. } = request;
    let globals = file.globals(build_platform, target_platform, request.target, build_args)?;
    let graph = file.graph(&globals)?;
    let target = file.target(request.target).unwrap();
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
    Ok(done.remove(&target).unwrap())
}

fn begun(graph: &Graph, index: usize, done: &BTreeMap<usize, Built>) -> Built {
    let image = match &graph.bases[index] {
        Base::Stage(base) => return child(&done[base]),
        Base::Scratch => BaseImage::default(),
        Base::Image(name) => image(name, &Platform::host()).unwrap(),
    };
    let mut env = image.env;
    let is_windows = graph.platforms[index].as_ref().is_some_and(|it| it.os == "windows");
    if env.is_empty() && !is_windows {
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

fn child(base: &Built) -> Built {
    Built {
        scope: base.scope.child(),
        shell: base.shell.clone(),
        workdir: base.workdir.clone(),
        triggers: base.triggers.clone(),
        entries: base.entries.clone(),
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
