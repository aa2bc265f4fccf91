//! The short form of a volume: `[SOURCE:]TARGET[:OPTIONS]`.

use crate::error::{Error, Result};
use crate::node::{Map, Node, Value};

#[derive(Debug, Default)]
pub(crate) struct Mount {
    source: String,
    pub(crate) target: String,
    read_only: bool,
    nocopy: bool,
    propagation: Option<String>,
    selinux: Option<String>,
    /// `/` or two letters are a target and nothing more.
    is_short: bool,
}

pub(crate) fn parse(text: &str) -> Result<Mount> {
    let failed = |what: &str| Error::new(format!("invalid spec: {text}: {what}"));
    if text.is_empty() {
        return Err(Error::new("invalid empty volume spec"));
    }
    if text.len() <= 2 {
        return Ok(Mount { target: text.to_owned(), is_short: true, ..Mount::default() });
    }
    let sections = sections(text);
    if sections.iter().any(|it| it.is_empty()) {
        return Err(failed("empty section between colons"));
    }
    let mut mount = Mount::default();
    match &sections[..] {
        [target] => mount.target.clone_from(target),
        [source, target] | [source, target, _] => {
            mount.source.clone_from(source);
            mount.target.clone_from(target);
        }
        _ => return Err(failed("too many colons")),
    }
    for option in sections.get(2).map(String::as_str).unwrap_or_default().split(',') {
        match option {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "nocopy" => mount.nocopy = true,
            "z" | "Z" => mount.selinux = Some(option.to_owned()),
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                mount.propagation = Some(option.to_owned());
            }
            _ => {}
        }
    }
    Ok(mount)
}

/// Split at colons, but for those in `${…}` and behind the letter of a drive.
fn sections(text: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    let mut depth = 0usize;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(section) = sections.last_mut() else { break };
        let drive = section.chars().count() == 1 && section.chars().all(char::is_alphabetic);
        match letter {
            '$' if letters.peek() == Some(&'{') => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ':' if depth == 0 && !drive => {
                sections.push(String::new());
                continue;
            }
            _ => {}
        }
        section.push(letter);
    }
    sections
}

impl Mount {
    pub(crate) fn into_map(self) -> Map {
        let is_bind = !self.is_short && is_path(&self.source);
        let mut map = Map::from([
            ("type".to_owned(), Node::text(if is_bind { "bind" } else { "volume" })),
            ("target".to_owned(), Node::text(clean(&self.target))),
        ]);
        if !self.source.is_empty() {
            map.insert("source".to_owned(), Node::text(self.source));
        }
        if self.read_only {
            map.insert("read_only".to_owned(), Value::Bool(true).into());
        }
        let mut bind = Map::new();
        if let Some(propagation) = self.propagation {
            bind.insert("propagation".to_owned(), Node::text(propagation));
        }
        if let Some(label) = self.selinux {
            bind.insert("selinux".to_owned(), Node::text(label));
        }
        if is_bind {
            bind.insert("create_host_path".to_owned(), Value::Bool(true).into());
        }
        if !bind.is_empty() {
            map.insert("bind".to_owned(), Value::Map(bind).into());
        }
        if self.nocopy || !is_bind && !self.is_short {
            let nocopy = self.nocopy.then(|| ("nocopy".to_owned(), Value::Bool(true).into()));
            map.insert("volume".to_owned(), Value::Map(nocopy.into_iter().collect()).into());
        }
        map
    }
}

fn is_path(source: &str) -> bool {
    let mut letters = source.chars();
    source.starts_with(['.', '/', '~'])
        || source.starts_with(r"\\")
        || letters.next().is_some_and(char::is_alphabetic) && letters.next() == Some(':')
}

/// A path without `.`, `..` and doubled slashes, as far as that can be said without looking at it.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|it| *it != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}
