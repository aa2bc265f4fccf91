//! The start of an instruction: its keyword, and the words with two dashes behind it.

/// What separates words outside of quotes.
fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The keyword as written, the flags without their quotes, and the rest without space around it.
pub(super) fn split(line: &str, escape: char) -> (&str, Vec<String>, &str) {
    let line = line.trim();
    let Some((keyword, rest)) = line.split_once(is_blank) else {
        return (line, Vec::new(), "");
    };
    let (flags, rest) = flags(rest.trim_start_matches(is_blank), escape);
    (keyword, flags, rest.trim())
}

/// Flags end at the first word without dashes, or behind a lone `--`.
fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let word = word(rest, escape);
        if word.text == "--" {
            return (flags, word.rest);
        }
        // Never empty: the dashes are part of it.
        flags.push(word.text);
        rest = word.rest;
    }
}

struct Word<'a> {
    text: String,
    rest: &'a str,
}

/// Up to a space outside of quotes. Quotes go; an escape, inside of quotes too, gives the next character as it is.
fn word(text: &str, escape: char) -> Word<'_> {
    let mut out = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    loop {
        let before = characters.as_str();
        let Some(next) = characters.next() else { return Word { text: out, rest: "" } };
        match quote {
            Some(open) if next == open => quote = None,
            None if next.is_whitespace() => return Word { text: out, rest: before },
            None if next == '\'' || next == '"' => quote = Some(next),
            _ if next == escape => out.extend(characters.next()),
            _ => out.push(next),
        }
    }
}
