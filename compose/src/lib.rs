//! Compose files: from the files of a project to what its services are.
//!
//! ```text
//!   locate       which files, which name, which environment
//!   load         read, extend, include, merge; one model
//!     yaml  interpolate  dotenv  merge  unique  canonical (ports, mounts)  check  defaults  paths
//!   normalize    what the model implies
//!   decode       values in the types of the tables, keys/
//!   project      services by profile, what they need, hashes;  service_files  consistency
//!   print        YAML and JSON as docker compose writes them
//! ```
//! What a file may say and what becomes of it stands in the tables of `keys`; to add a key, begin there. Files are read in
//! one place, `files`. Nothing here knows of a daemon.
//!
//! The results are those of docker compose 2.40, byte for byte, hashes included: `hack/compose-config` compares.

mod canonical;
mod check;
mod consistency;
mod decode;
mod defaults;
mod dotenv;
mod error;
mod files;
mod interpolate;
mod keys;
mod load;
mod locate;
mod merge;
mod mounts;
mod node;
mod normalize;
mod paths;
mod ports;
mod print;
mod project;
mod scalar;
mod service_files;
#[cfg(test)]
mod tests;
mod unique;
mod units;
mod words;
mod yaml;

pub use self::dotenv::{Variables, variables_of};
pub use self::error::{Error, Result};
pub use self::locate::Options;
pub use self::node::{Map, Node, Position, Value};
pub use self::print::{Format, to_yaml};
pub use self::project::{API_SOCKET, Project, service_hash};
pub use self::words::split as words;
