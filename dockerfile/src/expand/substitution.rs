//! What stands behind a dollar: a name, or braces with a name and what to make of its value.

use super::pattern;
use super::reader::{Reader, Text};

/// How deep `${a:-${b:-…}}` may go. Each level costs stack.
const DEEPEST: usize = 200;

impl Reader<'_> {
    pub(super) fn variable(&mut self) -> Text {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return match self.value(&name)? {
                None if self.rules.keeps_unset => Ok(format!("${name}")),
                value => Ok(value.unwrap_or_default()),
            };
        }
        match self.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("substitutions are nested deeper than {DEEPEST}"));
        }
        let name = self.name();
        let value = match self.rest.next() {
            Some('}') => match self.value(&name)? {
                None if self.rules.keeps_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => {
                let modifier = self.rest.next();
                self.modified(&name, modifier, Counts::Unset)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => {
                self.modified(&name, Some(modifier), Counts::Set)
            }
            Some('/') => self.replaced(&name),
            other => Err(unsupported(&spelled(other).to_string())),
        };
        self.depth -= 1;
        value
    }

    /// `${name-word}` and its like. `empty` says what an empty value counts as: the `:` makes it unset.
    fn modified(&mut self, name: &str, modifier: Option<char>, empty: Counts) -> Text {
        let colon = if empty == Counts::Unset { ":" } else { "" };
        let written = format!("{colon}{}", spelled(modifier));
        let is_pattern = matches!(modifier, Some('#' | '%'));
        if is_pattern && empty == Counts::Unset {
            return Err(unsupported(&written));
        }
        let word = match self.until(Some('}'), is_pattern) {
            Ok((word, _)) => word,
            Err(_) if self.peek().is_none() => return Err("syntax error: missing '}'".to_owned()),
            Err(reason) => return Err(reason),
        };
        let value = self.value(name)?;
        if value.is_none() && self.rules.keeps_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let is_missing = match (&value, empty) {
            (None, _) => true,
            (Some(value), Counts::Unset) => value.is_empty(),
            (Some(_), Counts::Set) => false,
        };
        match modifier {
            Some('-') => Ok(if is_missing { word } else { value.unwrap_or_default() }),
            Some('+') => Ok(if is_missing { String::new() } else { word }),
            Some('?') if is_missing => {
                let state = if value.is_none() { "unset" } else { "empty" };
                let said =
                    if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                Err(format!("{name}: {said}"))
            }
            Some('?') => Ok(value.unwrap_or_default()),
            Some('#') => pattern::without_start(&word, &value.unwrap_or_default()),
            Some('%') => pattern::without_end(&word, &value.unwrap_or_default()),
            _ => Err(unsupported(&written)),
        }
    }

    fn replaced(&mut self, name: &str) -> Text {
        let every = self.rest.next_if_eq(&'/').is_some();
        let pattern = match self.until(Some('/'), true) {
            Ok((pattern, _)) => pattern,
            Err(_) if self.peek().is_none() => {
                return Err("syntax error: missing '/' in ${}".to_owned());
            }
            Err(reason) => return Err(reason),
        };
        let replacement = match self.until(Some('}'), true) {
            Ok((replacement, _)) => replacement,
            Err(_) if self.peek().is_none() => return Err("syntax error: missing '}'".to_owned()),
            Err(reason) => return Err(reason),
        };
        let value = self.value(name)?;
        if value.is_none() && self.rules.keeps_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let replaced = if every {
            pattern::every_replaced(&pattern, &value, &replacement)
        } else {
            pattern::first_replaced(&pattern, &value, &replacement)
        }?;
        self.take_room(replaced.len())?;
        Ok(replaced)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Set,
    Unset,
}

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier ({modifier}) in substitution")
}

/// What Go makes of a character that is not there.
fn spelled(character: Option<char>) -> char {
    character.unwrap_or(char::REPLACEMENT_CHARACTER)
}
