//! What needs all stages: their names, the letters of their keywords, the images they are built on.

use std::collections::BTreeSet;

use crate::dockerfile::{Dockerfile, Stage};
use crate::env::Env;
use crate::error::{Fault, ParseError, Range};
use crate::graph::{base_name, platform};
use crate::instruction::Command;
use crate::quote::quote;
use crate::reference;
use crate::suggest::{Case, hint};

use super::rules;
use super::{Linter, Request};

pub(super) fn check_names(linter: &mut Linter, file: &Dockerfile) {
    let mut seen = BTreeSet::new();
    for stage in &file.stages {
        let Some(name) = &stage.name else { continue };
        let quoted = quote(name);
        if matches!(name.as_str(), "context" | "scratch") {
            let message =
                format!("Stage name should not use the same name as reserved stage {quoted}");
            linter.warn(&rules::RESERVED_STAGE_NAME, stage.range, &[], message);
        }
        if !seen.insert(name) {
            let message = format!("Duplicate stage name {quoted}, stage names should be unique");
            linter.warn(&rules::DUPLICATE_STAGE_NAME, stage.range, &[], message);
        }
    }
}

/// All keywords should be written as the majority is; with as many of each, in capitals.
pub(super) fn check_casing(linter: &mut Linter, file: &Dockerfile) {
    let keywords: Vec<(&str, Range)> = file
        .stages
        .iter()
        .flat_map(|stage| {
            let instructions = stage.instructions.iter();
            let instructions = instructions.map(|it| (it.keyword.as_str(), it.range));
            std::iter::once((stage.keyword.as_str(), stage.range)).chain(instructions)
        })
        .collect();
    let is_lower = |keyword: &str| keyword == keyword.to_lowercase();
    let is_upper = |keyword: &str| keyword == keyword.to_uppercase();
    let lower = keywords.iter().filter(|(keyword, _)| is_lower(keyword)).count();
    let upper = keywords.iter().filter(|(keyword, _)| is_upper(keyword)).count();
    for (keyword, range) in keywords {
        let letters = if lower > upper && !is_lower(keyword) {
            "lowercase"
        } else if lower <= upper && !is_upper(keyword) {
            "uppercase"
        } else {
            continue;
        };
        let message = format!(
            "Command '{keyword}' should match the case of the command majority ({letters})"
        );
        linter.warn(&rules::CONSISTENT_INSTRUCTION_CASING, range, &[], message);
    }
}

/// The FROMs. Gives the arguments that they were expanded with.
pub(super) fn check_bases(
    linter: &mut Linter,
    file: &Dockerfile,
    request: &Request<'_>,
) -> Result<Env, ParseError> {
    check_defaults(linter, file, request);
    let globals = file.globals(
        &request.build_platform,
        &request.target_platform,
        request.target,
        request.build_args,
    )?;
    // Declared without a value is declared, too.
    let mut known: Vec<&str> = globals.names();
    for instruction in &file.global_args {
        if let Command::Arg(args) = &instruction.command {
            known.extend(args.iter().map(|arg| arg.name.as_str()));
        }
    }
    known.sort_unstable();
    known.dedup();
    for stage in &file.stages {
        check_from(linter, file, stage, &globals, &known)
            .map_err(|fault| ParseError::new(stage.range, fault.message))?;
    }
    Ok(globals)
}

/// A base must have a name even when nobody gives build arguments.
fn check_defaults(linter: &mut Linter, file: &Dockerfile, request: &Request<'_>) {
    // What cannot be expanded stops the build later, with its own words.
    let Ok(globals) = file.default_globals(
        &request.build_platform,
        &request.target_platform,
        request.target,
        request.build_args,
    ) else {
        return;
    };
    for stage in &file.stages {
        let Ok(name) = file.expander().expand(&stage.base, &globals) else { return };
        if reference::check(&name).is_err() {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            linter.warn(&rules::INVALID_DEFAULT_ARG_IN_FROM, stage.range, &[], message);
        }
    }
}

fn check_from(
    linter: &mut Linter,
    file: &Dockerfile,
    stage: &Stage,
    globals: &Env,
    known: &[&str],
) -> Result<(), Fault> {
    let expander = file.expander();
    let (_, unset) = expander.expansion_noting(&stage.base, globals);
    report_unknown(linter, stage, &unset, known);
    base_name(&expander, stage, globals)?;
    let Some(written) = &stage.platform else { return Ok(()) };
    let (_, unset) = expander.expansion_noting(written, globals);
    report_unknown(linter, stage, &unset, known);
    let read = platform(&expander, stage, globals)?;
    let Some((expansion, platform)) = read else { return Ok(()) };
    if unset.is_empty()
        && expansion.used.iter().eq(["TARGETPLATFORM"])
        && globals.get("TARGETPLATFORM") == Some(&expansion.text)
    {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        linter.warn(&rules::REDUNDANT_TARGET_PLATFORM, stage.range, &stage.comments, message);
    }
    // A stage that carries the platform in its name means it.
    let name = stage.name.as_deref().unwrap_or_default();
    let is_meant = name.contains(&platform.os) || name.contains(&platform.architecture);
    if unset.is_empty() && expansion.used.is_empty() && !is_meant {
        let message = format!(
            "FROM --platform flag should not use constant value {}",
            quote(&expansion.text)
        );
        let rule = &rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED;
        linter.warn(rule, stage.range, &stage.comments, message);
    }
    Ok(())
}

fn report_unknown(linter: &mut Linter, stage: &Stage, unset: &BTreeSet<String>, known: &[&str]) {
    for name in unset.iter().filter(|name| !known.contains(&name.as_str())) {
        let hint = hint(name, known.iter().copied(), Case::Matters);
        let message = format!("FROM argument '{name}' is not declared{hint}");
        linter.warn(&rules::UNDEFINED_ARG_IN_FROM, stage.range, &stage.comments, message);
    }
}
