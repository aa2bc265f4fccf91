//! `build --check`: what is doubtful in a Dockerfile, shown as buildx shows it.

use std::collections::BTreeMap;
use std::fmt::Write;

use cais_dockerfile::lint::{self, Request};
use cais_dockerfile::{Platform, Range};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::output;

/// A variable, among the arguments, that has the options of the checks.
const OPTIONS: &str = "BUILDKIT_DOCKERFILE_CHECK";
/// Lines that are shown around those in question.
const AROUND: usize = 2;
const RULER: &str = "--------------------";

/// # Errors
/// With the code 1 when something was found; it has been shown.
pub(super) fn check(
    context: &Context,
    target: &str,
    arguments: &BTreeMap<String, Option<String>>,
) -> Result<()> {
    let (name, text) = context.dockerfile_text()?;
    let build_args: BTreeMap<String, String> =
        arguments.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    let report = lint::check(
        text.as_bytes(),
        &Request {
            target: Some(target).filter(|target| !target.is_empty()),
            options: build_args.get(OPTIONS).map(String::as_str),
            build_args: &build_args,
            build_platform: Platform::host(),
            target_platform: Platform::host(),
            ignored: Some(context.ignored()),
            image: &|_, _| None,
        },
    );
    let count = report.warnings.len();
    output::line(&match (count, &report.error) {
        (0, None) => "Check complete, no warnings found.".to_owned(),
        (0, Some(_)) => "Check failed.".to_owned(),
        (1, _) => "Check complete, 1 warning has been found!".to_owned(),
        (count, _) => format!("Check complete, {count} warnings have been found!"),
    })?;
    for warning in &report.warnings {
        let (rule, message) = (&warning.rule, &warning.message);
        output::line(&format!("\nWARNING: {} - {}\n{message}", rule.name, rule.url))?;
        output::raw(&excerpt(&name, &text, warning.range))?;
    }
    match report.error {
        Some(error) => {
            Err(Failure::new(format!("\n{error}{}", excerpt(&name, &text, error.range))))
        }
        None if count > 0 => Err(Failure::exit(1)),
        None => Ok(()),
    }
}

/// The lines in question, marked, with some around them.
fn excerpt(name: &str, text: &str, range: Range) -> String {
    let (first, last) = (range.start.line, range.end.line.max(range.start.line));
    if first == 0 {
        return "\n".to_owned();
    }
    let mut shown = format!("\n{name}:{first}\n{RULER}\n");
    let from = first.saturating_sub(AROUND).max(1);
    for (index, line) in text.lines().enumerate().skip(from - 1).take(last + AROUND + 1 - from) {
        let number = index + 1;
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        // Writing to a string does not fail.
        let _ = writeln!(shown, "{number:>4} | {mark} {line}");
    }
    shown.push_str(RULER);
    shown.push('\n');
    shown
}

#[cfg(test)]
mod tests {
    use cais_dockerfile::Position;

    use super::*;

    #[test]
    fn lines_in_question_are_marked_among_others() {
        let at = |line| Position { line, column: 0 };
        let text = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";
        let shown = excerpt("Dockerfile", text, Range { start: at(4), end: at(5) });
        let expected = "\nDockerfile:4\n--------------------\n   2 |     two\n   3 |     three\n   4 | >>> four\n   \
                        5 | >>> five\n   6 |     six\n   7 |     seven\n--------------------\n";
        assert_eq!(shown, expected);
        assert!(excerpt("x", "a\n", Range { start: at(1), end: at(1) }).contains("   1 | >>> a\n"));
    }
}
