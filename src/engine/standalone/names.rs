//! Names of containers: their grammar, and one for those who are given none.

use crate::error::{Error, Result};
use crate::id::random_hex;

const LONGEST: usize = 255;

const QUALITIES: [&str; 32] = [
    "amber", "brave", "brisk", "calm", "clear", "clever", "coastal", "early", "eager", "fair",
    "fleet", "gentle", "golden", "happy", "keen", "kind", "lively", "lucid", "merry", "mild",
    "neat", "noble", "patient", "proud", "quick", "quiet", "ready", "steady", "sunny", "swift",
    "tidy", "vivid",
];

/// People of the sea and of its ships.
const PEOPLE: [&str; 32] = [
    "amundsen",
    "bering",
    "bligh",
    "cabot",
    "cabral",
    "cano",
    "cook",
    "dampier",
    "davis",
    "dias",
    "drake",
    "earhart",
    "elcano",
    "flinders",
    "franklin",
    "frobisher",
    "gama",
    "hudson",
    "ismay",
    "jansz",
    "laperouse",
    "magellan",
    "mclean",
    "nansen",
    "nelson",
    "pinzon",
    "ross",
    "scott",
    "shackleton",
    "slocum",
    "tasman",
    "zheng",
];

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, with or without a slash in front.
pub(super) fn check(text: &str) -> Result<String> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let goes_on = bytes.len() > 0
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if begins && goes_on && name.len() <= LONGEST {
        return Ok(name.to_owned());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::invalid(format!(
        "Invalid container name ({shown}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// `steady_magellan`; after some tries with a number at its end.
pub(super) fn generate(is_retry: bool) -> Result<String> {
    let random = random_hex()?;
    let pick = |at: usize, list: &[&'static str; 32]| {
        let digits = random.get(at..at + 4).unwrap_or_default();
        let index = usize::from_str_radix(digits, 16).unwrap_or_default() % list.len();
        list.get(index).copied().unwrap_or_default()
    };
    let name = format!("{}_{}", pick(0, &QUALITIES), pick(4, &PEOPLE));
    let tail = random.get(8..12).unwrap_or_default();
    Ok(if is_retry { format!("{name}_{tail}") } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_dockers_grammar() {
        for (text, name) in [("web", "web"), ("/web", "web"), ("1-a.b_c", "1-a.b_c")] {
            assert_eq!(check(text).unwrap(), name);
        }
        for text in ["", "/", "a", "-a", ".a", "a b", "a/b", "../x", "a\0", &"a".repeat(256)] {
            assert!(check(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_generated_name_is_a_name() {
        for is_retry in [false, true] {
            check(&generate(is_retry).unwrap()).unwrap();
        }
    }
}
