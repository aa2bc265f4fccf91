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
mod reader;
mod substitution;

use std::collections::BTreeSet;

use crate::env::Env;
use crate::error::{Fault, Result};
use crate::quote::quote;

use self::reader::Reader;

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

#[cfg(test)]
mod tests;
