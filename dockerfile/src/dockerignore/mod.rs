//! `.dockerignore`: which files of a context are left out. The rules are those of moby/patternmatcher, on Linux.
//!
//! A pattern is a path with Go's wildcards (`*` and `?` within a name, `[a-z]`, a backslash before a plain character)
//! and `**` for any number of directories. `!` before it takes files back in. The last pattern that fits decides, and
//! what fits a directory fits all below it.

use regex::Regex;

use crate::quote::quote;

/// The patterns of a file, cleaned: comments and empty lines gone, leading slashes too. `!` stays.
pub fn parse(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(file);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // Only a # in the first column makes a comment.
    text.lines().filter(|line| !line.starts_with('#')).filter_map(cleaned).collect()
}

fn cleaned(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    let (mark, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    if path.is_empty() {
        return Some(mark.to_owned());
    }
    let path = clean(path);
    let path = if path.len() > 1 { path.strip_prefix('/').unwrap_or(&path) } else { &path };
    Some(format!("{mark}{path}"))
}

/// The shortest path that means the same, in the text alone (Go's `filepath.Clean`).
pub(crate) fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if is_rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (is_rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Patterns ready to be asked.
///
/// ```
/// # use cais_dockerfile::dockerignore::{parse, Matcher};
/// let matcher = Matcher::new(&parse(b"node_modules\n!node_modules/keep")).unwrap();
/// assert!(matcher.is_ignored("node_modules/a/b"));
/// assert!(!matcher.is_ignored("node_modules/keep/c"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

/// What is known of a directory, so that what lies in it is asked quickly.
#[derive(Debug, Clone, Default)]
pub struct Parent {
    matched: Vec<bool>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Without `!`.
    text: String,
    takes_back: bool,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Exact,
    /// `dir/**`: all that begins so. `**` alone is everything.
    Start(String),
    /// `**/name`: all that ends so, the slash with it, and the name itself.
    End(String),
    Expression(Regex),
}

impl Matcher {
    /// # Errors
    /// `illegal exclusion pattern: "!"`, `syntax error in pattern`
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        let patterns = patterns.iter().map(|pattern| pattern.as_ref().trim());
        let patterns = patterns.filter(|pattern| !pattern.is_empty()).map(Pattern::read);
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// Whether a pattern may take files back in: then a directory that is left out must still be looked into.
    pub fn has_exclusions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.takes_back)
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// For a path with slashes, relative to the context. Patterns are asked for the directories above it too.
    pub fn is_ignored(&self, path: &str) -> bool {
        self.matches(path, None).0
    }

    /// The same while walking a tree: `parent` is what the call for the directory gave, or `Parent::default()` at the
    /// top. It costs one question for each pattern.
    pub fn is_ignored_below(&self, path: &str, parent: &Parent) -> (bool, Parent) {
        self.matches(path, Some(parent))
    }

    fn matches(&self, path: &str, parent: Option<&Parent>) -> (bool, Parent) {
        let known =
            parent.map(|parent| parent.matched.as_slice()).filter(|known| !known.is_empty());
        let mut is_ignored = false;
        let mut matched = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            let of_parent = known.and_then(|known| known.get(index)).is_some_and(|known| *known);
            // A pattern that would change nothing is not asked.
            let fits = of_parent
                || pattern.takes_back == is_ignored
                    && (pattern.fits(path)
                        || known.is_none() && above(path).any(|above| pattern.fits(above)));
            matched[index] = fits;
            if fits {
                is_ignored = !pattern.takes_back;
            }
        }
        (is_ignored, Parent { matched })
    }

    /// A pattern that leaves out all that there is.
    pub(crate) fn leaves_out_everything(&self) -> bool {
        self.patterns.iter().any(|pattern| {
            !pattern.takes_back && matches!(pattern.text.as_str(), "*" | "**" | "**/*")
        })
    }
}

/// The directories above a path, from the top.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(slash, _)| &path[..slash])
}

impl Pattern {
    fn read(pattern: &str) -> Result<Self, String> {
        let cleaned = clean(pattern);
        let (text, takes_back) = match cleaned.strip_prefix('!') {
            Some("") => return Err(format!("illegal exclusion pattern: {}", quote("!"))),
            Some(text) => (text, true),
            None => (cleaned.as_str(), false),
        };
        if !is_well_formed(text) {
            return Err("syntax error in pattern".to_owned());
        }
        Ok(Self { kind: Kind::read(text)?, text: text.to_owned(), takes_back })
    }

    fn fits(&self, path: &str) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Start(start) => path.starts_with(start),
            Kind::End(end) => path.ends_with(end) || end.strip_prefix('/') == Some(path),
            Kind::Expression(regex) => regex.is_match(path),
        }
    }
}

/// The order of the questions is the one of moby/patternmatcher: a wildcard makes an expression, `**` at the very
/// start makes an end, whatever follows until the next wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Exact,
    Start,
    End,
    Expression,
}

impl Kind {
    fn read(text: &str) -> Result<Self, String> {
        let mut shape = Shape::Exact;
        let mut regex = String::from("^");
        let mut rest = text.chars().peekable();
        let mut is_first = true;
        let mut is_in_brackets = false;
        while let Some(next) = rest.next() {
            match next {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    match rest.peek() {
                        None if shape == Shape::Exact => shape = Shape::Start,
                        None => {
                            regex.push_str(".*");
                            shape = Shape::Expression;
                        }
                        Some(_) => {
                            regex.push_str("(.*/)?");
                            shape = Shape::Expression;
                        }
                    }
                    if is_first {
                        shape = Shape::End;
                    }
                }
                '*' => {
                    regex.push_str("[^/]*");
                    shape = Shape::Expression;
                }
                '?' => {
                    regex.push_str("[^/]");
                    shape = Shape::Expression;
                }
                // & and ~ mean something of their own in this crate's brackets.
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' | '&' | '~' => {
                    regex.extend(['\\', next]);
                }
                '[' if is_in_brackets => regex.push_str("\\["),
                '\\' => match rest.next() {
                    Some(plain) => {
                        regex.push_str(&regex::escape(&plain.to_string()));
                        shape = Shape::Expression;
                    }
                    None => regex.push_str("\\\\"),
                },
                '[' | ']' => {
                    is_in_brackets = next == '[';
                    regex.push(next);
                    shape = Shape::Expression;
                }
                _ => regex.push(next),
            }
            is_first = false;
        }
        Ok(match shape {
            Shape::Exact => Self::Exact,
            Shape::Start => Self::Start(text.get(..text.len() - 2).unwrap_or_default().to_owned()),
            Shape::End => Self::End(text.get(2..).unwrap_or_default().to_owned()),
            Shape::Expression => {
                regex.push('$');
                let regex = Regex::new(&regex).map_err(|_| "syntax error in pattern".to_owned())?;
                Self::Expression(regex)
            }
        })
    }
}

/// What Go's `filepath.Match` refuses: a bracket that is not closed or empty, a range without an end, an escape of nothing.
fn is_well_formed(pattern: &str) -> bool {
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\\' if rest.next().is_none() => return false,
            '[' => {
                rest.next_if_eq(&'^');
                let mut ranges = 0;
                while !(ranges > 0 && rest.next_if_eq(&']').is_some()) {
                    if !end_of_range(&mut rest) {
                        return false;
                    }
                    if rest.next_if_eq(&'-').is_some() && !end_of_range(&mut rest) {
                        return false;
                    }
                    ranges += 1;
                }
            }
            _ => {}
        }
    }
    true
}

/// One character of a bracket, perhaps escaped. There must be more behind it.
fn end_of_range(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    match rest.next() {
        None | Some('-' | ']') => return false,
        Some('\\') if rest.next().is_none() => return false,
        Some(_) => {}
    }
    rest.peek().is_some()
}

#[cfg(test)]
mod tests;
