//! Plugins that are installed on the node: programs that we start and that talk to us over their
//! standard input.
//!
//! The interface passes the number of an inherited descriptor in the environment. Others use 3; a
//! standard stream is the only descriptor that can be passed without forking, and 0 is as good a number.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::join::check_name;
use crate::error::{Context, Error, Kind, Result};

/// The largest configuration file that is passed on.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A plugin program, as it was found.
#[derive(Debug)]
pub(super) struct Preset {
    /// `10-topology`, as the file is called.
    pub(super) name: String,
    pub(super) config: String,
    program: PathBuf,
}

/// The plugins in `programs`, by their names. A file that is none is said and left alone.
pub(super) fn find(programs: &Path, configs: &Path) -> Vec<Preset> {
    let mut found = Vec::new();
    for entry in programs.read_dir().into_iter().flatten().flatten() {
        let is_program = std::fs::metadata(entry.path())
            .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
        if !is_program {
            continue;
        }
        match preset(&entry.path(), configs) {
            Ok(preset) => found.push(preset),
            Err(error) => {
                let file = entry.path();
                tracing::warn!(file = %file.display(), error = error.chain(), "not a plugin");
            }
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn preset(program: &Path, configs: &Path) -> Result<Preset> {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let Some((index, base)) = name.split_once('-') else {
        return Err(Error::invalid(format!("{name:?} is not INDEX-NAME")));
    };
    check_name(index, base)?;
    let mut magic = [0; 4];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_ok() && magic == *b"\0asm" {
        let text = "plugins in WebAssembly are not supported";
        return Err(Error::new(Kind::Unsupported, text));
    }
    let config = read_config(configs, &[&name, base])?;
    Ok(Preset { name, config, program: program.to_owned() })
}

/// The first that is there of `NAME.conf`.
fn read_config(configs: &Path, names: &[&str]) -> Result<String> {
    for name in names {
        let path = configs.join(format!("{name}.conf"));
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.with_context(|| format!("open {}", path.display()))?,
        };
        let mut text = String::new();
        let read = file.take(LARGEST_CONFIG + 1).read_to_string(&mut text);
        if read.with_context(|| format!("read {}", path.display()))? as u64 > LARGEST_CONFIG {
            return Err(Error::invalid(format!("{} is too large", path.display())));
        }
        return Ok(text);
    }
    Ok(String::new())
}

impl Preset {
    /// Starts the program. It is killed when the returned child is dropped.
    pub(super) fn start(&self) -> Result<(UnixStream, Child)> {
        let (ours, theirs) = UnixStream::pair().context("make a pair of sockets")?;
        let theirs = theirs.into_std().context("a plugin's socket")?;
        theirs.set_nonblocking(false).context("a plugin's socket")?;
        let (index, base) = self.name.split_once('-').unwrap_or_default();
        let child = Command::new(&self.program)
            .env_clear()
            .env("NRI_PLUGIN_IDX", index)
            .env("NRI_PLUGIN_NAME", base)
            .env("NRI_PLUGIN_SOCKET", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        Ok((ours, child))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn file(path: &Path, mode: u32, content: &[u8]) {
        let mut options = File::options();
        let mut file =
            options.write(true).create(true).truncate(true).mode(mode).open(path).unwrap();
        std::io::Write::write_all(&mut file, content).unwrap();
    }

    #[test]
    fn plugins_are_found_in_order_with_the_configuration_nearest_to_them() {
        let (programs, configs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["20-b", "10-a", "30-c"] {
            file(&programs.path().join(name), 0o755, b"#!/bin/sh\n");
        }
        file(&programs.path().join("40-no-program"), 0o644, b"");
        file(&programs.path().join("nonsense"), 0o755, b"#!/bin/sh\n");
        file(&programs.path().join("50-wasm"), 0o755, b"\0asm\x01\0\0\0");
        file(&configs.path().join("10-a.conf"), 0o644, b"mine");
        file(&configs.path().join("a.conf"), 0o644, b"of all");
        file(&configs.path().join("b.conf"), 0o644, b"of all b");

        let found = find(programs.path(), configs.path());

        let told: Vec<(&str, &str)> =
            found.iter().map(|it| (it.name.as_str(), it.config.as_str())).collect();
        assert_eq!(told, [("10-a", "mine"), ("20-b", "of all b"), ("30-c", "")]);
    }

    #[test]
    fn a_node_without_plugins_has_none() {
        assert!(find(Path::new("/nowhere"), Path::new("/nowhere")).is_empty());
    }
}
