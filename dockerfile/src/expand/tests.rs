use super::*;

fn env() -> Env {
    Env::from_pairs(["NAME=web", "EMPTY=", "FILE=archive.tar.gz", "TWO=a b", "PATH=/usr/bin:/bin"])
}

fn expanded(word: &str) -> String {
    match Expander::new('\\').expand(word, &env()) {
        Ok(text) => text,
        Err(fault) => fault.message,
    }
}

#[test]
fn every_form_of_a_variable_gives_its_value() {
    for (word, value) in [
        ("$NAME-${NAME}x", "web-webx"),
        ("$UNSET|${UNSET}", "|"),
        ("${UNSET-w} ${EMPTY-w} ${NAME-w}", "w  web"),
        ("${UNSET:-w} ${EMPTY:-w} ${NAME:-w}", "w w web"),
        ("${UNSET+w}|${EMPTY+w}|${NAME+w}", "|w|w"),
        ("${UNSET:+w}|${EMPTY:+w}|${NAME:+w}", "||w"),
        ("${NAME?no} ${NAME:?no}", "web web"),
        ("${UNSET:-${NAME:+${FILE}}}", "archive.tar.gz"),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "archive.tar"),
        ("${FILE%%.*}", "archive"),
        ("${FILE/ar/-}", "-chive.tar.gz"),
        ("${FILE//ar/-}", "-chive.t-.gz"),
        ("${PATH//\\//-}", "-usr-bin:-bin"),
        ("${FILE/t?r/zip}", "archive.zip.gz"),
        ("a$", "a$"),
        ("$1 $@ $", "  $"),
    ] {
        assert_eq!(expanded(word), value, "{word}");
    }
}

#[test]
fn quotes_and_escapes_keep_the_dollar() {
    for (word, value) in [
        ("'$NAME'", "$NAME"),
        ("\"$NAME's\"", "web's"),
        ("\\$NAME", "$NAME"),
        ("\"\\$NAME \\n\\\\\"", "$NAME \\n\\"),
        ("a\\", "a"),
        ("a\\ b", "a b"),
    ] {
        assert_eq!(expanded(word), value, "{word}");
    }
    assert_eq!(Expander::new('`').expand("C:\\$NAME`$", &env()).unwrap(), "C:\\web$");
}

#[test]
fn what_cannot_be_expanded_says_why() {
    for (word, reason) in [
        ("${NAME", "unsupported modifier (\u{fffd}) in substitution"),
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${NAME:-x", "syntax error: missing '}'"),
        ("${NAME!x}", "unsupported modifier (!) in substitution"),
        ("${NAME:#x}", "unsupported modifier (:#) in substitution"),
        ("${UNSET:?give it}", "UNSET: give it"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${UNSET?}", "UNSET: is not allowed to be unset"),
        ("${NAME/x}", "syntax error: missing '/' in ${}"),
        ("${NAME#\\a}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
        ("'x", "unexpected end of statement while looking for matching single-quote"),
        ("\"x", "unexpected end of statement while looking for matching double-quote"),
    ] {
        let text = format!("failed to process {}: {reason}", quote(word));
        assert_eq!(expanded(word), text, "{word}");
    }
}

#[test]
fn words_are_cut_at_the_spaces_of_a_variable_but_not_inside_quotes() {
    let words = |word| Expander::new('\\').expand_words(word, &env()).unwrap();
    assert_eq!(words("x$TWO y"), ["xa", "b", "y"]);
    assert_eq!(words("\"$TWO\" c\\ d ''"), ["a b", "c d"]);
    assert_eq!(words("80${UNSET:-80}"), ["8080"]);
}

#[test]
fn names_are_told_apart_by_whether_they_were_found() {
    let expansion =
        Expander::new('\\').expansion("$NAME ${UNSET:-$OTHER} '$QUOTED'", &env()).unwrap();
    assert_eq!(Vec::from_iter(expansion.used), ["NAME"]);
    assert_eq!(Vec::from_iter(expansion.unset), ["OTHER", "UNSET"]);
}

#[test]
fn a_heredoc_keeps_its_quotes_and_a_display_what_is_unset() {
    assert_eq!(Expander::for_heredoc().expand("'$NAME' \\$X", &env()).unwrap(), "'web' $X");
    let display = Expander::for_display('\\');
    assert_eq!(
        display.expand("echo \"$NAME $UNSET ${UNSET:-x}\"", &env()).unwrap(),
        "echo \"web $UNSET ${UNSET:-x}\""
    );
}

#[test]
fn depth_and_growth_have_an_end() {
    let deep = "${a:-".repeat(20_000) + &"}".repeat(20_000);
    assert!(expanded(&deep).ends_with("substitutions are nested deeper than 200"));
    let mut env = Env::from_pairs(["A=xxxxxxxxxxxxxxxx"]);
    let expander = Expander::new('\\');
    let fault = loop {
        match expander.expand("$A$A", &env) {
            Ok(text) => env.set("A", text),
            Err(fault) => break fault,
        }
    };
    assert!(fault.message.ends_with("the word grows by more than 1048576 bytes"));
}
