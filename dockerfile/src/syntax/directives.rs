//! Parser directives: `# name=value` in the very first lines.

use std::collections::BTreeSet;

use crate::error::{Fault, Result};

use super::json;

const KNOWN: [&str; 3] = ["syntax", "escape", "check"];

/// What the first lines of a file say about how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The image of the frontend that is asked for: `docker/dockerfile:1`. Also told as `// syntax=` or as the member
    /// of a JSON object.
    pub syntax: Option<String>,
    /// A backslash or a backtick.
    pub escape: char,
    /// The options of the checks: `skip=all;error=true`.
    pub check: Option<String>,
}

/// Reads directives line by line, until a line is none.
pub(crate) struct DirectiveReader {
    pub(crate) escape: char,
    mark: &'static str,
    seen: BTreeSet<&'static str>,
    is_over: bool,
}

impl Default for DirectiveReader {
    fn default() -> Self {
        Self::with_mark("#")
    }
}

impl DirectiveReader {
    fn with_mark(mark: &'static str) -> Self {
        Self { escape: '\\', mark, seen: BTreeSet::new(), is_over: false }
    }

    /// Whether the line is a directive.
    pub(super) fn take(&mut self, line: &str) -> Result<bool> {
        let Some((name, value)) = self.read(line)? else { return Ok(false) };
        if name == "escape" {
            self.escape = match value {
                "`" => '`',
                "\\" => '\\',
                other => {
                    return Err(Fault::at(
                        other,
                        format!("invalid escape token '{other}' does not match ` or \\"),
                    ));
                }
            };
        }
        Ok(true)
    }

    fn read<'a>(&mut self, line: &'a str) -> Result<Option<(&'static str, &'a str)>> {
        if self.is_over {
            return Ok(None);
        }
        let found = line
            .strip_prefix(self.mark)
            .and_then(|text| name_and_value(text.trim_start()))
            .and_then(|(name, value)| {
                let known = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
                Some((known, value))
            });
        let Some((name, value)) = found else {
            self.is_over = true;
            return Ok(None);
        };
        if !self.seen.insert(name) {
            return Err(format!("only one {name} parser directive can be used").into());
        }
        Ok(Some((name, value)))
    }
}

/// `name = value`, the name of letters and digits. The value is not empty.
fn name_and_value(text: &str) -> Option<(&str, &str)> {
    let is_space = |character: char| matches!(character, '\t' | '\n' | '\u{c}' | '\r' | ' ');
    let (name, value) = text.split_once('=')?;
    let name = name.trim_end_matches(is_space);
    if !name.starts_with(|first: char| first.is_ascii_alphabetic())
        || !name.chars().all(|character| character.is_ascii_alphanumeric())
    {
        return None;
    }
    let trimmed = value.trim_matches(is_space);
    if !trimmed.is_empty() {
        return Some((name, trimmed));
    }
    // Nothing but spaces: the last of them is the value, as odd as that is.
    let last = value.char_indices().next_back()?;
    Some((name, &value[last.0..]))
}

/// The first word of a directive's value, and the whole value. Unlike [`DirectiveReader::take`] it allows a line
/// `#!…` above.
pub(crate) fn find<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    find_marked(source, name, "#")
}

fn find_marked<'a>(source: &'a str, name: &str, mark: &'static str) -> Option<&'a str> {
    let mut reader = DirectiveReader::with_mark(mark);
    for line in without_shebang(source).lines() {
        match reader.read(line) {
            Ok(Some((found, value))) if found == name => return value.split(' ').next(),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
    None
}

/// `# syntax=`, `// syntax=` or `{"syntax": …}`: who wants another frontend may write the file in another language.
pub(crate) fn syntax(source: &str) -> Option<String> {
    find_marked(source, "syntax", "#")
        .or_else(|| find_marked(source, "syntax", "//"))
        .map(str::to_owned)
        .or_else(|| json::member(without_shebang(source), "syntax"))
}

fn without_shebang(source: &str) -> &str {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    if !source.starts_with("#!") {
        return source;
    }
    source.split_once('\n').map_or("", |(_, rest)| rest)
}
