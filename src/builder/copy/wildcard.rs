//! Patterns of names, as Go's `filepath.Match` reads them: `*`, `?`, `[a-z]`, `[^a]`, `\x`.

/// True if one of these would mean more than itself.
pub(super) fn has_wildcards(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Whether a name, which has no slash in it, is one that the pattern means; `None` for a pattern
/// that is none.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> Option<bool> {
    // The last star, and how much of the name it has taken: what fails goes back to it once.
    let (mut at, mut star) = ((0, 0), None::<(usize, usize)>);
    loop {
        let (of_pattern, of_name) = at;
        let rest = name.get(of_name..).unwrap_or_default();
        let step = match pattern.get(of_pattern) {
            None => rest.is_empty().then_some(at),
            Some(b'*') => {
                star = Some((of_pattern + 1, of_name));
                at = (of_pattern + 1, of_name);
                continue;
            }
            Some(_) => {
                let (length, is_it) = one(pattern.get(of_pattern..)?, rest.first().copied())?;
                is_it.then_some((of_pattern + length, of_name + 1))
            }
        };
        match (step, star) {
            (Some(_), _) if of_pattern == pattern.len() => return valid(pattern),
            (Some(next), _) => at = next,
            (None, Some((after, taken))) if taken < name.len() => {
                star = Some((after, taken + 1));
                at = (after, taken + 1);
            }
            (None, _) => return valid(pattern).map(|_| false),
        }
    }
}

/// A pattern is wrong also where its wrong part was not reached.
fn valid(mut pattern: &[u8]) -> Option<bool> {
    while let Some(first) = pattern.first() {
        let length = if *first == b'*' { 1 } else { one(pattern, Some(b'a'))?.0 };
        pattern = pattern.get(length..)?;
    }
    Some(true)
}

/// How long the first part of the pattern is, and whether this byte is one that it means.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<(usize, bool)> {
    match pattern {
        [b'?', ..] => Some((1, byte.is_some())),
        [b'\\', letter, ..] => Some((2, byte == Some(*letter))),
        [b'\\'] => None,
        [b'[', rest @ ..] => set(rest, byte).map(|(length, is_it)| (length + 1, is_it)),
        [letter, ..] => Some((1, byte == Some(*letter))),
        [] => None,
    }
}

fn set(text: &[u8], byte: Option<u8>) -> Option<(usize, bool)> {
    let is_negated = text.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let (mut is_in, mut is_first) = (false, true);
    loop {
        if text.get(at) == Some(&b']') && !is_first {
            return Some((at + 1, byte.is_some() && is_in != is_negated));
        }
        let (low, next) = letter(text, at)?;
        let (high, next) = match text.get(next) {
            Some(b'-') => letter(text, next + 1)?,
            _ => (low, next),
        };
        is_in |= byte.is_some_and(|byte| (low..=high).contains(&byte));
        (at, is_first) = (next, false);
    }
}

fn letter(text: &[u8], at: usize) -> Option<(u8, usize)> {
    match text.get(at)? {
        b'-' | b']' => None,
        b'\\' => text.get(at + 1).map(|letter| (*letter, at + 2)),
        letter => Some((*letter, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_go_says() {
        // From the table in Go's path/filepath documentation and its corner cases.
        for (pattern, name, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "abc", Some(true)),
            ("a*b*c*d*e*", "axbxcxdxe", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "ab", Some(false)),
            ("[a-ζ]*", "a", Some(true)),
            ("*[a-z", "", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[a-b-c]", "a", None),
            ("a[", "ab", None),
            ("a\\", "a", None),
            ("", "", Some(true)),
            ("", "a", Some(false)),
            ("a", "", Some(false)),
            ("*x", "xxx", Some(true)),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = b"*a".repeat(2000);
        assert_eq!(matches(&pattern, &b"a".repeat(1999)), Some(false));
    }
}
