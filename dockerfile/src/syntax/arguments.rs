//! What stands behind the flags. How it is cut depends on the instruction.

use crate::error::{Fault, Result};
use crate::quote::quote;

use super::json;

/// The arguments of the instruction with this keyword, in lower case, and whether they were a JSON array. ENV and
/// LABEL give three each: the name, the value, and `=` or nothing.
pub(super) fn read(keyword: &str, text: &str, escape: char) -> Result<(Vec<String>, bool)> {
    match keyword {
        "add" | "copy" | "volume" => Ok(match json_list(text)? {
            Some(list) => (list, true),
            None => (whitespace_words(text), false),
        }),
        "cmd" | "entrypoint" | "run" | "shell" => maybe_json(text),
        "healthcheck" => healthcheck(text),
        "arg" => Ok((words(text, escape), false)),
        "env" => Ok((names_and_values("ENV", text, escape)?, false)),
        "label" => Ok((names_and_values("LABEL", text, escape)?, false)),
        "expose" | "from" => Ok((whitespace_words(text), false)),
        "maintainer" | "stopsignal" | "user" | "workdir" => Ok((whole(text), false)),
        // Not an instruction; who understands them says so.
        _ => Ok((Vec::new(), false)),
    }
}

fn whole(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { vec![text.to_owned()] }
}

fn maybe_json(text: &str) -> Result<(Vec<String>, bool)> {
    Ok(match json_list(text)? {
        Some(list) => (list, true),
        None => (whole(text), false),
    })
}

/// The strings of a JSON array. What is no JSON is a command for the shell, even if it looks like an array.
fn json_list(text: &str) -> Result<Option<Vec<String>>> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    match json::strings(text) {
        json::Strings::All(strings) => Ok(Some(strings)),
        json::Strings::NotOnly => Err(Fault::at(
            "[",
            "when using JSON array syntax, arrays must be comprised of strings only",
        )),
        json::Strings::NoJson => Ok(None),
    }
}

/// The type, then a command in either form.
fn healthcheck(text: &str) -> Result<(Vec<String>, bool)> {
    let (kind, command) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (command, is_json) = maybe_json(command.trim_start())?;
    let mut arguments = whole(kind);
    if !arguments.is_empty() {
        arguments.extend(command);
    }
    Ok((arguments, is_json))
}

/// Cut at spaces; quotes mean nothing.
fn whitespace_words(text: &str) -> Vec<String> {
    text.split(['\t', '\u{b}', '\u{c}', '\r', ' '])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `name=value…`, or the old `name value` when the first word has no `=`.
fn names_and_values(keyword: &str, text: &str, escape: char) -> Result<Vec<String>> {
    let words = words(text, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let is_blank = |character| matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ');
        let Some((name, value)) = text.split_once(is_blank) else {
            return Err(Fault::at(text, format!("{keyword} must have two arguments")));
        };
        let value = value.trim_start_matches(is_blank);
        return Ok(vec![name.to_owned(), value.to_owned(), String::new()]);
    }
    let mut arguments = Vec::with_capacity(words.len() * 3);
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            let quoted = quote(&word);
            return Err(Fault::at(
                &word,
                format!("Syntax error - can't find = in {quoted}. Must be of the form: name=value"),
            ));
        };
        arguments.extend([name.to_owned(), value.to_owned(), "=".to_owned()]);
    }
    Ok(arguments)
}

/// Cut at spaces outside of quotes. Quotes and escapes stay: the expansion of the words takes them away.
fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(next) = characters.next() {
        match quote {
            None if next.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if next == '\'' || next == '"' => quote = Some(next),
            Some(open) if next == open => quote = None,
            _ => {}
        }
        if next == escape && quote != Some('\'') {
            // At the very end it escapes nothing and is dropped.
            let Some(escaped) = characters.next() else { break };
            word.extend([next, escaped]);
            continue;
        }
        word.push(next);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}
