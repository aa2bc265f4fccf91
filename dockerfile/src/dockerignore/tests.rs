use super::*;

fn matcher(file: &str) -> Matcher {
    Matcher::new(&parse(file.as_bytes())).unwrap()
}

#[test]
fn a_file_is_cleaned_line_by_line() {
    let file = "\u{feff}# no\n\n  /a/../b/ \n! /c//d\n #e\n!\n/\n.\n../f\r\n";
    assert_eq!(parse(file.as_bytes()), ["b", "!c/d", "#e", "!", "/", ".", "../f"]);
}

#[test]
fn patterns_fit_as_they_are_written() {
    for (pattern, path, fits) in [
        ("a", "a", true),
        ("a", "b/a", false),
        ("a", "a/b/c", true),
        ("a/b", "a/b", true),
        ("*.md", "x.md", true),
        ("*.md", "d/x.md", false),
        ("*/*.md", "d/x.md", true),
        ("**/*.md", "d/e/x.md", true),
        ("**/*.md", "x.md", true),
        ("**/a", "a", true),
        ("**/a", "b/ba", false),
        ("**a", "b/ba", true),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("**", "anything/at/all", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("a.b", "axb", false),
        ("a(b)+", "a(b)+", true),
        ("[[&]&x", "[&x", true),
        (".", "a", false),
    ] {
        assert_eq!(matcher(pattern).is_ignored(path), fits, "{pattern} {path}");
    }
}

#[test]
fn the_last_pattern_that_fits_decides() {
    let one = matcher("*\n!keep\nkeep/not\n");
    assert!(one.has_exclusions());
    for (path, ignored) in [
        ("a", true),
        ("keep", false),
        ("keep/yes", false),
        ("keep/not", true),
        ("keep/not/x", true),
    ] {
        assert_eq!(one.is_ignored(path), ignored, "{path}");
    }
    assert!(matcher("!a\na").is_ignored("a"));
    assert!(!matcher("a\n!a/b").is_ignored("a/b/c"));
}

#[test]
fn walking_a_tree_gives_the_same_answers() {
    let paths = ["a", "a/b", "a/b/c", "a/b/c.md", "d", "d/a", "d/a/b.md", "d/keep", "d/keep/x"];
    for file in ["a\n!a/b/*.md", "**/*.md\n!d/**", "d\n!d/keep", "*\n!a\na/b", "!x\n**/b*"] {
        let matcher = matcher(file);
        let mut known = std::collections::HashMap::new();
        for path in paths {
            let above = path.rsplit_once('/').map_or("", |(above, _)| above);
            let parent: &Parent = known.entry(above).or_default();
            let (is_ignored, here) = matcher.is_ignored_below(path, &parent.clone());
            assert_eq!(is_ignored, matcher.is_ignored(path), "{file:?} {path}");
            known.insert(path, here);
        }
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    for (pattern, why) in [
        ("!", "illegal exclusion pattern: \"!\""),
        ("[", "syntax error in pattern"),
        ("[]a]", "syntax error in pattern"),
        ("[a-]", "syntax error in pattern"),
        ("a\\", "syntax error in pattern"),
    ] {
        assert_eq!(Matcher::new(&[pattern]).unwrap_err(), why, "{pattern}");
    }
}
