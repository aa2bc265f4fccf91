//! Words: quotes, escapes and variables, as BuildKit's shell lexer reads them.
//!
//! ```text
//!   $name ${name}              the value, or nothing
//!   ${name-word} ${name:-word} the word when the name is unset (: or empty)
//!   ${name+word} ${name:+word} the word when it is set (: and not empty)
//!   ${name?word} ${name:?word} an error with the word when it is unset (: or empty)
//!   ${name#p} ${name##p}       without the shortest, the longest start that the pattern fits
//!   ${name%p} ${name%%p}       the same at the end
//!   ${name/p/r} ${name//p/r}   the first, every match replaced
//! ```
//! A pattern knows `*` and `?`; a backslash makes them plain. Expansion is not done by a shell: nothing is run, no
//! file is looked at.

mod pattern;

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use crate::env::Env;
use crate::error::{Fault, Result};
use crate::quote::quote;

/// How deep `${a:-${b:-…}}` may go. Each level costs stack.
const DEEPEST: usize = 200;

/// What a word may grow by: variables that contain each other double with every line.
const LARGEST_GROWTH: usize = 1 << 20;

/// What happens to quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Removed,
    /// They work and stay.
    Kept,
    /// They are characters like others.
    Plain,
}

/// Reads words of a Dockerfile.
///
/// ```
/// # use cais_dockerfile::{Env, Expander};
/// let env = Env::from_pairs(["NAME=web"]);
/// assert_eq!(Expander::new('\\').expand("/srv/${NAME:-none}", &env).unwrap(), "/srv/web");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Expander {
    escape: char,
    quotes: Quotes,
    keeps_escapes: bool,
    keeps_unset: bool,
}

/// A word that was expanded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// As one word, spaces and all.
    pub text: String,
    /// Cut at spaces outside of quotes, after variables were put in. Words that are empty are not there.
    pub words: Vec<String>,
    /// The names that were asked for and found.
    pub used: BTreeSet<String>,
    /// The names that were asked for and not found.
    pub unset: BTreeSet<String>,
}

impl Expander {
    /// `escape` is the file's escape character, [`Directives::escape`](crate::Directives).
    pub fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Removed, keeps_escapes: false, keeps_unset: false }
    }

    /// For the content of a heredoc of COPY and ADD: only variables count, quotes are text, the escape is a backslash.
    pub fn for_heredoc() -> Self {
        Self { quotes: Quotes::Plain, ..Self::new('\\') }
    }

    /// For texts that people read, such as the command of a step: quotes stay, and names without a value stay as
    /// they are written.
    pub fn for_display(escape: char) -> Self {
        Self { quotes: Quotes::Kept, keeps_unset: true, ..Self::new(escape) }
    }

    pub(crate) fn for_heredoc_name(quotes_stay: bool) -> Self {
        let quotes = if quotes_stay { Quotes::Kept } else { Quotes::Removed };
        Self { quotes, keeps_unset: true, ..Self::new('\\') }
    }

    pub(crate) fn for_heredoc_search() -> Self {
        Self { keeps_escapes: true, ..Self::for_heredoc_name(true) }
    }

    /// Without the space between words lost: one word in, one word out.
    pub fn expand(&self, word: &str, env: &Env) -> Result<String> {
        self.expansion(word, env).map(|expansion| expansion.text)
    }

    /// For instructions where a variable may hold several words.
    pub fn expand_words(&self, word: &str, env: &Env) -> Result<Vec<String>> {
        self.expansion(word, env).map(|expansion| expansion.words)
    }

    /// # Errors
    /// `failed to process "${": syntax error: missing '}'`
    pub fn expansion(&self, word: &str, env: &Env) -> Result<Expansion> {
        self.expansion_noting(word, env).0
    }

    /// The same, with the unset names that were met before an error.
    pub(crate) fn expansion_noting(
        &self,
        word: &str,
        env: &Env,
    ) -> (Result<Expansion>, BTreeSet<String>) {
        let mut reader = Reader {
            rules: *self,
            // The reader of Go's standard library, which BuildKit uses, drops a byte order mark at the start.
            rest: word.strip_prefix('\u{feff}').unwrap_or(word).chars().peekable(),
            keeps_escapes: self.keeps_escapes,
            env,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
            depth: 0,
            room: word.len() + LARGEST_GROWTH,
        };
        match reader.until(None, self.keeps_escapes) {
            Ok((text, words)) => {
                let Reader { used, unset, .. } = reader;
                (Ok(Expansion { text, words, used, unset: unset.clone() }), unset)
            }
            Err(reason) => (
                Err(Fault::at(word, format!("failed to process {}: {reason}", quote(word)))),
                reader.unset,
            ),
        }
    }
}

struct Reader<'a> {
    rules: Expander,
    rest: Peekable<Chars<'a>>,
    /// Differs from the rules inside patterns.
    keeps_escapes: bool,
    env: &'a Env,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
    depth: usize,
    /// Bytes that may still be put in.
    room: usize,
}

type Text = std::result::Result<String, String>;

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    /// Up to `stop`, which is taken, or to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        keeps_escapes: bool,
    ) -> std::result::Result<(String, Vec<String>), String> {
        let before = std::mem::replace(&mut self.keeps_escapes, keeps_escapes);
        let read = self.until_in_mode(stop);
        self.keeps_escapes = before;
        read
    }

    fn until_in_mode(
        &mut self,
        stop: Option<char>,
    ) -> std::result::Result<(String, Vec<String>), String> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(next) = self.peek() {
            if stop == Some(next) {
                self.rest.next();
                return Ok((text, words.finish()));
            }
            match next {
                '$' => {
                    let value = self.variable()?;
                    words.push_split(&value);
                    text.push_str(&value);
                }
                '<' => {
                    let value = self.angles();
                    words.push(&value);
                    text.push_str(&value);
                }
                '\'' if self.rules.quotes != Quotes::Plain => {
                    let value = self.single_quoted()?;
                    words.push(&value);
                    text.push_str(&value);
                }
                '"' if self.rules.quotes != Quotes::Plain => {
                    let value = self.double_quoted()?;
                    words.push(&value);
                    text.push_str(&value);
                }
                _ => {
                    self.rest.next();
                    if next != self.rules.escape {
                        words.push_character(next);
                        text.push(next);
                        continue;
                    }
                    if self.keeps_escapes {
                        words.push_plain(next);
                        text.push(next);
                    }
                    // At the end it escapes nothing and is dropped.
                    let Some(escaped) = self.rest.next() else { break };
                    words.push_plain(escaped);
                    text.push(escaped);
                }
            }
        }
        match stop {
            None => Ok((text, words.finish())),
            Some(stop) => {
                Err(format!("unexpected end of statement while looking for matching {stop}"))
            }
        }
    }

    fn single_quoted(&mut self) -> Text {
        let mut text = String::new();
        let kept = self.rules.quotes == Quotes::Kept;
        text.extend(self.rest.next().filter(|_| kept));
        loop {
            match self.rest.next() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching single-quote"
                            .to_owned(),
                    );
                }
                Some('\'') => {
                    text.extend(kept.then_some('\''));
                    return Ok(text);
                }
                Some(other) => text.push(other),
            }
        }
    }

    fn double_quoted(&mut self) -> Text {
        let mut text = String::new();
        let kept = self.rules.quotes == Quotes::Kept;
        text.extend(self.rest.next().filter(|_| kept));
        loop {
            match self.peek() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching double-quote"
                            .to_owned(),
                    );
                }
                Some('"') => {
                    self.rest.next();
                    text.extend(kept.then_some('"'));
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.variable()?),
                Some(other) => {
                    self.rest.next();
                    self.quoted_character(other, &mut text);
                }
            }
        }
    }

    /// Inside double quotes only `"`, `$` and the escape itself can be escaped; before others the escape is text.
    fn quoted_character(&mut self, character: char, text: &mut String) {
        let escape = self.rules.escape;
        if character != escape {
            text.push(character);
            return;
        }
        if self.keeps_escapes {
            text.push(character);
        }
        match self.peek() {
            None => {}
            Some(next) if next == '"' || next == '$' || next == escape => {
                self.rest.next();
                text.push(next);
            }
            Some(_) => text.push(character),
        }
    }

    /// `<<` and the space behind it stay together, so that `<< EOF` is one word.
    fn angles(&mut self) -> String {
        self.rest.next();
        if self.rest.next_if_eq(&'<').is_none() {
            return "<".to_owned();
        }
        let mut text = "<<".to_owned();
        while let Some(space) = self.rest.next_if(|next| matches!(next, '\t' | '\r' | ' ')) {
            text.push(space);
        }
        text
    }

    fn variable(&mut self) -> Text {
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

    /// A name of letters, digits and `_`; a number; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
                return name;
            }
            Some(first @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.rest.next();
                name.push(first);
                return name;
            }
            _ => {}
        }
        while let Some(next) = self.rest.next_if(|next| next.is_alphanumeric() || *next == '_') {
            name.push(next);
        }
        name
    }

    fn value(&mut self, name: &str) -> std::result::Result<Option<String>, String> {
        let Some(value) = self.env.get(name) else {
            self.unset.insert(name.to_owned());
            return Ok(None);
        };
        self.take_room(value.len())?;
        self.used.insert(name.to_owned());
        Ok(Some(value.to_owned()))
    }

    fn take_room(&mut self, bytes: usize) -> std::result::Result<(), String> {
        self.room = self
            .room
            .checked_sub(bytes)
            .ok_or_else(|| format!("the word grows by more than {LARGEST_GROWTH} bytes"))?;
        Ok(())
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

/// Cuts what is pushed at spaces.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    current: String,
}

impl Words {
    fn push(&mut self, text: &str) {
        self.current.push_str(text);
    }

    fn push_plain(&mut self, character: char) {
        self.current.push(character);
    }

    fn push_character(&mut self, character: char) {
        if !character.is_whitespace() {
            self.current.push(character);
        } else if !self.current.is_empty() {
            self.words.push(std::mem::take(&mut self.current));
        }
    }

    fn push_split(&mut self, text: &str) {
        for character in text.chars() {
            self.push_character(character);
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.words.push(self.current);
        }
        self.words
    }
}

#[cfg(test)]
mod tests;
