//! A command in one text, taken apart as docker compose does: quotes and backslashes as in a shell, and nothing else.
//!
//! Where a shell would begin something that is not a word (`;`, `&`, `|`, `<`, `>`), the command ends: compose has always
//! cut it there. Who wants a shell writes `sh -c '…'`.

use crate::error::{Error, Result};

/// The words of a command.
pub fn split(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    // `$(…)` and `…` keep their blanks: they are not run, and not taken apart either.
    let mut inside: Option<char> = None;
    let bad = || Error::new(format!("invalid command line string {line:?}"));
    while let Some(letter) = letters.next() {
        match (letter, quote, inside) {
            ('\\', Some('\''), _) => word.get_or_insert_default().push(letter),
            ('\\', _, _) => word.get_or_insert_default().push(letters.next().ok_or_else(bad)?),
            ('\'' | '"', Some(open), _) if open == letter => {
                word.get_or_insert_default();
                quote = None;
            }
            ('\'' | '"', None, inside) if inside != Some(')') => quote = Some(letter),
            ('`', None, Some('`')) => {
                word.get_or_insert_default().push(letter);
                inside = None;
            }
            ('`', None, None) => {
                word.get_or_insert_default().push(letter);
                inside = Some('`');
            }
            (')', None, Some(')')) => {
                word.get_or_insert_default().push(letter);
                inside = None;
            }
            (')', None, None) => return Err(bad()),
            ('(', None, None) if word.as_ref().is_some_and(|it| it.ends_with('$')) => {
                word.get_or_insert_default().push(letter);
                inside = Some(')');
            }
            ('(', None, inside) if inside != Some('`') => return Err(bad()),
            (' ' | '\t' | '\r' | '\n', None, None) => words.extend(word.take()),
            (';' | '&' | '|' | '<' | '>', None, None) => {
                // The number of a descriptor is no word: `2>`.
                if letter == '>'
                    && word
                        .as_ref()
                        .is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit()))
                {
                    word = None;
                }
                break;
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() || inside.is_some() {
        return Err(bad());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells() {
        for (line, expected) in [
            ("", &[][..]),
            ("  nginx  -g 'daemon off;' ", &["nginx", "-g", "daemon off;"]),
            (r#"sh -c "echo \"a b\"" c\ d"#, &["sh", "-c", "echo \"a b\"", "c d"]),
            (r"a 'b\c' ''", &["a", r"b\c", ""]),
            ("a && b", &["a"]),
            ("a 2>/dev/null", &["a"]),
            ("echo $(a b) `c d`", &["echo", "$(a b)", "`c d`"]),
        ] {
            assert_eq!(split(line).unwrap(), expected, "{line}");
        }
        for line in ["'", "a \\", "(a)", "$(a"] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
