//! Files that were made to hurt: whatever comes in, an answer comes out, and soon.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::dockerignore::{self, Matcher};
use crate::lint::{self, Request};
use crate::{Dockerfile, Env, Expander, Platform, Scope};

/// Far beyond what a slow machine under load takes, and far below what a search gone wrong takes.
const SOON: Duration = Duration::from_secs(60);

/// Reads, checks and expands a file as a build does.
fn digest(source: &[u8]) {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let started = Instant::now();
    let platform = Platform::parse("linux/amd64").unwrap();
    let request = Request {
        target: None,
        build_args: &NONE,
        build_platform: platform.clone(),
        target_platform: platform.clone(),
        ignored: None,
        options: None,
        image: &|_, _| None,
    };
    lint::check(source, &request);
    if let Ok(file) = Dockerfile::parse(source)
        && let Ok(globals) = file.globals(&platform, &platform, None, &NONE)
        && let Ok(graph) = file.graph(&globals)
    {
        for index in graph.needed_by(file.stages.len() - 1) {
            let mut scope = Scope::new(Env::new());
            for instruction in &file.stages[index].instructions {
                if scope.apply(instruction, &file.expander(), &globals, &NONE).is_err() {
                    break;
                }
            }
        }
    }
    assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
}

/// A generator that gives the same numbers everywhere (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, pieces: &[&'a str]) -> &'a str {
        pieces[self.roll(pieces.len())]
    }
}

const PIECES: &[&str] = &[
    "FROM a",
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "LABEL",
    "EXPOSE",
    "ONBUILD",
    "HEALTHCHECK",
    "CMD",
    "SHELL",
    "VOLUME",
    "WORKDIR",
    "USER",
    "STOPSIGNAL",
    "MAINTAINER",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\\",
    "\\\n",
    "`",
    "#",
    "# escape=`",
    "# check=skip=all",
    "--",
    "--from=",
    "--mount=type=",
    "=",
    "cache",
    ",",
    "\"",
    "'",
    "$",
    "${",
    "}",
    ":-",
    "##",
    "%%",
    "//",
    "/",
    "<<",
    "<<-",
    "EOF",
    "[",
    "]",
    "{",
    "\"a\"",
    "null",
    "1e9",
    "\\u",
    "\\ud800",
    "é",
    "\u{feff}",
    "\u{0}",
    "\u{a0}",
    "\u{2028}",
    "日",
    "*",
    "?",
    "!",
    ":",
    "-",
    "@",
    "65536",
    "-1",
    "AS",
    "a",
    "$A",
    "1s",
    "NONE",
];

#[test]
fn no_heap_of_pieces_makes_it_panic() {
    let mut dice = Dice(20_261_126);
    for _ in 0..1500 {
        let mut source = String::from(dice.pick(&["", "FROM a\n", "FROM a AS b\nRUN x\n"]));
        for _ in 0..dice.roll(40) {
            source.push_str(dice.pick(PIECES));
        }
        digest(source.as_bytes());
        let _ = Expander::new('\\').expand(&source, &Env::from_pairs(["A=é*a", "a=\\"]));
        if let Ok(matcher) = Matcher::new(&dockerignore::parse(source.as_bytes())) {
            matcher.is_ignored("a/b/é");
        }
    }
}

#[test]
fn no_heap_of_bytes_makes_it_panic() {
    let mut dice = Dice(7);
    for _ in 0..500 {
        let bytes: Vec<u8> =
            (0..dice.roll(200)).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect();
        digest(&[b"FROM a\nRUN ", bytes.as_slice()].concat());
        digest(&bytes);
    }
}

#[test]
fn huge_files_are_read_or_refused_soon() {
    let many = |line: &str, count: usize| format!("FROM a\n{}", line.repeat(count));
    for source in [
        // One line of 64 MB.
        format!("FROM a\nRUN {}", "x".repeat(64 << 20)),
        // 2 MB in one instruction, by continuation lines.
        many(&format!("RUN {}\\\n", "x".repeat(60_000)), 40),
        many(&format!("{}\\\n", "ONBUILD ".repeat(1000)), 200),
        many(&format!("COPY <<E /x {}\\\n", "${a:-".repeat(10_000)), 20),
        many("RUN true\n", 100_000),
        many("ENV A=$A$A B=$A\n", 10_000),
        many("RUN <<E\n$x\nE\n", 5000),
        (0..3000).map(|index| format!("FROM a AS s{index}\nCOPY --from=s0 a b\n")).collect(),
        (0..3000).map(|index| format!("FROM s{index} AS s{}\n", index + 1)).collect(),
        many("EXPOSE 1-65535\n", 100),
        format!("FROM a\nCMD {}", "[".repeat(60_000)),
        format!("FROM a\nCMD {}{}", "[{\"a\":".repeat(8000), "1}]".repeat(5000)),
        format!("FROM a\nRUN <<E\n{}", "x\n".repeat(100_000)),
        format!("FROM {}\n", "a/".repeat(30_000)),
        format!("FROM a\nENV A={}${{A//*a*b*c*d/x}}", "a".repeat(60_000)),
    ] {
        digest(source.as_bytes());
    }
}

#[test]
fn substitutions_in_each_other_are_refused_before_the_stack_ends() {
    for (open, close) in [("${a:-", "}"), ("${a/", "/x}"), ("\"${a+", "}\"")] {
        let deep = format!("FROM a\nENV a={}{}", open.repeat(9000), close.repeat(9000));
        digest(deep.as_bytes());
        assert!(Expander::new('\\').expand(&open.repeat(100_000), &Env::new()).is_err());
    }
}

#[test]
fn an_ignore_file_of_many_patterns_is_asked_soon() {
    let started = Instant::now();
    let file = "**/a*b*c/**\n!x/**/y\n".repeat(100);
    let matcher = Matcher::new(&dockerignore::parse(file.as_bytes())).unwrap();
    assert!(!matcher.is_ignored(&"x/".repeat(50)));
    assert!(started.elapsed() < SOON);
}
