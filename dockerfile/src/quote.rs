//! Text in double quotes as Go's `%q` writes it, which BuildKit's messages and an image's history use.

use std::fmt::Write;

pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        push(&mut out, character);
    }
    out.push('"');
    out
}

/// A list in brackets, each text quoted: Go's `%q` of a slice.
pub fn quote_list<S: AsRef<str>>(texts: &[S]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", texts.join(" "))
}

fn push(out: &mut String, character: char) {
    let code = u32::from(character);
    // Writing to a string does not fail.
    let _ = match character {
        '"' | '\\' => write!(out, "\\{character}"),
        '\u{7}' => write!(out, "\\a"),
        '\u{8}' => write!(out, "\\b"),
        '\u{c}' => write!(out, "\\f"),
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        '\u{b}' => write!(out, "\\v"),
        _ if is_printable(character) => write!(out, "{character}"),
        _ if code < 0x80 => write!(out, "\\x{code:02x}"),
        _ if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        _ if character.is_control() || character.is_whitespace() => false,
        // The standard library escapes what is not assigned or has no shape of its own; combining marks it escapes too.
        _ => character.is_alphanumeric() || character.escape_debug().count() == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_escapes_and_what_cannot_be_seen() {
        assert_eq!(
            quote("a\"b\\c\n\t\u{1}\u{7f}é\u{a0}\u{feff}"),
            r#""a\"b\\c\n\t\x01\x7fé\u00a0\ufeff""#
        );
        assert_eq!(quote_list(&["a b", ""]), r#"["a b" ""]"#);
    }
}
