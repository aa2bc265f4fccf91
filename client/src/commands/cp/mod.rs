//! `cp`, in both directions, with the rules of `cp -a`.

mod from_container;
mod to_container;

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;

use crate::client::Path;
use crate::error::{Context, Failure, Result};
use crate::http::Payload;
use crate::json::Value;
use crate::{Cais, output, units};

/// Copy files/folders between a container and the local filesystem
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// CONTAINER:PATH, a path, or '-' for an archive on standard input
    #[arg(value_name = "SRC_PATH")]
    pub(crate) source: String,
    /// CONTAINER:PATH, a path, or '-' for an archive on standard output
    #[arg(value_name = "DEST_PATH")]
    pub(crate) target: String,
}

impl Cp {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        match (inside(&self.source), inside(&self.target)) {
            (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")),
            (None, None) => Err(Failure::new("must specify at least one container source")),
            (Some((container, path)), None) => self.copy_out(cais, container, path),
            (None, Some((container, path))) => self.copy_in(cais, container, path),
        }
    }

    fn report(&self, bytes: u64, target: &str) {
        if !self.quiet && output::is_terminal() {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            output::notice(&format!(
                "Successfully copied {} to {target}",
                units::short_size(bytes)
            ));
        }
    }
}

/// Container and path of `CONTAINER:PATH`. A path here begins with `/` or `.`, or has no colon.
pub(crate) fn inside(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    text.split_once(':').filter(|(container, _)| !container.is_empty())
}

/// What the daemon says of a path in a container.
struct Stat {
    is_directory: bool,
    /// Where a symbolic link leads to.
    link: Option<String>,
}

/// Go's bits of a file's mode.
const DIRECTORY: i64 = 1 << 31;
const SYMLINK: i64 = 1 << 27;

/// Nothing for a path that is not there.
fn stat(cais: &Cais, container: &str, path: &str) -> Result<Option<Stat>> {
    let target = Path::new(&["containers", container, "archive"]).with("path", path);
    let reply = match cais.client.call("HEAD", target, Payload::None, Vec::new()) {
        Ok(reply) => reply,
        Err(failure) if failure.is_not_found() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let header = reply.header("x-docker-container-path-stat").unwrap_or_default();
    let decoded = BASE64.decode(header).context("the path's description")?;
    let stat = Value::parse(&decoded)?;
    let mode = stat["mode"].integer();
    let link = (mode & SYMLINK != 0).then(|| stat["linkTarget"].text().to_owned());
    Ok(Some(Stat { is_directory: mode & DIRECTORY != 0, link }))
}

/// The path without slashes at its end, its parent, and its last part. `.` and `/` have no name.
fn split(path: &str) -> (&str, &str) {
    let bare = path.trim_end_matches('/');
    match bare.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None if bare.is_empty() => ("/", ""),
        None => (".", bare),
    }
}

/// Whether the content is meant and not the directory itself: `a/.`.
fn means_content(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart() {
        assert_eq!(inside("web:/etc/x"), Some(("web", "/etc/x")));
        assert_eq!(inside("web:x:y"), Some(("web", "x:y")));
        for local in ["/a:b", "./a:b", "../a:b", "plain", "-", ":x"] {
            assert_eq!(inside(local), None, "{local}");
        }
        assert_eq!(split("/a/b/"), ("/a", "b"));
        assert_eq!(split("/a"), ("/", "a"));
        assert_eq!(split("a"), (".", "a"));
        assert_eq!(split("/"), ("/", ""));
    }
}
