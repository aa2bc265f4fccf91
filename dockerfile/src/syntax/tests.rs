use super::*;

fn nodes(source: &str) -> Vec<Node> {
    parse(source).unwrap().nodes
}

fn refusal(source: &str) -> (usize, usize, String) {
    let error = parse(source).unwrap_err();
    (error.line, error.column, error.to_string())
}

#[test]
fn continuation_lines_are_joined_and_comments_between_them_dropped() {
    let nodes = nodes("RUN a \\\n  # no\n  b \\  \n\n c\nCMD d\n");
    assert_eq!(nodes[0].original, "RUN a   b  c");
    assert_eq!((nodes[0].range.start.line, nodes[0].range.end.line), (1, 5));
    assert_eq!(nodes[0].range.end.column, 3);
    assert_eq!(nodes[1].range.start, Position { line: 6, column: 1 });
    assert_eq!(parse("RUN a \\\n\n c").unwrap().empty_continuations, [3]);
}

#[test]
fn an_escaped_escape_does_not_continue_the_line() {
    assert_eq!(nodes("RUN a\\\\\nCMD b").len(), 2);
    assert_eq!(nodes("# escape=`\nRUN dir C:\\\nCMD a `\nb").len(), 2);
}

#[test]
fn the_flags_of_an_instruction_lose_their_quotes() {
    let node = &nodes("COPY --from=\"a b\" --chown='x' -- --y /z")[0];
    assert_eq!(node.flags, ["--from=a b", "--chown=x"]);
    assert_eq!(node.arguments, ["--y", "/z"]);
}

#[test]
fn a_command_that_is_no_json_belongs_to_the_shell() {
    let node = &nodes("RUN [ -f x ] && y")[0];
    assert_eq!((node.arguments[0].as_str(), node.is_json), ("[ -f x ] && y", false));
    let node = &nodes(r#"CMD ["a", "\u00e9\ud83d\ude00\ud800"]"#)[0];
    assert_eq!(node.arguments, ["a", "é😀\u{fffd}"]);
    assert_eq!(
        refusal("FROM x\nCMD [\"a\", 1]").2,
        "when using JSON array syntax, arrays must be comprised of strings only"
    );
    assert!(!nodes(r#"CMD ["a", 1e999]"#)[0].is_json);
    assert!(!nodes(r#"CMD ["a",]"#)[0].is_json);
    assert_eq!(refusal("CMD [[{\"a\": [1, {}, []]}, null]]").0, 1);
}

#[test]
fn names_and_values_come_in_two_forms() {
    let arguments = |source: &str| nodes(source).remove(0).arguments;
    assert_eq!(arguments("ENV a=1 b='2 3'"), ["a", "1", "=", "b", "'2 3'", "="]);
    assert_eq!(arguments("ENV a  1 b=2"), ["a", "1 b=2", ""]);
    assert_eq!(arguments("ARG a b=c\\ d"), ["a", "b=c\\ d"]);
    assert_eq!(refusal("ENV a").2, "ENV must have two arguments");
    assert_eq!(
        refusal("LABEL a=1 \\\n  b"),
        (2, 3, "Syntax error - can't find = in \"b\". Must be of the form: name=value".to_owned())
    );
}

#[test]
fn heredocs_end_with_their_names() {
    let nodes = nodes("RUN 3<<A cat <<-\"B\"\nx\nA\n\ty\n\tB\nCOPY <<a /b\n$x\na\nCMD cat <<A\n");
    let heredocs = &nodes[0].heredocs;
    assert_eq!((heredocs[0].descriptor, heredocs[0].content.as_str()), (3, "x\n"));
    assert_eq!((heredocs[1].expands, heredocs[1].text().as_str()), (false, "y\n"));
    assert!(nodes[1].heredocs[0].expands);
    assert!(nodes[2].heredocs.is_empty());
    assert_eq!(nodes[1].range.end, Position { line: 8, column: 2 });
    assert_eq!(refusal("FROM x\nRUN <<EOF\nx\n"), (2, 5, "unterminated heredoc".to_owned()));
}

#[test]
fn a_trigger_is_cut_like_an_instruction_of_its_own() {
    let node = &nodes("ONBUILD COPY --from=x <<A /b\nz\nA\n")[0];
    assert_eq!(node.arguments, ["COPY", "<<A", "/b"]);
    assert_eq!(node.heredocs[0].content, "z\n");
    assert_eq!(nodes("ONBUILD ONBUILD RUN x")[0].arguments, ["ONBUILD"]);
    assert_eq!(refusal("ONBUILD ONBUILD ENV x").2, "ENV must have two arguments");
}

#[test]
fn comments_above_an_instruction_are_kept_until_an_empty_one() {
    let nodes = nodes("# syntax=x\n# one\n#\n# two\n# three\nFROM x");
    assert_eq!(nodes[0].comments, ["two", "three"]);
}

#[test]
fn directives_stand_in_the_first_lines() {
    assert_eq!(
        directives::syntax("#!/bin/x\n# Syntax = a/b:1 # c\nFROM x").as_deref(),
        Some("a/b:1")
    );
    assert_eq!(directives::syntax("// syntax=go\n").as_deref(), Some("go"));
    assert_eq!(directives::syntax("{\"a\": [1], \"syntax\": \"json\"}").as_deref(), Some("json"));
    assert_eq!(directives::syntax("# comment\n# syntax=x\n"), None);
    assert_eq!(
        directives::find("# check=skip=all;error=true\n", "check"),
        Some("skip=all;error=true")
    );
    assert_eq!(
        refusal("# syntax=x\n# escape=x\nFROM x"),
        (2, 10, "invalid escape token 'x' does not match ` or \\".to_owned())
    );
    assert_eq!(
        refusal("# escape=`\n# escape=`\nFROM x").2,
        "only one escape parser directive can be used"
    );
}

#[test]
fn a_file_needs_an_instruction_and_lines_an_end() {
    assert_eq!(refusal("# a\n\n").2, "file with no instructions");
    assert_eq!(nodes(&format!("RUN {}\n", "x".repeat(65_531))).len(), 1);
    let long = format!("FROM x\nRUN {}\n", "x".repeat(65_532));
    assert_eq!(
        refusal(&long),
        (2, 1, "dockerfile line greater than max allowed size of 65535".to_owned())
    );
}
