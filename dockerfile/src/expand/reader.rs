//! Reads a word character by character: quotes, escapes, and where words end.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use crate::env::Env;

use super::{Expander, LARGEST_GROWTH, Quotes};

/// A word that is being read.
pub(super) struct Reader<'a> {
    pub(super) rules: Expander,
    pub(super) rest: Peekable<Chars<'a>>,
    /// Differs from the rules inside patterns.
    pub(super) keeps_escapes: bool,
    pub(super) env: &'a Env,
    pub(super) used: BTreeSet<String>,
    pub(super) unset: BTreeSet<String>,
    pub(super) depth: usize,
    /// Bytes that may still be put in.
    pub(super) room: usize,
}

pub(super) type Text = Result<String, String>;

impl Reader<'_> {
    pub(super) fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    /// Up to `stop`, which is taken, or to the end.
    pub(super) fn until(
        &mut self,
        stop: Option<char>,
        keeps_escapes: bool,
    ) -> Result<(String, Vec<String>), String> {
        let before = std::mem::replace(&mut self.keeps_escapes, keeps_escapes);
        let read = self.until_in_mode(stop);
        self.keeps_escapes = before;
        read
    }

    fn until_in_mode(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), String> {
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

    /// A name of letters, digits and `_`; a number; or one of the shell's special parameters.
    pub(super) fn name(&mut self) -> String {
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

    pub(super) fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(value) = self.env.get(name) else {
            self.unset.insert(name.to_owned());
            return Ok(None);
        };
        self.take_room(value.len())?;
        self.used.insert(name.to_owned());
        Ok(Some(value.to_owned()))
    }

    pub(super) fn take_room(&mut self, bytes: usize) -> Result<(), String> {
        self.room = self
            .room
            .checked_sub(bytes)
            .ok_or_else(|| format!("the word grows by more than {LARGEST_GROWTH} bytes"))?;
        Ok(())
    }
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
