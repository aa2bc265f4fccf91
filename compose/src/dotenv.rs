//! Files of variables: `.env` and `env_file`.
//!
//! ```text
//!   NAME=value # comment      export NAME=value      NAME: value      NAME   (taken from the environment)
//!   NAME='as it stands, on several lines if need be'
//!   NAME="escapes \n and ${VARIABLES}, on several lines too"
//! ```

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::files;
use crate::interpolate::{Lookup, substitute};

pub type Variables = BTreeMap<String, String>;

/// Reads a file's text into `into`. Variables in values are looked up with `lookup`, then in what was read before.
pub(crate) fn read(
    text: &str,
    into: &mut Variables,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line_of = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
    while let Some(statement) = next_statement(rest) {
        let line = line_of(statement);
        let failed = |error: Error| Error::new(format!("line {line}: {error}"));
        let (name, after) = name(statement).map_err(failed)?;
        match name {
            Name::Inherited(name) => {
                if let Some(value) = lookup(name) {
                    into.insert(name.to_owned(), value);
                }
                rest = after;
            }
            Name::Assigned(name) => {
                let known = |key: &str| lookup(key).or_else(|| into.get(key).cloned());
                let (value, after) = value(after, &known, unset).map_err(failed)?;
                into.insert(name.to_owned(), value);
                rest = after;
            }
        }
    }
    Ok(())
}

/// The variables of a file that no project names. Values are looked up in `known` first, as names without one are.
///
/// # Errors
/// The file, and where in it, for what cannot be read.
pub fn variables_of(file: &str, known: &Variables) -> Result<Variables> {
    let failed = |it: Error| Error::new(format!("failed to read {file}: {it}"));
    let mut variables = Variables::new();
    let lookup = |name: &str| known.get(name).cloned();
    read(&files::read(file)?, &mut variables, &lookup, &mut |_| {}).map_err(failed)?;
    Ok(variables)
}

/// Reads a file as `docker run --env-file` does: a line is a variable, as it stands.
pub(crate) fn read_raw(text: &str, into: &mut Variables, lookup: Lookup<'_>) -> Result<()> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (line, None),
        };
        let failed =
            |what: &str| Error::new(format!("line {}: variable {key:?} {what}", index + 1));
        if key.is_empty() {
            return Err(failed("has no name"));
        }
        if key.contains(char::is_whitespace) {
            return Err(failed("contains whitespaces"));
        }
        match value {
            Some(value) => {
                into.insert(key.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = lookup(key) {
                    into.insert(key.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// Behind white space and comments.
fn next_statement(text: &str) -> Option<&str> {
    let mut rest = text.trim_start();
    while rest.starts_with('#') {
        rest = rest[rest.find('\n')?..].trim_start();
    }
    (!rest.is_empty()).then_some(rest)
}

enum Name<'t> {
    Assigned(&'t str),
    /// Nothing but the name on the line.
    Inherited(&'t str),
}

fn name(statement: &str) -> Result<(Name<'_>, &str)> {
    let statement = match statement.strip_prefix("export") {
        Some(rest) if rest.starts_with(is_space) => rest.trim_start_matches(is_space),
        _ => statement,
    };
    let mut end = statement.len();
    for (at, letter) in statement.char_indices() {
        match letter {
            '=' | ':' | '\n' => {
                end = at;
                break;
            }
            '_' | '.' | '-' | '[' | ']' => {}
            _ if letter.is_alphanumeric() || is_space(letter) => {}
            _ => {
                let line = statement.lines().next().unwrap_or_default();
                return Err(Error::new(format!(
                    "unexpected character {letter:?} in variable name {line:?}"
                )));
            }
        }
    }
    let name = statement[..end].trim_end();
    if name.contains(' ') {
        return Err(Error::new("key cannot contain a space"));
    }
    let separator = statement[end..].chars().next();
    let after = statement.get(end + 1..).unwrap_or("").trim_start_matches(is_space);
    match separator {
        Some('=' | ':') => Ok((Name::Assigned(name), after)),
        _ => Ok((Name::Inherited(name), after)),
    }
}

/// White space that ends no line.
fn is_space(letter: char) -> bool {
    matches!(letter, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

fn value<'t>(
    text: &'t str,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> Result<(String, &'t str)> {
    let Some(quote) = text.chars().next().filter(|it| matches!(it, '"' | '\'')) else {
        let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
        let line = line.split_once(" #").map_or(line, |(value, _)| value);
        return Ok((substitute(line.trim_end(), lookup, unset)?, rest));
    };
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            let rest = &text[at + 1..];
            if quote == '"' {
                value = substitute(&unescaped(&value), lookup, unset)?;
            }
            return Ok((value, rest));
        }
        if letter != '\\' {
            value.push(letter);
            continue;
        }
        match letters.next() {
            Some((_, escaped)) if escaped == quote => value.push(escaped),
            Some((_, escaped)) => value.extend(['\\', escaped]),
            None => break,
        }
    }
    let line = text.lines().next().unwrap_or_default();
    Err(Error::new(format!("unterminated quoted value {line}")))
}

/// The escapes of a shell's `$'…'`, as far as they are known here; others stay as they are.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(letter) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        let replaced = match letter {
            'a' => "\u{7}",
            'b' => "\u{8}",
            'f' => "\u{c}",
            'n' => "\n",
            'r' => "\r",
            't' => "\t",
            'v' => "\u{b}",
            '\\' => "\\",
            '"' => "\"",
            // The dollar sign that the interpolation behind this leaves alone.
            '$' => "$$",
            '0' => {
                let digits = rest[1..].bytes().take(3).take_while(u8::is_ascii_digit).count();
                match u8::from_str_radix(&rest[1..=digits], 8) {
                    Ok(code) if digits == 3 => out.push(char::from(code)),
                    _ => {
                        out.push('\\');
                        out.push_str(&rest[..=digits]);
                    }
                }
                rest = &rest[1 + digits..];
                continue;
            }
            _ => {
                out.push('\\');
                continue;
            }
        };
        out.push_str(replaced);
        rest = &rest[letter.len_utf8()..];
    }
    out.push_str(rest);
    out
}
