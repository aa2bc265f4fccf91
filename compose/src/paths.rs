//! Relative paths in a model are relative to the directory of its project.

use crate::error::{Error, Result};
use crate::files;
use crate::mounts::clean;
use crate::node::{self, Node, Value};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Path,
    /// A directory, an address or `service:NAME`.
    Context,
    /// Followed when it is a link.
    Link,
    /// The source of a bind mount.
    Mount,
    /// The device of a volume that is a bind mount.
    Volume,
}

const PATHS: &[(&str, Kind)] = &[
    ("services.*.build.context", Kind::Context),
    ("services.*.build.additional_contexts.*", Kind::Context),
    ("services.*.build.ssh.*", Kind::Path),
    ("services.*.env_file.*.path", Kind::Path),
    ("services.*.label_file.*", Kind::Path),
    ("services.*.extends.file", Kind::Path),
    ("services.*.develop.watch.*.path", Kind::Link),
    ("services.*.volumes.*", Kind::Mount),
    ("configs.*.file", Kind::Path),
    ("secrets.*.file", Kind::Path),
    ("include.path", Kind::Path),
    ("include.project_directory", Kind::Path),
    ("include.env_file", Kind::Path),
    ("volumes.*", Kind::Volume),
];

/// Puts `base` before the relative paths below this node. `home` is where `~` is.
pub(crate) fn resolve(
    node: &mut Node,
    path: &mut Vec<String>,
    base: &str,
    home: Option<&str>,
) -> Result<()> {
    let Some((_, kind)) = PATHS.iter().find(|(pattern, _)| node::matches(path, pattern)) else {
        return node::each_child(node, path, |child, path| resolve(child, path, base, home));
    };
    let text = |node: &mut Node| {
        if let Value::Text(path) = &node.value {
            node.value = Value::Text(absolute(path, base, home));
        }
    };
    match kind {
        Kind::Path => text(node),
        Kind::Context => {
            let is_address = node.as_text().is_some_and(is_elsewhere);
            if !is_address {
                text(node);
            }
        }
        Kind::Link => {
            text(node);
            if let Some(path) = node.as_text() {
                node.value = Value::Text(files::followed(path));
            }
        }
        Kind::Mount => {
            let place = Node::new(Value::Null, &node.at);
            let is_bind = node.get("type").and_then(Node::as_text) == Some("bind");
            if let Some(map) = node.as_map_mut().filter(|_| is_bind) {
                let source = map.get_mut("source").ok_or_else(|| {
                    let message =
                        "invalid mount config for type \"bind\": field Source must not be empty";
                    Error::at(&place, path, message)
                })?;
                text(source);
            }
        }
        Kind::Volume => {
            let is_local = node.get("driver").and_then(Node::as_text) == Some("local");
            let options = node.as_map_mut().and_then(|it| it.get_mut("driver_opts")?.as_map_mut());
            if let Some(options) = options.filter(|_| is_local)
                && options.get("o").and_then(Node::as_text) == Some("bind")
                && let Some(device) = options.get_mut("device")
            {
                text(device);
            }
        }
    }
    Ok(())
}

fn is_elsewhere(context: &str) -> bool {
    const PREFIXES: &[&str] =
        &["service:", "https://", "http://", "git://", "ssh://", "github.com/", "git@"];
    context.contains("://") || PREFIXES.iter().any(|it| context.starts_with(it))
}

/// A path below a base, unless it is empty or begins at the root or at home.
pub(crate) fn absolute(path: &str, base: &str, home: Option<&str>) -> String {
    let expanded = match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => clean(&format!("{home}/{rest}")),
        _ => path.to_owned(),
    };
    if expanded.is_empty() || expanded.starts_with('/') || is_windows(&expanded) {
        return expanded;
    }
    join(base, &expanded)
}

/// Two paths as one, cleaned.
pub(crate) fn join(base: &str, path: &str) -> String {
    match base {
        "" => clean(path),
        _ => clean(&format!("{base}/{path}")),
    }
}

/// The directory that a path is in.
pub(crate) fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(0) => "/".to_owned(),
        Some(at) => clean(&path[..at]),
        None => ".".to_owned(),
    }
}

/// The way from one absolute directory to another.
pub(crate) fn relative(base: &str, path: &str) -> String {
    let split = |path: &str| {
        clean(path).split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (base, path) = (split(base), split(path));
    let same = base.iter().zip(&path).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", base.len() - same);
    let way: Vec<&str> = up.chain(path[same..].iter().map(String::as_str)).collect();
    if way.is_empty() { ".".to_owned() } else { way.join("/") }
}

/// `C:\…` and `\\server\…`, for a daemon elsewhere.
fn is_windows(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with(r"\\")
        || bytes.len() > 2
            && bytes[0].is_ascii_alphabetic()
            && bytes[1] == b':'
            && matches!(bytes[2], b'\\' | b'/')
}
