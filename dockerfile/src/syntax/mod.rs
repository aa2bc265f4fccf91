//! From bytes to nodes: one per instruction, with its keyword, flags and arguments, not yet understood.
//!
//! ```text
//!   lines       physical lines, and which of them are comments or go on
//!   directives  # syntax=, # escape=, # check=
//!   flags       the keyword, the --flags behind it, and the rest
//!   arguments   the rest by instruction: words, name=value, JSON
//!   heredoc     <<EOF and what stands below the instruction
//! ```

mod arguments;
pub(crate) mod directives;
mod flags;
pub(crate) mod heredoc;
mod json;
mod lines;

use crate::error::{Fault, ParseError, Position, Range};

use self::directives::DirectiveReader;
pub use self::heredoc::Heredoc;
use self::lines::{Lines, continued, is_comment, without_newline};

/// One instruction as it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) keyword: String,
    /// With their dashes: `--from=build`.
    pub(crate) flags: Vec<String>,
    pub(crate) arguments: Vec<String>,
    /// The arguments were a JSON array.
    pub(crate) is_json: bool,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The logical line: continuation lines joined, without what stands in heredocs.
    pub(crate) original: String,
    pub(crate) range: Range,
    /// The comment lines directly above, without `#`.
    pub(crate) comments: Vec<String>,
}

/// A file cut into instructions.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
    pub(crate) escape: char,
    /// The last lines of instructions in which a continuation line is empty.
    pub(crate) empty_continuations: Vec<usize>,
}

pub(crate) fn parse(source: &str) -> Result<Nodes, ParseError> {
    let mut reader = Reader {
        source,
        lines: Lines::new(source),
        directives: DirectiveReader::default(),
        found: Nodes::default(),
    };
    reader.read()?;
    let Reader { lines, directives, mut found, .. } = reader;
    if found.nodes.is_empty() {
        let line = lines.number().max(1);
        return Err(ParseError::new(whole_lines(line, line), "file with no instructions"));
    }
    found.escape = directives.escape;
    Ok(found)
}

struct Reader<'a> {
    source: &'a str,
    lines: Lines<'a>,
    directives: DirectiveReader,
    found: Nodes,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), ParseError> {
        let mut comments = Vec::new();
        while let Some(line) = self.lines.next_line()? {
            let line = without_newline(line);
            let text = line.trim_start();
            let column = line.chars().count() - text.chars().count() + 1;
            let start = Position { line: self.lines.number(), column };
            let is_directive =
                self.directives.take(text).map_err(|fault| self.refused(&fault, start, line))?;
            if is_comment(text) {
                if !is_directive {
                    note_comment(line, &mut comments);
                }
                continue;
            }
            if text.is_empty() {
                continue;
            }
            let node = self.instruction(text, start, std::mem::take(&mut comments))?;
            self.found.nodes.push(node);
        }
        Ok(())
    }

    /// The instruction that begins with this line, all its lines taken.
    fn instruction(
        &mut self,
        first: &str,
        start: Position,
        comments: Vec<String>,
    ) -> Result<Node, ParseError> {
        let (line, mut last) = self.logical_line(first)?;
        let mut parsed = node(&line, self.directives.escape)
            .map_err(|fault| self.refused(&fault, start, &last))?;
        if parsed.takes_heredocs && line.contains("<<") {
            let heredocs =
                heredoc::all_in(&line).map_err(|fault| self.refused(&fault, start, &last))?;
            for mut heredoc in heredocs {
                if !self.content(&mut heredoc, &mut last)? {
                    let fault = Fault::at("<<", "unterminated heredoc");
                    return Err(self.refused(&fault, start, &last));
                }
                parsed.node.heredocs.push(heredoc);
            }
        }
        let range = self.range(start, &last);
        Ok(Node { original: line, range, comments, ..parsed.node })
    }

    fn range(&self, start: Position, last: &str) -> Range {
        let end = Position { line: self.lines.number(), column: last.chars().count() + 1 };
        Range { start, end }
    }

    fn refused(&self, fault: &Fault, start: Position, last: &str) -> ParseError {
        ParseError::new(self.range(start, last), fault.message.clone()).locate(self.source, fault)
    }

    /// The line with the lines that continue it, and its last physical line.
    fn logical_line(&mut self, first: &str) -> Result<(String, String), ParseError> {
        let escape = self.directives.escape;
        let (start, mut goes_on) = continued(first, escape);
        let mut joined = start.to_owned();
        let mut last = first.to_owned();
        let mut has_empty = false;
        while goes_on {
            let Some(line) = self.lines.next_line()? else { break };
            let line = without_newline(line);
            line.clone_into(&mut last);
            if is_comment(line) {
                continue;
            }
            if line.trim_start().is_empty() {
                has_empty = true;
                continue;
            }
            let (more, again) = continued(line, escape);
            joined.push_str(more);
            goes_on = again;
        }
        if has_empty {
            self.found.empty_continuations.push(self.lines.number());
        }
        Ok((joined, last))
    }

    /// False when the file ends before the heredoc does.
    fn content(&mut self, heredoc: &mut Heredoc, last: &mut String) -> Result<bool, ParseError> {
        while let Some(line) = self.lines.next_line()? {
            let text = without_newline(line);
            let end = if heredoc.strips_tabs { text.trim_start_matches('\t') } else { text };
            if end == heredoc.name {
                text.clone_into(last);
                return Ok(true);
            }
            heredoc.content.push_str(line);
        }
        Ok(false)
    }
}

/// Comments are gathered for the instruction below them; an empty one begins anew.
fn note_comment(line: &str, comments: &mut Vec<String>) {
    let mut text = line.chars();
    // The first character, whatever it is: of an indented comment the `#` stays.
    text.next();
    match text.as_str().trim() {
        "" => comments.clear(),
        text => comments.push(text.to_owned()),
    }
}

struct Parsed {
    node: Node,
    takes_heredocs: bool,
}

/// A logical line. What ONBUILD holds is looked at too, so that its mistakes are found here.
fn node(line: &str, escape: char) -> Result<Parsed, Fault> {
    let (keyword, flags, text) = flags::split(line, escape);
    let lower = keyword.to_ascii_lowercase();
    let keyword = keyword.to_owned();
    if lower == "onbuild" {
        let (arguments, takes_heredocs) = trigger(text, escape)?;
        return Ok(Parsed {
            node: Node { keyword, flags, arguments, ..Node::default() },
            takes_heredocs,
        });
    }
    let (arguments, is_json) = arguments::read(&lower, text, escape)?;
    let node = Node { keyword, flags, arguments, is_json, ..Node::default() };
    Ok(Parsed { node, takes_heredocs: holds_heredocs(&lower, is_json) })
}

/// The instruction behind ONBUILD: its keyword and arguments, and whether it holds heredocs.
fn trigger(text: &str, escape: char) -> Result<(Vec<String>, bool), Fault> {
    let mut text = text;
    let mut is_chained = false;
    loop {
        if text.is_empty() {
            let chained = is_chained.then(|| "ONBUILD".to_owned());
            return Ok((chained.into_iter().collect(), false));
        }
        let (keyword, _, rest) = flags::split(text, escape);
        let lower = keyword.to_ascii_lowercase();
        // A chain is refused later, but what it ends in must be well formed first.
        if lower == "onbuild" {
            is_chained = true;
            text = rest;
            continue;
        }
        let (inner, is_json) = arguments::read(&lower, rest, escape)?;
        if is_chained {
            return Ok((vec!["ONBUILD".to_owned()], false));
        }
        let mut arguments = vec![keyword.to_owned()];
        arguments.extend(inner);
        return Ok((arguments, holds_heredocs(&lower, is_json)));
    }
}

fn holds_heredocs(keyword: &str, is_json: bool) -> bool {
    !is_json && matches!(keyword, "add" | "copy" | "run")
}

fn whole_lines(first: usize, last: usize) -> Range {
    Range { start: Position { line: first, column: 1 }, end: Position { line: last, column: 1 } }
}

#[cfg(test)]
mod tests;
