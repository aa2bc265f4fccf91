//! Imports point one way: down the layer table of ARCHITECTURE.md. The compiler cannot see that
//! inside one package; this test reads the sources.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each module may name of the crate. The longest prefix of a file's module decides.
const LAYERS: Layers = &[
    ("daemon", &["api", "config", "engine", "error", "store", "streaming"]),
    (
        "api",
        &[
            "builder",
            "cgroup",
            "config",
            "engine",
            "error",
            "executor::plan",
            "id",
            "image",
            "net",
            "sys::readiness",
            "sys::socket",
        ],
    ),
    ("builder", &["engine", "error", "id", "image"]),
    (
        "engine",
        &[
            "apparmor",
            "cgroup",
            "config",
            "dns",
            "error",
            "executor::plan",
            "id",
            "image",
            "monitor::client",
            "monitor::protocol",
            "monitor::spawn",
            "net",
            "nri",
            "seccomp",
            "store",
            "streaming::backend",
            "streaming::client",
            "streaming::monitors",
            "streaming::process",
            "streaming::stdio",
            "sys",
        ],
    ),
    (
        "streaming",
        &["dns", "error", "executor::plan", "id", "monitor::client", "monitor::protocol", "store"],
    ),
    ("dns", &["error", "id", "monitor::client", "monitor::protocol", "store"]),
    ("monitor::client", &["error", "executor::plan", "id", "sys"]),
    ("monitor::spawn", &["error", "sys"]),
    ("monitor::protocol", &["executor::failure", "executor::plan", "id"]),
    ("monitor", &["error", "executor", "id", "sys"]),
    ("executor::plan", &["id"]),
    ("executor", &["error", "id", "monitor::protocol", "sys"]),
    ("apparmor", &["error"]),
    ("seccomp", &["error", "executor::plan", "sys"]),
    ("cgroup", &["error", "sys"]),
    ("image", &["error", "id", "store", "sys"]),
    ("net", &["config", "engine::pod::config", "error", "id", "store", "sys"]),
    ("nri", &["config", "error"]),
    ("config", &["error"]),
    ("store", &["error", "id"]),
    ("sys", &[]),
    ("error", &[]),
    ("id", &["error"]),
];

/// The same for the client's crate. What its verbs share knows nothing of them.
const CLIENT_LAYERS: Layers = &[
    ("cli", &["Cais", "client", "commands", "compose", "error", "host", "output", "program"]),
    (
        "compose",
        &[
            "Cais",
            "attached",
            "board",
            "client",
            "commands",
            "context",
            "create",
            "error",
            "http",
            "json",
            "lending",
            "output",
            "progress",
            "reference",
            "table",
            "terminal",
            "units",
        ],
    ),
    (
        "commands",
        &[
            "Cais",
            "attached",
            "board",
            "client",
            "config_file",
            "context",
            "create",
            "error",
            "http",
            "json",
            "lending",
            "output",
            "packing",
            "program",
            "progress",
            "reference",
            "table",
            "terminal",
            "units",
        ],
    ),
    ("attached", &["client", "error", "http", "terminal"]),
    ("client", &["error", "host", "http", "json"]),
    ("http", &["error", "host"]),
    (
        "host",
        &[
            "config_file",
            "error",
            "http::Certificates",
            "http::Stream",
            "http::TlsStream",
            "program",
        ],
    ),
    ("config_file", &["error", "json"]),
    ("context", &["Cais", "client", "error", "http", "packing"]),
    ("lending", &["Cais", "client", "context", "create", "error", "http", "output"]),
    ("packing", &["error"]),
    ("create", &["error", "units"]),
    ("board", &["client", "error", "json", "progress", "terminal"]),
    ("progress", &["client", "error", "json", "terminal", "units"]),
    ("table", &["error", "json", "output", "template"]),
    ("template", &["json", "units"]),
    ("output", &["error"]),
    ("reference", &["config_file::HUB"]),
    ("error", &["output"]),
    ("json", &[]),
    ("program", &[]),
    ("terminal", &[]),
    ("units", &[]),
];

/// Inside `sys`, but for the daemon: it ties descriptors to the runtime, without unsafe code.
const FOR_THE_DAEMON: &str = "sys::readiness";

/// Modules in which the word does not occur: their code runs where tokio must not be.
const WITHOUT_TOKIO: &[&str] =
    &["monitor::server", "monitor::wire", "executor", "cgroup", "seccomp", "store", "sys"];

#[test]
fn imports_point_down_the_layer_table() {
    let faults = [faults("src", LAYERS), faults("client/src", CLIENT_LAYERS)].concat();
    assert!(faults.is_empty(), "imports that point upward:\n{}", faults.join("\n"));
}

fn faults(directory: &str, layers: Layers) -> Vec<String> {
    let mut faults = Vec::new();
    for Line { module, file, number, text } in lines(directory) {
        // The crate's root wires everything.
        let Some((own, allowed)) = layer(layers, &module) else { continue };
        for path in crate_paths(&text) {
            let is_below = |it: &str| path == it || path.starts_with(&format!("{it}::"));
            if !is_below(own) && !allowed.iter().any(|it| is_below(it)) {
                faults.push(format!("{}:{number}: {module} names crate::{path}", file.display()));
            }
        }
    }
    faults
}

/// What the client and the daemon share is the interface on the socket; and a client that starts a runtime starts late.
#[test]
fn the_client_and_the_daemon_are_strangers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = |manifest: &str| -> Vec<String> {
        let text = fs::read_to_string(root.join(manifest)).unwrap();
        let sections = text.split("\n[").filter(|it| it.starts_with("dependencies]"));
        let lines =
            sections.flat_map(|it| it.lines().skip(1)).filter_map(|it| it.split_once(" = "));
        lines.map(|(name, value)| format!("{name} {value}")).collect()
    };
    // What compose files and Dockerfiles say are crates of their own, and strangers to the daemon as well.
    let mut client = named("client/Cargo.toml");
    client.retain(|it| !it.starts_with("cais-compose ") && !it.starts_with("cais-dockerfile "));
    assert!(client.len() > 5, "{client:?}");
    client.extend(named("compose/Cargo.toml"));
    client.extend(named("dockerfile/Cargo.toml"));
    for barred in ["path =", "tokio ", "hyper ", "cais"] {
        let found: Vec<_> = client.iter().filter(|it| it.contains(barred)).collect();
        assert!(found.is_empty(), "the client depends on {found:?}");
    }
    let daemon = named("Cargo.toml");
    assert!(daemon.iter().all(|it| !it.starts_with("cais-client")), "{daemon:?}");
}

#[test]
fn the_monitor_and_what_it_runs_know_no_tokio() {
    let mut faults = Vec::new();
    for Line { module, file, number, text } in lines("src") {
        let is_barred =
            WITHOUT_TOKIO.iter().any(|it| module == *it || module.starts_with(&format!("{it}::")));
        if is_barred && module != FOR_THE_DAEMON && code(&text).contains("tokio") {
            faults.push(format!("{}:{number}: {}", file.display(), text.trim()));
        }
    }
    assert!(faults.is_empty(), "tokio where it must not be:\n{}", faults.join("\n"));
}

#[test]
fn every_module_of_the_sources_has_a_layer() {
    let mut without: Vec<_> = lines("src")
        .into_iter()
        .map(|line| line.module)
        .filter(|module| layer(LAYERS, module).is_none())
        .chain(
            lines("client/src")
                .into_iter()
                .map(|line| line.module)
                .filter(|module| layer(CLIENT_LAYERS, module).is_none()),
        )
        .filter(|module| !["lib", "main", "bin::monitor"].contains(&module.as_str()))
        .collect();
    without.dedup();
    assert!(without.is_empty(), "not in the table: {without:?}");
}

type Layers = &'static [(&'static str, &'static [&'static str])];

fn layer(layers: Layers, module: &str) -> Option<(&'static str, &'static [&'static str])> {
    layers
        .iter()
        .filter(|(name, _)| module == *name || module.starts_with(&format!("{name}::")))
        .max_by_key(|(name, _)| name.len())
        .copied()
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// `a::b::C` of each `crate::a::b::C` in a line of code.
fn crate_paths(line: &str) -> Vec<String> {
    let code = code(line);
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        // `pub(in crate::x)` names no dependency.
        .filter(|(at, _)| !code[..*at].ends_with("(in "))
        .map(|(at, found)| {
            code[at + found.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                .collect::<String>()
                .trim_end_matches(':')
                .to_owned()
        })
        .filter(|path| !path.is_empty())
        .collect()
}

struct Line {
    module: String,
    file: PathBuf,
    number: usize,
    text: String,
}

/// Every line outside test modules.
fn lines(directory: &str) -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut lines = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let relative = file.strip_prefix(&root).unwrap().with_extension("");
        let parts = relative.iter().filter_map(|part| part.to_str());
        let module = parts.filter(|part| *part != "mod").collect::<Vec<_>>().join("::");
        let outside_tests = source.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        lines.extend(outside_tests.enumerate().map(|(index, text)| Line {
            module: module.clone(),
            file: file.clone(),
            number: index + 1,
            text: text.to_owned(),
        }));
    }
    lines
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // Helpers that only tests compile.
        if path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testing") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
