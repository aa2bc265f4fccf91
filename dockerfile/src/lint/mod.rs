//! The checks of `build --check`: 22 rules, their warnings and the error at which a build would stop.
//!
//! ```text
//!   rules    the table of names, descriptions and addresses
//!   options  # check=skip=…;experimental=…;error=…, for the file or for the instruction below
//!   written  what the text of an instruction alone shows
//!   file     what needs all stages: names, letters, base images
//!   stage    the stages in the order of a build, each on its base
//!   walk     what a stage's instructions do to each other, with the values of variables
//! ```

mod file;
mod options;
pub mod rules;
mod stage;
mod walk;
mod written;

use std::collections::BTreeMap;

use crate::dockerfile::Dockerfile;
use crate::dockerignore::Matcher;
use crate::error::{ParseError, Position, Range};
use crate::platform::Platform;
use crate::syntax::directives;

use self::options::Options;
pub use self::rules::Rule;

/// What the checks know besides the file.
pub struct Request<'a> {
    /// Without one all stages are checked.
    pub target: Option<&'a str>,
    pub build_args: &'a BTreeMap<String, String>,
    pub build_platform: Platform,
    pub target_platform: Platform,
    /// The context's `.dockerignore`.
    pub ignored: Option<&'a Matcher>,
    /// Options in place of the file's `# check=`.
    pub options: Option<&'a str>,
    /// What is known of an image; None when nothing is: then it is one for the platform, with a PATH.
    pub image: &'a dyn Fn(&str, &Platform) -> Option<BaseImage>,
}

/// The configuration of a base image, as far as it matters.
#[derive(Debug, Clone, Default)]
pub struct BaseImage {
    pub platform: Platform,
    /// `NAME=value`
    pub env: Vec<String>,
    pub shell: Vec<String>,
    pub workdir: String,
    pub onbuild: Vec<String>,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub rule: &'static Rule,
    /// BuildKit's `detail`: what exactly is wrong.
    pub message: String,
    pub range: Range,
}

/// All that was found, in the order of the lines.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub warnings: Vec<Warning>,
    /// Where reading stopped. What is below was not checked.
    pub error: Option<ParseError>,
}

/// Checks a file without building it.
pub fn check(source: &[u8], request: &Request<'_>) -> Report {
    let text = String::from_utf8_lossy(source);
    let written = request.options.or_else(|| directives::find(&text, "check"));
    let mut linter = Linter::default();
    let outcome = match Options::parse(written.unwrap_or_default()) {
        Ok(options) => {
            linter.options = options;
            run(&mut linter, source, request)
        }
        Err(why) => {
            Err(ParseError::new(Range::default(), format!("failed to parse check options: {why}")))
        }
    };
    let error = outcome.and_then(|()| linter.verdict()).err();
    let mut warnings = linter.warnings;
    warnings.sort_by_key(|warning| warning.range.start.line);
    Report { warnings, error }
}

fn run(linter: &mut Linter, source: &[u8], request: &Request<'_>) -> Result<(), ParseError> {
    let file = Dockerfile::parse_watched(source, &mut |event| written::check(linter, &event))?;
    file::check_names(linter, &file);
    file::check_casing(linter, &file);
    let globals = file::check_bases(linter, &file, request)?;
    stage::check(linter, &file, request, &globals)
}

/// Gathers warnings that are not turned off.
#[derive(Default)]
struct Linter {
    options: Options,
    warnings: Vec<Warning>,
}

impl Linter {
    /// `comments` are those above the instruction; they may turn rules on and off.
    fn warn(&mut self, rule: &'static Rule, range: Range, comments: &[String], message: String) {
        let own = Options::of_comments(comments);
        if self.options.allows(rule, own.as_ref()) {
            self.warnings.push(Warning { rule, message, range });
        }
    }

    /// `error=true` makes warnings an error.
    fn verdict(&self) -> Result<(), ParseError> {
        if !self.options.is_strict || self.warnings.is_empty() {
            return Ok(());
        }
        let mut names: Vec<_> = self.warnings.iter().map(|warning| warning.rule.name).collect();
        names.sort_unstable();
        names.dedup();
        let message = format!("lint violation found for rules: {}", names.join(", "));
        Err(ParseError::new(Range::default(), message))
    }
}

fn line(number: usize) -> Range {
    let position = Position { line: number, column: 1 };
    Range { start: position, end: position }
}

#[cfg(test)]
mod tests;
