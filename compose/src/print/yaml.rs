//! YAML as Go's library writes it: two columns of indentation, lists indented, text plain where it can be.

use std::cmp::Ordering;
use std::fmt::Write;

use super::{Out, yaml_number};
use crate::scalar;

pub(crate) fn document(out: &Out) -> String {
    let mut text = String::new();
    block(out, 0, &mut text);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A value that begins on the line of its key or dash, or on lines of its own.
fn block(out: &Out, indent: usize, text: &mut String) {
    match out {
        Out::Map(members) if !members.is_empty() => {
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 || !at_item(text) {
                    pad(indent, text);
                }
                text.push_str(&key_text(key));
                text.push(':');
                match value {
                    Out::Map(members) if !members.is_empty() => {
                        text.push('\n');
                        block(value, indent + 2, text);
                    }
                    Out::List(items) if !items.is_empty() => {
                        text.push('\n');
                        block(value, indent + 2, text);
                    }
                    _ => {
                        text.push(' ');
                        scalar_text(value, indent, text);
                    }
                }
            }
        }
        Out::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || !at_item(text) {
                    pad(indent, text);
                }
                text.push_str("- ");
                match item {
                    Out::Map(members) if !members.is_empty() => block(item, indent + 2, text),
                    Out::List(items) if !items.is_empty() => block(item, indent + 2, text),
                    _ => scalar_text(item, indent, text),
                }
            }
        }
        _ => scalar_text(out, indent, text),
    }
}

/// Whether the dash of a list's item was just written.
fn at_item(text: &str) -> bool {
    text.ends_with("- ")
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn scalar_text(out: &Out, indent: usize, text: &mut String) {
    match out {
        Out::Null => text.push_str("null"),
        Out::Bool(value) => {
            let _ = write!(text, "{value}");
        }
        Out::Int(number) => {
            let _ = write!(text, "{number}");
        }
        Out::Float(number) => text.push_str(&yaml_number(*number)),
        Out::Float32(number) => text.push_str(&scalar::general32(*number)),
        Out::Text(value) => text_scalar(value, indent, text),
        Out::List(_) => text.push_str("[]"),
        Out::Map(_) => text.push_str("{}"),
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

fn text_scalar(value: &str, indent: usize, text: &mut String) {
    let shape = Shape::of(value);
    if value.contains('\n') {
        if shape.block_allowed {
            literal(value, indent + 2, text);
        } else {
            text.push_str(&double_quoted(value));
        }
        return;
    }
    text.push_str(&line_text(value, &shape));
}

fn key_text(key: &str) -> String {
    let shape = Shape::of(key);
    if key.contains('\n') { double_quoted(key) } else { line_text(key, &shape) }
}

fn line_text(value: &str, shape: &Shape) -> String {
    if scalar::needs_quotes(value) {
        double_quoted(value)
    } else if shape.plain_allowed {
        value.to_owned()
    } else if shape.single_allowed {
        format!("'{}'", value.replace('\'', "''"))
    } else {
        double_quoted(value)
    }
}

/// What a text's characters allow.
struct Shape {
    plain_allowed: bool,
    single_allowed: bool,
    block_allowed: bool,
}

impl Shape {
    fn of(value: &str) -> Self {
        let letters: Vec<char> = value.chars().collect();
        let blank = |letter: Option<&char>| {
            matches!(letter, None | Some(' ' | '\t')) || letter.is_some_and(|it| is_break(*it))
        };
        let mut indicators = value.starts_with("---") || value.starts_with("...");
        let (mut special, mut tab, mut breaks) = (false, false, false);
        let (mut break_space, mut space_break) = (false, false);
        for (at, letter) in letters.iter().enumerate() {
            let before = at.checked_sub(1).map(|it| &letters[it]);
            let ends =
                blank(letters.get(at + 1)) && !letters.get(at + 1).is_some_and(|it| is_break(*it));
            indicators |= match letter {
                '#' => at == 0 || blank(before),
                ':' => ends,
                '?' | '-' if at == 0 => ends,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
                | '@' | '`' => at == 0,
                _ => false,
            };
            tab |= *letter == '\t';
            special |= *letter != '\t' && !is_printable(*letter);
            breaks |= is_break(*letter);
            let after_break = before.is_some_and(|it| is_break(*it));
            break_space |= *letter == ' ' && after_break;
            space_break |= is_break(*letter) && before == Some(&' ');
        }
        let edge = |letter: Option<&char>| letter.is_some_and(|it| *it == ' ' || is_break(*it));
        let edges = edge(letters.first()) || edge(letters.last());
        Self {
            plain_allowed: !(edges
                || break_space
                || space_break
                || tab
                || special
                || breaks
                || indicators)
                && !value.is_empty(),
            single_allowed: !(break_space || space_break || tab || special),
            block_allowed: !(letters.last() == Some(&' ') || space_break || special),
        }
    }
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

fn literal(value: &str, indent: usize, text: &mut String) {
    text.push('|');
    if value.starts_with(' ') || value.starts_with(is_break) {
        text.push('2');
    }
    let body = value.strip_suffix('\n');
    match body {
        None => text.push('-'),
        Some(body) if body.is_empty() || body.ends_with('\n') => text.push('+'),
        Some(_) => {}
    }
    text.push('\n');
    for line in body.unwrap_or(value).split('\n') {
        if !line.is_empty() {
            pad(indent, text);
            text.push_str(line);
        }
        text.push('\n');
    }
}

fn double_quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for letter in value.chars() {
        let escape = match letter {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{85}' => "\\N",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ if is_printable(letter) => {
                text.push(letter);
                continue;
            }
            _ => {
                let code = u32::from(letter);
                let _ = match code {
                    0..=0xff => write!(text, "\\x{code:02X}"),
                    0x100..=0xffff => write!(text, "\\u{code:04X}"),
                    _ => write!(text, "\\U{code:08X}"),
                };
                continue;
            }
        };
        text.push_str(escape);
    }
    text.push('"');
    text
}

/// The order of keys: numbers in them count as numbers, and letters come behind what is no letter.
pub(crate) fn key_order(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for at in 0..left.len().min(right.len()) {
        let (x, y) = (left[at], right[at]);
        if x == y {
            digits = x.is_numeric();
            continue;
        }
        return match (x.is_alphabetic(), y.is_alphabetic()) {
            (true, true) => x.cmp(&y),
            (true, false) => {
                if digits {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (false, true) => {
                if digits {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (false, false) => numbers(&left, &right, at),
        };
    }
    left.len().cmp(&right.len())
}

/// Where two keys differ, and neither has a letter there.
fn numbers(left: &[char], right: &[char], at: usize) -> Ordering {
    let digit = |letter: &char| letter.to_digit(10).map(i64::from);
    // Zeros that lead a number count for nothing, others do.
    let mut start = 0i64;
    if left[at] == '0' || right[at] == '0' {
        let before = left[..at].iter().rev().map_while(digit);
        if before.into_iter().any(|it: i64| it != 0) {
            start = 1;
        }
    }
    let number = |letters: &[char]| {
        letters[at..].iter().map_while(digit).fold((start, 0usize), |(sum, length), it| {
            (sum.wrapping_mul(10).wrapping_add(it), length + 1)
        })
    };
    let (x, y) = (number(left), number(right));
    x.0.cmp(&y.0).then(x.1.cmp(&y.1)).then(left[at].cmp(&right[at]))
}
