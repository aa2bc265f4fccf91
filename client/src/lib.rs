//! The command line client of Cais. It speaks the Docker Engine API to a daemon's socket and is used as docker's client is.
//!
//! ```text
//!   cli        the tree of verbs and flags; what clap finds wrong, in docker's words
//!   commands   one file per family of verbs: its flags, its calls, its output
//!   compose    several containers from one file
//!   create     flags to the body of a container;  context: what a build is made from;  lending: what else it may ask for
//!   attached   a process of a container on this terminal
//!   template   Go's templates for --format;  table, progress, board, units: output
//!   packing    archives that are sent while they are made
//!   client     calls and refusals;  http: requests on a socket, without a runtime
//! ```
//! It names nothing of the daemon: what the two share is the interface on the socket.

mod attached;
mod board;
mod cli;
mod client;
mod commands;
mod compose;
mod config_file;
mod context;
mod create;
mod error;
mod host;
mod http;
mod json;
mod lending;
mod output;
mod packing;
mod program;
mod progress;
mod reference;
mod table;
mod template;
mod terminal;
mod units;

use std::ffi::OsString;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use self::attached::Keys;
use self::client::{Client, Headers};
use self::config_file::ConfigFile;
use self::error::{Failure, Result};
use self::program::Program;

/// Runs the program with these arguments, the name it was called by first.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::restore();
            if !failure.message.is_empty() {
                output::notice(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// What every verb has at hand.
#[derive(Debug, Clone)]
pub(crate) struct Cais {
    pub(crate) client: Client,
    pub(crate) program: Program,
    config_directory: Option<String>,
}

impl Cais {
    /// Read when a verb needs it: most do not.
    pub(crate) fn config(&self) -> Result<ConfigFile> {
        ConfigFile::load(self.config_directory.as_deref())
    }

    /// An empty configuration in the place of one that cannot be read, which is told: for what works without.
    pub(crate) fn config_or_none(&self) -> ConfigFile {
        self.config().unwrap_or_else(|failure| {
            output::notice(&failure.message);
            ConfigFile::empty(self.config_directory.as_deref())
        })
    }

    /// The detach keys of a flag, else of the configuration, else docker's.
    pub(crate) fn detach_keys(&self, flag: &str) -> Result<Keys> {
        let config = if flag.is_empty() {
            self.config()?.text("detachKeys").to_owned()
        } else {
            flag.to_owned()
        };
        if config.is_empty() {
            Ok(Keys::default())
        } else {
            Keys::parse(&config).map_err(Failure::new)
        }
    }

    /// Who one is, for the registry of this image.
    pub(crate) fn registry_auth(&self, image: &str) -> Result<Headers> {
        let server = reference::registry_of(image);
        let credentials = self.config()?.credentials(server)?;
        let json = credentials.map_or_else(|| serde_json::json!({}), |it| it.to_json(server));
        Ok(vec![("X-Registry-Auth", URL_SAFE.encode(json.to_string()))])
    }

    /// Who one is, for every registry that an image may be built from.
    pub(crate) fn registry_config(&self) -> Result<Headers> {
        let config = self.config()?;
        let mut known = serde_json::Map::new();
        for server in config.servers() {
            if let Some(credentials) = config.credentials(&server)? {
                known.insert(server.clone(), credentials.to_json(&server));
            }
        }
        let json = serde_json::Value::from(known);
        Ok(vec![("X-Registry-Config", URL_SAFE.encode(json.to_string()))])
    }
}
