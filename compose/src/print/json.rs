//! JSON as Go's library writes it: `<`, `>` and `&` escaped.

use std::fmt::Write;

use super::Out;
use crate::scalar;

/// In one line.
pub(crate) fn compact(out: &Out) -> String {
    let mut text = String::new();
    write_value(out, None, &mut text);
    text
}

/// Two columns of indentation.
pub(crate) fn indented(out: &Out) -> String {
    let mut text = String::new();
    write_value(out, Some(0), &mut text);
    text
}

fn write_value(out: &Out, indent: Option<usize>, text: &mut String) {
    match out {
        Out::Null => text.push_str("null"),
        Out::Bool(value) => {
            let _ = write!(text, "{value}");
        }
        Out::Int(number) => {
            let _ = write!(text, "{number}");
        }
        Out::Float(number) => {
            let tiny = *number != 0.0 && number.abs() < 1e-6;
            text.push_str(&float(&format!("{number:e}"), tiny || number.abs() >= 1e21));
        }
        Out::Float32(number) => {
            let tiny = *number != 0.0 && number.abs() < 1e-6;
            text.push_str(&float(&format!("{number:e}"), tiny || number.abs() >= 1e21));
        }
        Out::Text(value) => quoted(value, text),
        Out::List(items) => {
            let items = items.iter().map(|it| (None, it));
            container(['[', ']'], items, indent, text);
        }
        Out::Map(members) => {
            let members = members.iter().map(|(key, it)| (Some(key.as_str()), it));
            container(['{', '}'], members, indent, text);
        }
    }
}

fn container<'o>(
    [open, close]: [char; 2],
    members: impl ExactSizeIterator<Item = (Option<&'o str>, &'o Out)>,
    indent: Option<usize>,
    text: &mut String,
) {
    text.push(open);
    let inner = indent.map(|it| it + 2);
    let is_empty = members.len() == 0;
    for (index, (key, value)) in members.enumerate() {
        if index > 0 {
            text.push(',');
        }
        line(inner, text);
        if let Some(key) = key {
            quoted(key, text);
            text.push(':');
            if inner.is_some() {
                text.push(' ');
            }
        }
        write_value(value, inner, text);
    }
    if !is_empty {
        line(indent, text);
    }
    text.push(close);
}

fn line(indent: Option<usize>, text: &mut String) {
    if let Some(indent) = indent {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indent));
    }
}

/// `text` is Rust's `{:e}`.
fn float(text: &str, with_exponent: bool) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return "null".to_owned() };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if with_exponent {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{}", exponent.abs());
    }
    scalar::decimal(mantissa, exponent)
}

fn quoted(value: &str, text: &mut String) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text.push('"');
}
