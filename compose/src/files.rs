//! The only place where files are read.

use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// A file's text; `-` is standard input.
pub(crate) fn read(path: &str) -> Result<String> {
    let bytes = match path {
        "-" => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
        _ => std::fs::read(path),
    };
    let bytes = bytes.map_err(|error| Error::new(format!("open {path}: {}", reason(&error))))?;
    String::from_utf8(bytes).map_err(|_| Error::new(format!("{path}: is not UTF-8")))
}

/// The system's words without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_lowercase())
}

pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

pub(crate) fn is_file(path: &str) -> bool {
    Path::new(path).is_file()
}

pub(crate) fn is_directory(path: &str) -> bool {
    Path::new(path).is_dir()
}

/// Where a path leads when links in it are followed, as far as it exists.
pub(crate) fn followed(path: &str) -> String {
    // A relative one is part of a path that is not whole yet.
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut seen = 0;
    let mut whole = String::new();
    let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    while let Some(part) = rest.pop() {
        if part.is_empty() || part == "." {
            continue;
        }
        if part == ".." {
            whole.truncate(whole.rfind('/').unwrap_or(0));
            continue;
        }
        let next = format!("{whole}/{part}");
        match std::fs::read_link(&next) {
            Ok(link) if seen < 255 => {
                seen += 1;
                let link = link.to_string_lossy().into_owned();
                if link.starts_with('/') {
                    whole.clear();
                }
                rest.extend(link.split('/').rev().map(str::to_owned));
            }
            _ => whole = next,
        }
    }
    if whole.is_empty() { "/".to_owned() } else { whole }
}
