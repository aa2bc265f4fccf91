//! The patterns of `${name#pattern}` and its like: `*`, `?` and a backslash before them, nothing else.

use regex::{NoExpand, Regex};

type Text = Result<String, String>;

/// A longer pattern is a mistake or an attack, and is compiled slowly.
const LONGEST: usize = 64 << 10;

/// The value without the start that the pattern fits: the shortest; the longest when the pattern begins with a second `#`.
pub(super) fn without_start(pattern: &str, value: &str) -> Text {
    let (pattern, stars) = greed(pattern, '#');
    start_removed(pattern, value, stars)
}

/// The same at the end, with `%`.
pub(super) fn without_end(pattern: &str, value: &str) -> Text {
    let (pattern, stars) = greed(pattern, '%');
    // Matching goes from the left: the shortest end is the shortest start of the value read backwards.
    let value: String = value.chars().rev().collect();
    let rest = start_removed(&backwards(pattern), &value, stars)?;
    Ok(rest.chars().rev().collect())
}

pub(super) fn first_replaced(pattern: &str, value: &str, replacement: &str) -> Text {
    let regex = compile(pattern, Stars::Long, "").map_err(|why| invalid(pattern, &why))?;
    Ok(regex.replace(value, NoExpand(replacement)).into_owned())
}

/// In the replacement `$1` and its like mean what they mean to a regular expression, as in BuildKit: nothing, since
/// patterns have no groups, and `$0` the match.
pub(super) fn every_replaced(pattern: &str, value: &str, replacement: &str) -> Text {
    let regex = compile(pattern, Stars::Long, "").map_err(|why| invalid(pattern, &why))?;
    Ok(regex.replace_all(value, replacement).into_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stars {
    Short,
    Long,
}

fn greed(pattern: &str, doubled: char) -> (&str, Stars) {
    match pattern.strip_prefix(doubled) {
        Some(rest) => (rest, Stars::Long),
        None => (pattern, Stars::Short),
    }
}

fn start_removed(pattern: &str, value: &str, stars: Stars) -> Text {
    let regex = compile(pattern, stars, "^").map_err(|why| invalid(pattern, &why))?;
    Ok(regex.find(value).map_or(value, |found| &value[found.end()..]).to_owned())
}

fn invalid(pattern: &str, why: &str) -> String {
    format!("invalid pattern ({pattern}) in substitution: {why}")
}

fn compile(pattern: &str, stars: Stars, start: &str) -> Result<Regex, String> {
    if pattern.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    let mut out = String::with_capacity(pattern.len() + 4);
    out.push_str(start);
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '*' => out.push_str(if stars == Stars::Long { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            // Escaped for the sake of the substitution around it.
            '\\' if matches!(rest.peek(), Some('}' | '/')) => {}
            '\\' => match rest.next() {
                Some(plain @ ('*' | '?' | '\\')) => out.extend(['\\', plain]),
                other => {
                    let other = other.unwrap_or(char::REPLACEMENT_CHARACTER);
                    return Err(format!("invalid escape '\\{other}'"));
                }
            },
            '[' | ']' | '{' | '}' | '.' | '+' | '(' | ')' | '|' | '^' | '$' => {
                out.extend(['\\', next]);
            }
            _ => out.push(next),
        }
    }
    Regex::new(&out).map_err(|error| error.to_string())
}

/// The pattern read backwards; a backslash stays before the character that it makes plain.
fn backwards(pattern: &str) -> String {
    let mut pieces = Vec::new();
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match (next, rest.clone().next()) {
            ('\\', Some(plain)) => {
                rest.next();
                pieces.push([Some('\\'), Some(plain)]);
            }
            _ => pieces.push([Some(next), None]),
        }
    }
    pieces.into_iter().rev().flatten().flatten().collect()
}
