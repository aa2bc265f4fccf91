//! Writes what the crate makes of each file of a corpus, for `hack/dockerfile` to compare with BuildKit.
//!
//! The lines are those of `hack/dockerfile-src/describe.go`, which says what they hold.

#![expect(clippy::unwrap_used, reason = "a tool for tests stops where it cannot go on")]

mod checks;
mod syntax;

use std::fmt::Write;
use std::path::Path;
use std::{env, fs, io};

use cais_dockerfile::chmod::Chmod;
use cais_dockerfile::dockerignore::{self, Matcher};
use cais_dockerfile::quote::{quote, quote_list};
use cais_dockerfile::remote::Remote;
use cais_dockerfile::{Env, Expander, Range};

use self::checks::describe_checks;
use self::syntax::describe_syntax;

fn main() {
    let directory = env::args().nth(1).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut out = String::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        writeln!(out, "{name}").unwrap();
        describe(&mut out, &file);
        out.push('\0');
    }
    io::Write::write_all(&mut io::stdout(), out.as_bytes()).unwrap();
}

fn describe(out: &mut String, file: &Path) {
    let data = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&data);
    match file.extension().unwrap().to_str().unwrap() {
        "words" => describe_words(out, &text),
        "sources" => describe_sources(out, &text),
        "modes" => describe_modes(out, &text),
        "ignore" => describe_ignore(out, &text),
        _ => {
            describe_syntax(out, &data);
            describe_checks(out, &data, None);
            out.push_str("target\n");
            describe_checks(out, &data, Some("S1"));
        }
    }
}

fn describe_words(out: &mut String, text: &str) {
    let env = Env::from_pairs([
        "NAME=web",
        "EMPTY=",
        "FILE=archive.tar.gz",
        "TWO=a b",
        "PATH=/usr/bin:/bin",
        "STAR=*",
        "N=12",
    ]);
    for word in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let quoted = quote(word);
        for escape in ['\\', '`'] {
            match Expander::new(escape).expansion(word, &env) {
                Err(fault) => {
                    writeln!(out, "{quoted} error {}", quote(&fault.message)).unwrap();
                }
                Ok(found) => {
                    writeln!(
                        out,
                        "{quoted} text {} used {} unset {}",
                        quote(&found.text),
                        quote_list(&Vec::from_iter(found.used)),
                        quote_list(&Vec::from_iter(found.unset)),
                    )
                    .unwrap();
                    if !word.contains("${") {
                        writeln!(out, "{quoted} words {}", quote_list(&found.words)).unwrap();
                    }
                }
            }
        }
        if let Ok(text) = Expander::for_heredoc().expand(word, &env) {
            writeln!(out, "{quoted} heredoc {}", quote(&text)).unwrap();
        }
        if let Ok(text) = Expander::for_display('\\').expand(word, &env) {
            writeln!(out, "{quoted} display {}", quote(&text)).unwrap();
        }
    }
}

fn describe_sources(out: &mut String, text: &str) {
    let optional = |value: Option<bool>| value.map_or("unset".to_owned(), |it| it.to_string());
    for source in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let quoted = quote(source);
        match Remote::parse(source) {
            Err(fault) => writeln!(out, "{quoted} error {}", quote(&fault.message)).unwrap(),
            Ok(None) => writeln!(out, "{quoted} path").unwrap(),
            Ok(Some(Remote::Http)) => writeln!(out, "{quoted} http").unwrap(),
            Ok(Some(Remote::Git(git))) => writeln!(
                out,
                "{quoted} git {} {} {} checksum {} keep-git-dir {} submodules {} mtime {} fetch-by-commit {}",
                quote(&git.remote),
                quote(&git.reference),
                quote(&git.directory),
                quote(&git.checksum),
                optional(git.keep_git_dir),
                optional(git.submodules),
                quote(&git.mtime),
                git.fetch_by_commit,
            )
            .unwrap(),
        }
    }
}

fn describe_modes(out: &mut String, text: &str) {
    for text in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let quoted = quote(text);
        let Ok(chmod) = Chmod::parse(text) else {
            writeln!(out, "{quoted} error").unwrap();
            continue;
        };
        for before in [0, 0o644, 0o755, 0o741, 0o5004] {
            writeln!(out, "{quoted} false {:o}", chmod.apply(before, false)).unwrap();
        }
        writeln!(out, "{quoted} true {:o}", chmod.apply(0o600, true)).unwrap();
    }
}

fn describe_ignore(out: &mut String, text: &str) {
    let (file, paths) = text.split_once("\n---\n").unwrap();
    let patterns = dockerignore::parse(file.as_bytes());
    writeln!(out, "patterns {}", quote_list(&patterns)).unwrap();
    let matcher = match Matcher::new(&patterns) {
        Ok(matcher) => matcher,
        Err(why) => return writeln!(out, "error {}", quote(&why)).unwrap(),
    };
    writeln!(out, "exclusions {}", matcher.has_exclusions()).unwrap();
    for path in paths.split_whitespace() {
        writeln!(out, "{} {}", quote(path), matcher.is_ignored(path)).unwrap();
    }
}

fn lines(range: Range) -> String {
    format!("{}-{}", range.start.line, range.end.line)
}
