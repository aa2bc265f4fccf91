//! What the comparison with docker compose does not see: where errors point, and what is refused with which words.

use std::path::Path;

use crate::{Format, Options, Variables};

struct Directory(tempfile::TempDir);

impl Directory {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "nobody reads it meanwhile")]
            std::fs::write(path, text).unwrap();
        }
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn options(&self, variables: &[(&str, &str)]) -> Options {
        let environment: Variables =
            variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::new(self.path().to_str().unwrap(), environment)
    }

    /// An error, with the directory left out.
    fn error(&self) -> String {
        let error = self.options(&[]).project().unwrap_err().to_string();
        error.replace(&format!("{}/", self.path().display()), "")
    }
}

fn refused(text: &str) -> String {
    Directory::with(&[("compose.yaml", text)]).error()
}

#[test]
fn errors_name_file_line_column_and_key() {
    for (text, expected) in [
        (
            "services:\n  web:\n    image: a\n    imagee: b\n",
            "compose.yaml:4:13: services.web.imagee: unknown key; did you mean image?",
        ),
        (
            "services:\n  web:\n    image: a\n    ports: 80\n",
            "compose.yaml:4:12: services.web.ports: must be a list",
        ),
        (
            "services:\n  web:\n    image: a\n    environment: {A: [1]}\n",
            "compose.yaml:4:22: services.web.environment.A: must be a string or a number or a boolean or a null",
        ),
        (
            "services:\n  web:\n    image: a\n    depends_on: [db]\n",
            "compose.yaml:4:17: services.web.depends_on: depends on undefined service \"db\"",
        ),
        (
            "services:\n  web:\n    image: a\n    healthcheck:\n      interval: 10\n",
            "compose.yaml:5:17: services.web.healthcheck.interval: must be a string",
        ),
        (
            "services:\n  web:\n    image: a\n    mem_limit: 10q\n",
            "compose.yaml:4:16: services.web.mem_limit: invalid size: \"10q\"",
        ),
        (
            "services:\n  web:\n    image: a\n    image: b\n",
            "compose.yaml:4:5: mapping key \"image\" already defined at line 3",
        ),
        (
            "services:\n  web:\n    image: ${TAG:?say which}\n",
            "compose.yaml:3:12: services.web.image: required variable TAG is missing a value: say which",
        ),
        (
            "services:\n  web:\n    image: a\n    ports: [\"80:x\"]\n",
            "compose.yaml:4:13: services.web.ports: invalid containerPort: x",
        ),
        (
            "services: {web: {image: a, extends: b}}\n",
            "compose.yaml:1:37: services.web.extends: service \"b\" not found in compose.yaml",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn errors_in_other_files_name_those() {
    let directory = Directory::with(&[
        ("compose.yaml", "include: [sub/more.yaml]\nservices: {a: {image: b}}\n"),
        ("sub/more.yaml", "services:\n  c:\n    image: d\n    restart: [no]\n"),
    ]);
    assert_eq!(directory.error(), "sub/more.yaml:4:14: services.c.restart: must be a string");
    let directory = Directory::with(&[
        ("compose.yaml", "services: {a: {image: b}}\n"),
        ("compose.override.yaml", "services:\n  a:\n    cap_add: X\n"),
    ]);
    assert_eq!(directory.error(), "compose.override.yaml:3:14: services.a.cap_add: must be a list");
}

#[test]
fn circles_are_refused() {
    let extends = refused("services: {a: {image: x, extends: b}, b: {image: y, extends: a}}\n");
    assert!(extends.contains("circular reference: a in compose.yaml extends b in"), "{extends}");
    let depends =
        refused("services: {a: {image: x, depends_on: [b]}, b: {image: y, depends_on: [a]}}\n");
    assert_eq!(depends, "dependency cycle detected: a -> b -> a");
    let include = Directory::with(&[
        ("compose.yaml", "include: [other.yaml]\nservices: {a: {image: b}}\n"),
        ("other.yaml", "include: [compose.yaml]\nservices: {c: {image: d}}\n"),
    ]);
    assert!(include.error().contains("include cycle detected"), "{}", include.error());
}

#[test]
fn aliases_do_not_fill_the_memory() {
    use std::fmt::Write;
    let mut text = String::from("x-0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n");
    for level in 1..20 {
        let before = format!("*a{}", level - 1);
        writeln!(text, "x-{level}: &a{level} [{}]", [before.as_str(); 9].join(", ")).unwrap();
    }
    let error = refused(&text);
    assert!(error.contains("aliases make the document too large"), "{error}");
}

#[test]
fn an_unset_variable_is_told_of_once() {
    let text = "services: {a: {image: \"x:$NOPE\", hostname: \"$NOPE\", domainname: \"$THERE\"}}\n";
    let directory = Directory::with(&[("compose.yaml", text)]);
    let project = directory.options(&[("THERE", "t")]).project().unwrap();
    assert_eq!(
        project.warnings,
        ["The \"NOPE\" variable is not set. Defaulting to a blank string."]
    );
}

#[test]
fn what_is_printed_reads_the_same_again() {
    let text = "name: p\nservices:\n  a:\n    image: b\n    command: [\"- x\", \"yes\", \"1:2:3\", \"a: b\", \"\", \"t\\n\", \" s\"]\n    healthcheck: {test: x, interval: 90s}\n    ports: [\"1-2:3-4\"]\n";
    let first = Directory::with(&[("compose.yaml", text)]);
    let printed = first.options(&[]).project().unwrap().print(Format::Yaml);
    let second = Directory::with(&[("compose.yaml", &printed)]);
    let project = second.options(&[]).project().unwrap();
    assert_eq!(project.print(Format::Yaml), printed);
    let hash = first.options(&[]).project().unwrap().service_hash("a");
    assert_eq!(project.service_hash("a"), hash);
    assert!(hash.is_some());
}

#[test]
fn selecting_a_service_turns_its_profile_on() {
    let text =
        "services: {a: {image: x, profiles: [p], depends_on: [b]}, b: {image: y}, c: {image: z}}\n";
    let directory = Directory::with(&[("compose.yaml", text)]);
    let mut project = directory.options(&[]).project().unwrap();
    assert_eq!(project.services().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    project.select(&["a".to_owned()]).unwrap();
    assert_eq!(project.services().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(project.select(&["nope".to_owned()]).is_err());
}
