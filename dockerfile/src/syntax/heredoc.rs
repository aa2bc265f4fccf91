//! Documents below an instruction: `<<NAME`, ended by a line that is the name.

use crate::env::Env;
use crate::error::Result;
use crate::expand::Expander;

/// A document that stands below a RUN, COPY or ADD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; for COPY and ADD also the file's name.
    pub name: String,
    /// The number before `<<`, 0 without one.
    pub descriptor: u64,
    /// False when a part of the name was quoted. In RUN the shell decides.
    pub expands: bool,
    /// `<<-`: tabs at the start of lines are not part of it.
    pub strips_tabs: bool,
    /// As it is in the file, tabs included.
    pub content: String,
}

impl Heredoc {
    /// The content as `<<-` wants it.
    pub fn text(&self) -> String {
        if self.strips_tabs { without_tabs(&self.content) } else { self.content.clone() }
    }

    /// Reads `<<NAME`; None for a word that is none.
    pub fn parse(word: &str) -> Option<Self> {
        parse(word).ok().flatten()
    }
}

/// Without the tabs at the start of each line.
fn without_tabs(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

pub(super) fn all_in(line: &str) -> Result<Vec<Heredoc>> {
    // A line that is no shell at all has none.
    let words = Expander::for_heredoc_search().expand_words(line, &Env::new()).unwrap_or_default();
    words.iter().filter_map(|word| parse(word).transpose()).collect()
}

fn parse(word: &str) -> Result<Option<Heredoc>> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = word.split_at(digits);
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (strips_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    // Read with and without its quotes: when their number differs, a part of the name was quoted.
    let words = Expander::for_heredoc_name(false).expand_words(rest, &Env::new())?;
    let [name] = words.as_slice() else { return Ok(None) };
    let quoted = Expander::for_heredoc_name(true).expand_words(rest, &Env::new())?;
    let [quoted] = quoted.as_slice() else {
        return Err(
            format!("internal lexing of heredoc produced inconsistent results: {rest}").into()
        );
    };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Heredoc {
        name: name.clone(),
        descriptor: if number.is_empty() { 0 } else { number.parse().unwrap_or(u64::MAX) },
        expands: quotes(name) == quotes(quoted),
        strips_tabs,
        content: String::new(),
    }))
}
